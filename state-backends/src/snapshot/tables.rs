//! The native snapshot of RocksDB: its table files as they are, and in front of them a file that describes them.
//!
//! That first file, the head, holds a keyed snapshot body (see [the parent](super)) of what has to be laid over the
//! table files: rows that live objects had not written yet, and rows that the table files have in a newer version than
//! the snapshot. Every value in it begins with a byte: 0 for "no such row" and nothing else, 1 for the value that
//! follows, 2 for what goes behind the value that the table files have. Behind that body come a description of the table files and a second trailer.
//!
//! **Description**:
//!
//! | content | form |
//! |---|---|
//! | first key group, key group behind the last | 2 x u16 |
//! | number of table files, which are the snapshot's files behind the head in this order | varint |
//! | per file: id, unique in whatever database the file is | text |
//! | ... name of the state | text |
//! | ... level of the LSM tree | u8 |
//! | ... bytes of the file | varint |
//! | ... first and last key, key group (u16, big endian) included | 2 x bytes |
//! | ... lowest and highest sequence number | 2 x varint |
//!
//! **Trailer**, the last 24 bytes:
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | offset of the description, which is the length of the body in front of it |
//! | 8 | 4 | length of the description |
//! | 12 | 4 | CRC32 (IEEE) of the description |
//! | 16 | 2 | version of this format, 1 |
//! | 18 | 2 | 0 |
//! | 20 | 4 | magic `TGRT` |

use std::path::Path;

use bytes::Bytes;

use super::entry::{take, take_text};
use super::file::{FileRange, SnapshotFile, SnapshotSource};
use super::reader::{take_u16, take_u64};
use super::{TRAILER_BYTES, VERSION};
use crate::codec::{put_bytes, put_varint, take_bytes, take_varint};
use crate::key_group::KeyGroupRange;
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"TGRT";

/// First byte of a value laid over the table files.
pub(crate) const NO_ROW: u8 = 0;
/// First byte of a value laid over the table files.
pub(crate) const ROW: u8 = 1;
/// First byte of a value laid over the table files.
pub(crate) const APPENDED: u8 = 2;

/// One table file of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableFile {
    pub(crate) state: String,
    pub(crate) bytes: u64,
    pub(crate) level: u8,
    /// The first and the last key.
    pub(crate) keys: (Vec<u8>, Vec<u8>),
    /// The lowest and the highest sequence number.
    pub(crate) sequence: (u64, u64),
}

/// A table file under the name it has in every database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedTable {
    pub(crate) id: String,
    pub(crate) table: TableFile,
}

/// Appends description and trailer to a head whose body has `offset` bytes.
pub(super) fn describe(range: KeyGroupRange, tables: &[NamedTable], offset: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
    put_varint(tables.len() as u64, &mut out);
    for NamedTable { id, table } in tables {
        put_bytes(id.as_bytes(), &mut out);
        put_bytes(table.state.as_bytes(), &mut out);
        out.push(table.level);
        put_varint(table.bytes, &mut out);
        put_bytes(&table.keys.0, &mut out);
        put_bytes(&table.keys.1, &mut out);
        put_varint(table.sequence.0, &mut out);
        put_varint(table.sequence.1, &mut out);
    }
    let crc = crc32fast::hash(&out);
    let length = u32::try_from(out.len())
        .map_err(|_| Error::data(format!("a description of table files of {} bytes", out.len())))?;
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC);
    Ok(out)
}

/// What the head of a native snapshot says.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) range: KeyGroupRange,
    pub(crate) tables: Vec<NamedTable>,
    body_length: u64,
}

impl Tables {
    /// The description in a snapshot; none if it is not one of table files.
    pub(crate) fn read(snapshot: &dyn SnapshotSource) -> Result<Option<Self>> {
        let Some(head) = snapshot.files().first() else { return Ok(None) };
        Self::read_head(snapshot).map_err(|e| e.at(&head.path))
    }

    fn read_head(snapshot: &dyn SnapshotSource) -> Result<Option<Self>> {
        let length = snapshot.body_length(0)?;
        let Some(end) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let damaged = || Error::data("the description of table files is damaged");
        let trailer = snapshot.read(&[(0, end..length)])?.pop().ok_or_else(damaged)?;
        let input = &mut &*trailer;
        let body_length = take_u64(input)?;
        let [description, crc] = [u32::from_le_bytes(take(input)?), u32::from_le_bytes(take(input)?)];
        let (version, zero) = (take_u16(input)?, take_u16(input)?);
        if *input != MAGIC {
            return Ok(None);
        }
        if version != VERSION || zero != 0 {
            return Err(Error::data(format!("table files in version {version}, this build reads {VERSION}"))
                .hint("read it with the release that wrote it"));
        }
        if body_length.checked_add(u64::from(description)) != Some(end) {
            return Err(damaged());
        }
        let description = snapshot.read(&[(0, body_length..end)])?.pop().ok_or_else(damaged)?;
        if crc32fast::hash(&description) != crc {
            return Err(damaged());
        }
        let mut read = Self::parse(&mut &*description)?;
        if read.tables.len() + 1 != snapshot.files().len() {
            return Err(Error::data(format!(
                "{} table files are described, the snapshot has {}",
                read.tables.len(),
                snapshot.files().len() - 1
            )));
        }
        read.body_length = body_length;
        Ok(Some(read))
    }

