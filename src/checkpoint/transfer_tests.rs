//! Files of state on their way to the store and back: in parts, verified, within time limits, again if that may help.

use super::fault_store::{Fault, FaultRule, FaultStore, Operation};
use super::object_upload::PART_BYTES;
use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, JobId};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Duration;
use tidegate_state::envelope::{Compression, seal};

const PLACE: &str = "job/op/0/7/f";
const PATH: &str = "chk-7/f.keyed";

fn store(limit_ms: u64) -> (FaultStore, JobStore) {
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let root = CheckpointStore::over(Arc::new(faults.clone()), "", "memory://local");
    let root = root.with_call_timeout(Duration::from_millis(limit_ms));
    (faults, root.job(&JobId::from("job".to_owned())).unwrap())
}

/// A limit that no call of these tests exceeds unless it hangs.
const LONG_MS: u64 = 60_000;

fn file(body_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let body: Vec<u8> = (0..body_bytes).map(|at| (at % 251) as u8 ^ (at >> 16) as u8).collect();
    let file = seal(1, PLACE, Compression::None, &body).unwrap();
    (body, file)
}

async fn upload(store: &JobStore, file: &[u8]) -> Result<StateHandle> {
    let mut object = ObjectUpload::new(store, PATH.to_owned(), &UploadSlots::default());
    for piece in file.chunks(3 << 20) {
        object.buffer().extend_from_slice(piece);
        object.send_full().await?;
    }
    let (length, crc32) = object.finish().await?;
    Ok(StateHandle {
        kind: StateFileKind::Keyed,
        id: "f".into(),
        path: PATH.into(),
        length,
        crc32,
        checkpoint: CheckpointId(7),
        written_by: None,
    })
}

async fn read(store: &JobStore, handle: &StateHandle) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    store.read_file(handle, PLACE, ReadInto::Memory(&mut body)).await?;
    Ok(body)
}

fn count(faults: &FaultStore, operation: Operation) -> usize {
    faults.calls().iter().filter(|(o, _)| *o == operation).count()
}

fn inject(faults: &FaultStore, operation: Operation, skip: u64, times: u64, fault: Fault) {
    faults.inject(FaultRule { operation, path: String::new(), skip, times, fault });
}

#[tokio::test]
async fn small_files_go_up_at_once_and_large_ones_in_parts_and_both_come_back() {
    for (bytes, parts) in [(0, 0), (100, 0), (PART_BYTES - 200, 0), (PART_BYTES, 2), (3 * PART_BYTES, 4)] {
        let (faults, store) = store(LONG_MS);
        let (body, file) = file(bytes);
        let handle = upload(&store, &file).await.unwrap();
        assert_eq!((handle.length, handle.crc32), (file.len() as u64, crc32fast::hash(&file)));
        let begun = usize::from(parts > 0);
        assert_eq!(count(&faults, Operation::Part), begun + parts, "{bytes}");
        assert_eq!(faults.open_uploads(), 0);
        assert!(read(&store, &handle).await.unwrap() == body, "{bytes}");
        let dir = tempfile::tempdir().unwrap();
        let local = dir.path().join("copy");
        store.read_file(&handle, PLACE, ReadInto::Local(&local)).await.unwrap();
        assert!(std::fs::read(&local).unwrap() == body, "{bytes}");
    }
}

#[tokio::test]
async fn whatever_part_fails_no_part_is_left_and_there_is_no_file() {
    let (_, file) = file(3 * PART_BYTES);
    for (operation, skip) in
        [(Operation::Part, 1), (Operation::Part, 2), (Operation::Part, 4), (Operation::Put, 0)]
    {
        for fault in [Fault::FailBefore, Fault::Hang, Fault::Full] {
            let (faults, store) = store(if fault == Fault::Hang { 20 } else { LONG_MS });
            inject(&faults, operation, skip, 1, fault);
            let e = upload(&store, &file).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Retry);
            assert!(e.to_string().contains(PATH), "{e}");
            assert_eq!(faults.open_uploads(), 0, "{operation:?} {skip} {fault:?}");
            assert!(store.list("chk-7").await.unwrap().is_empty());
        }
    }
}

