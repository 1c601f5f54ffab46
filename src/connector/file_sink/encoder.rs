//! How a record becomes bytes of a part.

use crate::error::{Error, Result};
use serde::Serialize;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Appends records to a buffer. Every writer has one of its own.
pub(super) trait Encoder<T> {
    fn encode(&mut self, value: &T, out: &mut Vec<u8>) -> Result<()>;
}

/// A function.
pub(super) struct Format<F>(pub(super) Arc<F>);

impl<T, F: Fn(&T, &mut Vec<u8>)> Encoder<T> for Format<F> {
    #[inline]
    fn encode(&mut self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        (self.0)(value, out);
        Ok(())
    }
}

/// Rows of comma-separated values.
pub(super) struct Csv {
    writer: csv::Writer<Shared>,
    row: Shared,
}

/// What the CSV writer writes into; it offers no other way to get at a row and go on.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Default for Csv {
    fn default() -> Self {
        let row = Shared::default();
        let writer = csv::WriterBuilder::new().has_headers(false).from_writer(row.clone());
        Self { writer, row }
    }
}

impl<T: Serialize> Encoder<T> for Csv {
    fn encode(&mut self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        self.writer.serialize(value).map_err(|e| {
            Error::data(format!("a record of type {} does not fit a CSV row", std::any::type_name::<T>()))
                .with_source(e)
                .hint("rows are flat and all of the same length; map such records, or use FileSink::with_format")
        })?;
        self.writer.flush()?;
        let mut row = self.row.0.borrow_mut();
        out.extend_from_slice(&row);
        row.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn rows_are_quoted_where_needed_and_come_at_once() {
        let (mut csv, mut out) = (Csv::default(), Vec::new());
        csv.encode(&("a,b", 1, 2.5), &mut out).unwrap();
        assert_eq!(out, b"\"a,b\",1,2.5\n");
        csv.encode(&("say \"x\"\n", -1, 0.0), &mut out).unwrap();
        assert_eq!(out, b"\"a,b\",1,2.5\n\"say \"\"x\"\"\n\",-1,0.0\n");
    }

    #[test]
    fn rows_of_another_length_are_refused() {
        let (mut csv, mut out) = (Csv::default(), Vec::new());
        csv.encode(&vec![1, 2], &mut out).unwrap();
        assert_eq!(csv.encode(&vec![1], &mut out).unwrap_err().kind(), ErrorKind::Data);
    }
}
