//! Entrances for bytes that nobody vouches for: what reads the files of checkpoints and the frames between taskmanagers, with
//! the checksums that turn almost everything away made right first. For fuzzing. Whatever the bytes, each returns a result: none panics, and none takes
//! memory because of what the bytes announce.

use crate::checkpoint::{Manifest, StateReader};
use crate::cluster::data_plane;
use crate::error::{Error, Result};
use crate::operator::OperatorState;
use crate::task::{InFlight, NewSubtask, deal};
use std::ops::ControlFlow;
use tidegate_state::envelope::{Opener, open};
use tidegate_state::{InMemoryFiles, KeyGroupRange, SnapshotReader, codec, range_of};

/// Key groups of the snapshots read here.
const KEY_GROUPS: u16 = 128;

/// Reads a manifest: the bytes as a file, and as the JSON body of one.
///
/// # Errors
/// What is wrong with them as a body.
pub fn manifest(bytes: &[u8]) -> Result<()> {
    _ = Manifest::decode(bytes, "a file");
    Manifest::decode_body(bytes, "a body").map(|_| ())
}

/// Opens the envelope of a state file, whole and in pieces, as it is and with every CRC32 made right.
///
/// # Errors
/// What is wrong with it with its CRC32s made right.
pub fn state_file(bytes: &[u8]) -> Result<()> {
    let mut repaired = bytes.to_vec();
    let identity = repair(&mut repaired).unwrap_or_default();
    let kind = bytes.get(6).copied().unwrap_or_default();
    _ = open(bytes, kind, &identity);
    let mut opener = Opener::new(kind, &identity);
    for piece in repaired.chunks(7) {
        // What is handed on would be used up before the next piece comes.
        opener.write(piece, &mut Vec::new())?;
    }
    opener.finish().map(|_| ())
}

/// Puts the right CRC32 behind every part of an envelope, as far as its lengths make sense; returns its identity.
fn repair(file: &mut [u8]) -> Option<String> {
    let length = |file: &[u8], at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
    let put = |file: &mut [u8], at: usize, crc: u32| {
        file.get_mut(at..at + 4).map(|place| place.copy_from_slice(&crc.to_le_bytes()))
    };
    let identity_bytes = usize::from(u16::from_le_bytes([*file.get(8)?, *file.get(9)?]));
    let mut at = 10 + identity_bytes;
    let identity = String::from_utf8_lossy(file.get(10..at)?).into_owned();
    let header = crc32fast::hash(file.get(..at)?);
    put(file, at, header)?;
    at += 4;
    for number in 0u64.. {
        let end = match length(file, at) {
            Some(0) => at + 20,
            Some(_) => at + 8 + length(file, at + 4).unwrap_or(usize::MAX / 2),
            None => break,
        };
        let Some(part) = file.get(at..end) else { break };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header.to_le_bytes());
        if length(file, at) != Some(0) {
            crc.update(&number.to_le_bytes());
        }
        crc.update(part);
        let crc = crc.finalize();
        if put(file, end, crc).is_none() {
            break;
        }
        at = end + 4;
    }
    Some(identity)
}

/// Reads the body of a keyed file, row by row.
///
/// # Errors
/// What is wrong with it.
pub fn keyed_snapshot(bytes: &[u8]) -> Result<()> {
    let files = InMemoryFiles::new();
    let snapshot = files.insert(bytes.to_vec());
    let source = files.source(&snapshot, None);
    let reader = SnapshotReader::open(&source, KeyGroupRange::all(KEY_GROUPS), KEY_GROUPS)?;
    let names: Vec<String> = reader.states().map(|state| state.name.clone()).collect();
    for name in names {
        reader.size(&name)?;
        reader.visit(&name, &[], &mut |entry| {
            drop(entry);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(())
}

/// Reads the body of an operator file, element by element.
///
/// # Errors
/// What is wrong with it.
pub fn operator_state(bytes: &[u8]) -> Result<()> {
    let state: OperatorState = codec::decode(bytes).map_err(|e: Error| e.at("a body"))?;
    StateReader::check_lists(state)
}

/// Reads the body of a file of records in flight, record by record, and deals them out.
///
/// # Errors
/// What is wrong with it.
pub fn in_flight(bytes: &[u8]) -> Result<()> {
    let in_flight: InFlight = codec::decode(bytes).map_err(|e: Error| e.at("a body"))?;
    let key_groups = range_of(1, 3, KEY_GROUPS)?;
    let to = NewSubtask { index: 1, parallelism: 3, key_groups, max_parallelism: KEY_GROUPS };
    _ = deal(vec![in_flight.clone()], to);
    StateReader::check_in_flight(in_flight)
}

/// Reads what comes through a connection from another taskmanager, as it is and with every CRC32 made right, and decodes
/// the elements of channels.
///
/// # Errors
/// What is wrong with it with its CRC32s made right.
pub fn data_frames(bytes: &[u8]) -> Result<()> {
    _ = data_plane::read_all(bytes);
    let mut repaired = bytes.to_vec();
    data_plane::repair(&mut repaired);
    data_plane::read_all(&repaired)
}

/// What goes through a connection, in each of its two directions, with every kind of frame.
///
/// # Errors
/// None that is known.
pub fn examples_of_data_frames() -> Result<[Vec<u8>; 2]> {
    data_plane::examples()
}