/// To begin an upload twice is no harm, and an upload whose last reply is lost has ended.
#[tokio::test]
async fn a_reply_that_is_lost_does_not_lose_the_file() {
    let (body, file) = file(2 * PART_BYTES);
    for (operation, fault) in [
        (Operation::Part, Fault::FailBefore),
        (Operation::Part, Fault::FailAfter),
        (Operation::Part, Fault::Hang),
        (Operation::Put, Fault::FailAfter),
    ] {
        let (faults, store) = store(if fault == Fault::Hang { 300 } else { LONG_MS });
        inject(&faults, operation, 0, 1, fault);
        let handle = upload(&store, &file).await.unwrap();
        assert!(read(&store, &handle).await.unwrap() == body, "{operation:?} {fault:?}");
        // One that began without our knowing is left to the store's own rule.
        let unknown = (operation, fault) == (Operation::Part, Fault::FailAfter);
        assert_eq!(
            (faults.injected(), faults.open_uploads()),
            (1, i64::from(unknown)),
            "{operation:?} {fault:?}"
        );
    }
    let (faults, store) = store(LONG_MS);
    inject(&faults, Operation::Part, 0, 1, Fault::Full);
    assert!(upload(&store, &file).await.is_err(), "a full disk takes a person");
}

#[tokio::test]
async fn a_full_part_goes_up_while_the_next_one_is_filled() {
    let (faults, store) = store(LONG_MS);
    // Behind the call that begins the upload.
    inject(&faults, Operation::Part, 1, 1, Fault::FailBefore);
    let mut object = ObjectUpload::new(&store, PATH.to_owned(), &UploadSlots::default());
    object.buffer().extend_from_slice(&vec![0; PART_BYTES + 1]);
    assert!(object.send_full().await.is_err(), "nobody has asked the store yet");
}

#[tokio::test]
async fn parts_under_way_are_bounded_for_all_files_together() {
    let (faults, store) = store(LONG_MS);
    let slots = UploadSlots::default();
    // One file takes every slot, and its parts do not come back.
    inject(&faults, Operation::Part, 1, 8, Fault::Hang);
    let mut first = ObjectUpload::new(&store, "chk-7/first".into(), &slots);
    first.buffer().resize(8 * PART_BYTES + 1, 7);
    first.send_full().await.unwrap();
    let mut second = ObjectUpload::new(&store, "chk-7/second".into(), &slots);
    second.buffer().resize(PART_BYTES + 1, 7);
    assert!(futures::FutureExt::now_or_never(second.send_full()).is_none());
    first.abort().await;
    second.abort().await;
    let mut third = ObjectUpload::new(&store, "chk-7/third".into(), &slots);
    third.buffer().resize(PART_BYTES + 1, 7);
    third.send_full().await.unwrap();
    third.finish().await.unwrap();
    assert_eq!(faults.open_uploads(), 0);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_the_rest_fails_at_once() {
    let (faults, store) = store(LONG_MS);
    let (_, small) = file(1000);
    let handle = upload(&store, &small).await.unwrap();
    for (fault, kind, reads) in [
        (Fault::FailBefore, ErrorKind::Retry, 3),
        (Fault::Full, ErrorKind::Retry, 1),
        (Fault::Denied, ErrorKind::Config, 1),
    ] {
        let before = count(&faults, Operation::Get);
        inject(&faults, Operation::Get, 0, 3, fault);
        let e = read(&store, &handle).await.unwrap_err();
        assert_eq!((e.kind(), count(&faults, Operation::Get) - before), (kind, reads), "{fault:?}: {e}");
        assert!(e.to_string().contains(PATH), "{e}");
        faults.heal();
    }
    inject(&faults, Operation::Get, 0, 2, Fault::FailBefore);
    assert!(read(&store, &handle).await.is_ok());
    // The first reply is lost: the second call finds the file that is its own.
    inject(&faults, Operation::Put, 0, 1, Fault::FailAfter);
    store.put_file("chk-7/other", "abc".into()).await.unwrap();
    assert_eq!(store.put_file("chk-7/other", "abd".into()).await.unwrap_err().kind(), ErrorKind::Bug);
}

/// Damage on the way is not damage in the store.
#[tokio::test]
async fn what_arrives_damaged_is_read_again_and_never_passes() {
    for bytes in [1_000, 2 * PART_BYTES] {
        let (body, file) = file(bytes);
        for fault in [Fault::Flip, Fault::Torn] {
            let (faults, store) = store(LONG_MS);
            let handle = upload(&store, &file).await.unwrap();
            inject(&faults, Operation::Get, 0, 1, fault);
            match read(&store, &handle).await {
                Ok(read) => assert!(read == body, "{bytes} {fault:?}"),
                Err(e) => panic!("{bytes} {fault:?}: {e}"),
            }
            inject(&faults, Operation::Get, 0, u64::MAX, fault);
            let e = read(&store, &handle).await.unwrap_err();
            assert!(e.kind() == ErrorKind::Data && e.to_string().contains(PATH), "{bytes} {fault:?}: {e}");
        }
    }
}

#[tokio::test]
async fn what_comes_too_late_may_have_happened() {
    let (faults, store) = store(200);
    inject(&faults, Operation::Put, 0, 1, Fault::Delay(Duration::from_millis(20)));
    store.put_file("chk-7/slow", "abc".into()).await.unwrap();
    inject(&faults, Operation::Put, 0, 1, Fault::Delay(Duration::from_secs(100)));
    store.put_file("chk-7/slower", "abc".into()).await.unwrap();
    assert_eq!(faults.injected(), 2);
    inject(&faults, Operation::Put, 0, 1, Fault::Delay(Duration::from_secs(100)));
    let e = store.create("epochs/epoch-1.record", "mine").await.unwrap_err();
    assert!(e.to_string().contains("no answer within 200 ms"), "{e}");
}

/// Whose an object is that was to be created only if absent is known by its nonce, which only the caller reads.
#[tokio::test]
async fn creating_what_must_be_absent_is_never_repeated() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let (faults, store) = store(LONG_MS);
        inject(&faults, Operation::Put, 0, 1, fault);
        let e = store.create("epochs/epoch-1.record", "mine").await.unwrap_err();
        assert_eq!((e.kind(), count(&faults, Operation::Put)), (ErrorKind::Retry, 1));
    }
}

