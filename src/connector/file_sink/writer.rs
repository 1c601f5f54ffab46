//! Writes one subtask's parts where nobody looks.

use super::encoder::Encoder;
use super::layout::{Layout, sync_directory, write_failed};
use super::part::Part;
use crate::error::{Error, Result};
use crate::function::{SinkWriter, Timestamp};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes collected before the file is written to.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct FileWriter<T> {
    layout: Layout,
    max_part_bytes: u64,
    encoder: Box<dyn Encoder<T>>,
    buffer: Vec<u8>,
    open: Option<OpenPart>,
    /// Parts that are complete and durable, but for their directory entries.
    finished: Vec<Part>,
    next_number: u64,
    /// Whether a write has failed: what is in the open part is not known any more.
    broken: bool,
}

struct OpenPart {
    file: File,
    path: PathBuf,
    number: u64,
    length: u64,
    crc: crc32fast::Hasher,
}

impl<T> FileWriter<T> {
    pub(super) fn new(layout: Layout, max_part_bytes: u64, encoder: Box<dyn Encoder<T>>) -> Self {
        let buffer = Vec::with_capacity(BUFFER_BYTES + (BUFFER_BYTES >> 3));
        Self {
            layout,
            max_part_bytes,
            encoder,
            buffer,
            open: None,
            finished: Vec::new(),
            next_number: 0,
            broken: false,
        }
    }

    /// Writes out what is buffered, into a part opened if need be.
    fn flush(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::restart_job("an earlier write of this file sink has failed"));
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.broken = true;
        let mut part = match self.open.take() {
            Some(part) => part,
            None => self.open_part()?,
        };
        part.file.write_all(&self.buffer).map_err(|e| write_failed(&part.path, e))?;
        part.crc.update(&self.buffer);
        part.length += self.buffer.len() as u64;
        self.buffer.clear();
        self.open = Some(part);
        self.broken = false;
        Ok(())
    }

    /// Makes a file that nobody has used yet. Numbers that are taken, by an attempt that should not have had ours, are
    /// passed over rather than overwritten.
    fn open_part(&mut self) -> Result<OpenPart> {
        let directory = Path::new(self.layout.directory());
        loop {
            let number = self.next_number;
            self.next_number += 1;
            let path = directory.join(self.layout.staged(number));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    if !directory.join(self.layout.published(number)).exists() {
                        return Ok(OpenPart { file, path, number, length: 0, crc: crc32fast::Hasher::new() });
                    }
                    std::fs::remove_file(&path).map_err(|e| write_failed(&path, e))?;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    // Another subtask has ended and taken the empty staging directory along.
                    self.layout.create_directories()?;
                    self.next_number = number;
                }
                Err(e) => return Err(write_failed(&path, e)),
            }
        }
    }

    /// Completes the open part, if there is one, and makes its content durable.
    fn finish_part(&mut self) -> Result<()> {
        self.flush()?;
        let Some(part) = self.open.take() else { return Ok(()) };
        self.broken = true;
        part.file.sync_all().map_err(|e| write_failed(&part.path, e))?;
        self.broken = false;
        self.finished.push(Part {
            directory: self.layout.directory().to_owned(),
            staged: self.layout.staged(part.number),
            published: self.layout.published(part.number),
            length: part.length,
            crc32: part.crc.finalize(),
        });
        Ok(())
    }
}

impl<T> SinkWriter for FileWriter<T> {
    type Record = T;
    type Committable = Part;

    fn write(&mut self, value: T, _timestamp: Timestamp) -> Result<()> {
        self.encoder.encode(&value, &mut self.buffer)?;
        if self.buffer.len() < BUFFER_BYTES && self.max_part_bytes == u64::MAX {
            return Ok(());
        }
        let length = self.open.as_ref().map_or(0, |part| part.length) + self.buffer.len() as u64;
        if length >= self.max_part_bytes {
            self.finish_part()
        } else if self.buffer.len() >= BUFFER_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn prepare_commit(&mut self) -> Result<Vec<Part>> {
        self.finish_part()?;
        if !self.finished.is_empty() {
            sync_directory(&self.layout.staging_path())?;
        }
        Ok(std::mem::take(&mut self.finished))
    }
}

impl<T> Drop for FileWriter<T> {
    /// Removes what was never handed over: no checkpoint knows of it.
    fn drop(&mut self) {
        let open = self.open.iter().map(|part| part.path.clone());
        for path in open.chain(self.finished.iter().map(Part::staged_path)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::encoder::Format;
    use super::*;
    use crate::connector::test_context::context;
    use std::sync::Arc;

    #[test]
    fn a_full_disk_fails_the_write_and_everything_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), "txt", &context("job", 1, 0)).unwrap();
        let format = |value: &u8, out: &mut Vec<u8>| out.push(*value);
        let mut writer = FileWriter::<u8>::new(layout, u64::MAX, Box::new(Format(Arc::new(format))));
        writer.open = Some(OpenPart {
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            path: directory.path().join("staged"),
            number: 0,
            length: 0,
            crc: crc32fast::Hasher::new(),
        });
        writer.write(1, 0).unwrap();
        let e = writer.prepare_commit().unwrap_err();
        assert!(e.kind().is_recoverable() && e.to_string().contains("the disk is full"), "{e}");
        assert!(writer.prepare_commit().is_err(), "what was lost must not be passed over");
    }
}