    fn parse(input: &mut &[u8]) -> Result<Self> {
        let range = KeyGroupRange { start: take_u16(input)?, end: take_u16(input)? };
        let mut tables = Vec::new();
        for _ in 0..take_varint(input)? {
            let (id, state) = (take_text(input)?, take_text(input)?);
            let [level] = take(input)?;
            let bytes = take_varint(input)?;
            let keys = (take_bytes(input)?.to_vec(), take_bytes(input)?.to_vec());
            let sequence = (take_varint(input)?, take_varint(input)?);
            let table = TableFile { state, bytes, level, keys, sequence };
            tables.push(NamedTable { id, table });
        }
        if input.is_empty() {
            Ok(Self { range, tables, body_length: 0 })
        } else {
            Err(Error::data("bytes are left over behind the description of table files"))
        }
    }

    /// The head without what describes the table files.
    pub(crate) fn body<'a>(&self, snapshot: &'a dyn SnapshotSource) -> impl SnapshotSource + 'a {
        Body { snapshot, length: self.body_length }
    }
}

/// The front of a file.
struct Body<'a> {
    snapshot: &'a dyn SnapshotSource,
    length: u64,
}

impl SnapshotSource for Body<'_> {
    fn files(&self) -> &[SnapshotFile] {
        self.snapshot.files().get(..1).unwrap_or_default()
    }

    fn body_length(&self, _: usize) -> Result<u64> {
        Ok(self.length)
    }

    fn read(&self, ranges: &[FileRange]) -> Result<Vec<Bytes>> {
        self.snapshot.read(ranges)
    }

    fn download(&self, _: &[(usize, &Path)]) -> Result<()> {
        Err(Error::bug("a part of a file is not downloaded"))
    }

    fn base(&self) -> Option<u64> {
        self.snapshot.base()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemoryFiles;

    fn table(number: u64) -> NamedTable {
        let table = TableFile {
            state: "s".into(),
            bytes: 1000 + number,
            level: 6,
            keys: (vec![0, 1], vec![0, 9, 7]),
            sequence: (3, 5),
        };
        NamedTable { id: format!("db-{number}"), table }
    }

    fn store(files: &InMemoryFiles, head: &[u8], tables: usize) -> std::sync::Arc<dyn SnapshotSource> {
        let mut snapshot = files.insert(head.to_vec());
        (0..tables).for_each(|n| snapshot.files.extend(files.insert(vec![n as u8]).files));
        files.source(&snapshot, None)
    }

    #[test]
    fn a_description_is_read_back_and_a_damaged_one_is_refused() {
        let (files, range) = (InMemoryFiles::new(), KeyGroupRange { start: 0, end: 16 });
        let tables = [table(1), table(2)];
        let mut head = b"body".to_vec();
        head.extend(describe(range, &tables, 4).unwrap());
        let source = store(&files, &head, 2);
        let read = Tables::read(&*source).unwrap().unwrap();
        assert_eq!((read.range, &read.tables[..]), (range, &tables[..]));
        assert_eq!(read.body(&*source).body_length(0).unwrap(), 4);
        let e = Tables::read(&*store(&files, &head, 1)).unwrap_err();
        assert!(e.to_string().contains("2 table files are described, the snapshot has 1"), "{e}");
        for at in 4..head.len() {
            let mut bad = head.clone();
            bad[at] ^= 0x10;
            // A damaged magic is for the next reader to refuse.
            let found = Tables::read(&*store(&files, &bad, 2));
            assert!(found.as_ref().is_ok_and(Option::is_none) == (at >= head.len() - 4), "byte {at}");
            assert!(at >= head.len() - 4 || found.is_err_and(|e| e.kind() == crate::ErrorKind::Data));
        }
        for length in 0..head.len() {
            let found = Tables::read(&*store(&files, &head[..length], 2));
            assert!(found.is_err() || found.is_ok_and(|found| found.is_none()), "cut to {length} bytes");
        }
    }
}