/// A store that hangs holds nobody for ever: neither what reads, nor what writes, lists or deletes.
#[tokio::test]
async fn a_store_that_does_not_answer_is_an_error_that_may_pass() {
    let (faults, store) = store(10);
    let (_, small) = file(1000);
    let (_, large) = file(2 * PART_BYTES);
    let handle = upload(&store, &small).await.unwrap();
    let hang = || inject(&faults, Operation::Get, 0, u64::MAX, Fault::Hang);
    let refused = |e: Error| {
        assert_eq!(e.kind(), ErrorKind::Retry, "{e}");
        assert!(e.kind().is_recoverable() && e.to_string().contains("no answer within 10 ms"), "{e}");
    };
    hang();
    refused(read(&store, &handle).await.unwrap_err());
    refused(read(&store, &StateHandle { length: large.len() as u64, ..handle.clone() }).await.unwrap_err());
    refused(latest_completed(&store).await.unwrap_err());
    refused(store.get("status.json").await.unwrap_err());
    for operation in [Operation::Put, Operation::Part, Operation::List, Operation::Delete] {
        inject(&faults, operation, 0, u64::MAX, Fault::Hang);
    }
    refused(store.put_file("chk-7/x", "x".into()).await.unwrap_err());
    refused(upload(&store, &large).await.unwrap_err());
    refused(store.list("chk-7").await.unwrap_err());
    refused(store.list_top().await.unwrap_err());
    refused(store.take_back(&["chk-7/x".into()]).await.unwrap_err());
    let none = CrashPoints::none();
    refused(claim_leadership(&store, &none, "a").await.unwrap_err());
}

#[tokio::test]
async fn damage_is_found_whatever_the_size_and_names_the_file() {
    for bytes in [1000, 2 * PART_BYTES + 77] {
        let (faults, store) = store(LONG_MS);
        let (_, good) = file(bytes);
        let handle = upload(&store, &good).await.unwrap();
        let refused = async |what: &str, bad: Option<Vec<u8>>, handle: &StateHandle, place: &str| {
            store.take_back(&[PATH.to_owned()]).await.unwrap();
            if let Some(bad) = bad {
                store.damage(PATH, bad).await.unwrap();
            }
            let mut body = Vec::new();
            let e = store.read_file(handle, place, ReadInto::Memory(&mut body)).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Data, "{what}");
            assert!(e.to_string().starts_with("memory://local/job/chk-7/f.keyed: "), "{what}: {e}");
        };
        let half = good.len() / 2;
        let mut flipped = good.clone();
        flipped[half] ^= 4;
        refused("missing", None, &handle, PLACE).await;
        refused("empty", Some(Vec::new()), &handle, PLACE).await;
        refused("flipped", Some(flipped.clone()), &handle, PLACE).await;
        refused("cut", Some(good[..half].to_vec()), &handle, PLACE).await;
        refused("longer", Some([good.as_slice(), b"x"].concat()), &handle, PLACE).await;
        refused("elsewhere", Some(good.clone()), &handle, "job/op/1/7/f").await;
        let table = StateHandle { kind: StateFileKind::Table, ..handle.clone() };
        refused("another kind", Some(good.clone()), &table, PLACE).await;
        let other = StateHandle { crc32: handle.crc32 ^ 1, ..handle.clone() };
        refused("another file", Some(good.clone()), &other, PLACE).await;
        // The manifest has the damaged file's CRC32 and length: the blocks tell.
        let sealed = StateHandle { crc32: crc32fast::hash(&flipped), ..handle.clone() };
        refused("flipped before it was sent", Some(flipped), &sealed, PLACE).await;
        // Damaged on the way and right the second time.
        store.damage(PATH, good).await.unwrap();
        assert!(read(&store, &handle).await.is_ok());
        assert_eq!(faults.open_uploads(), 0);
    }
}
