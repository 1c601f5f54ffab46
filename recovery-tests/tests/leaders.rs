//! Several leaders of one job at once, interleaved call by call on a store that fails, forgets to answer and lists what is
//! out of date; they are killed in the middle and clean up behind each other. After every single call of the store:
//!
//! - an entry of the commit log never changes, terms in it never fall, checkpoints in it rise, and each has one manifest;
//! - the newest entry's checkpoints are there, and so is every file that they name;
//! - a commit that was confirmed is in the log, in front of everything from later terms;
//! - a savepoint that was confirmed has its manifest and all its files;
//! - behind an entry that ends the job there is none, and a job that is said to have ended has such an entry.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use futures::executor::block_on;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tidegate::checkpoint::fault_store::{Fault, FaultStore, Operation};
use tidegate::checkpoint::{
    CheckpointKind, CheckpointStore, Commit, CrashPoints, Inherit, JobStore, Loaded, MANIFEST_FORMAT,
    Manifest, OperatorHandles, OperatorState, StateFileKind, StateHandle, StoreReply, StoreRequest, Sweep,
    TerminalRecord, TerminalStatus, claim_leadership, execute, manifest_path,
};
use tidegate::cluster::message::Failure;
use tidegate::error::ErrorKind;
use tidegate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, OperatorUid};

const LEADERS: usize = 3;
const RETAINED: usize = 2;
/// The checkpoint of another job that this one was restored from: it has this one file.
const RESTORED: u64 = 3;
const INHERITED_FILE: &str = "chk-3/theirs";

/// What a leader waits for.
enum Outcome {
    Started(Option<(LeaderEpoch, Loaded)>),
    Commit(Manifest, StoreReply),
    Sweep(StoreReply),
    Inherited(Manifest, StoreReply),
    Savepoint(Manifest, StoreReply),
    Ended(StoreReply),
}

/// One jobmanager: what it knows of the job, and what it is doing.
#[derive(Default)]
struct Leader {
    term: Option<LeaderEpoch>,
    record: u64,
    highest: u64,
    retained: Vec<Manifest>,
    /// Of unknown outcome: it is repeated unchanged.
    pending: Option<Manifest>,
    running: Option<BoxFuture<'static, Outcome>>,
}

fn job() -> JobId {
    JobId::from("wordcount-1".to_owned())
}

fn job_of(store: Arc<dyn ObjectStore>) -> JobStore {
    CheckpointStore::over(store, "", "memory://local").job(&job()).unwrap()
}

/// A checkpoint with one file of its own, and perhaps one of an earlier one.
fn manifest(id: u64, leader_epoch: LeaderEpoch, nonce: &str, shared: Option<StateHandle>) -> Manifest {
    let operator = OperatorUid("count".into());
    let file = StateHandle {
        kind: StateFileKind::Keyed,
        id: format!("count-0-{nonce}"),
        path: format!("chk-{id}/count-0-{nonce}"),
        length: 3,
        crc32: 0,
        checkpoint: CheckpointId(id),
        written_by: None,
    };
    let files = [file].into_iter().chain(shared).collect();
    Manifest {
        format: MANIFEST_FORMAT,
        job: job(),
        checkpoint: CheckpointId(id),
        leader_epoch,
        attempt: Attempt(1),
        nonce: nonce.into(),
        kind: CheckpointKind::Periodic,
        triggered_at_ms: 1,
        completed_at_ms: 2,
        operators: vec![OperatorState {
            uid: operator.clone(),
            name: "count".into(),
            parallelism: 1,
            max_parallelism: 128,
            subtasks: vec![OperatorHandles { operator, states: Vec::new(), files }],
        }],
        enumerators: Vec::new(),
        subtasks: Vec::new(),
        location: None,
    }
}

fn other_job() -> JobId {
    JobId::from("wordcount-0".to_owned())
}

/// What the job has when it has inherited the checkpoint of the other one.
fn inherited(id: u64, leader_epoch: LeaderEpoch, nonce: &str) -> Manifest {
    let mut manifest = manifest(id, leader_epoch, nonce, None);
    let file = &mut manifest.operators[0].subtasks[0].files[0];
    (file.path, file.checkpoint) = (INHERITED_FILE.to_owned(), CheckpointId(RESTORED));
    file.written_by = Some(other_job());
    manifest
}

struct World {
    faults: FaultStore,
    /// Through the faults.
    store: JobStore,
    /// Around them.
    truth: JobStore,
    leaders: Vec<Leader>,
    /// Every entry of the log that was ever there, by its number.
    log: BTreeMap<u64, (Vec<u8>, Entry)>,
    /// The manifest of each checkpoint in the log, by its nonce.
    nonces: BTreeMap<u64, String>,
    /// Those that were confirmed.
    savepoints: Vec<Manifest>,
    names: u64,
    confirmed: u64,
    seen: BTreeMap<&'static str, u64>,
}

/// The parts of an entry that matter here: term, checkpoint with its nonce, retained ones; whether the job has ended is
/// looked up in the bytes.
type Entry = (u64, Option<(u64, String)>, Vec<u64>);

fn ends(file: &[u8]) -> bool {
    String::from_utf8_lossy(file).contains("\"ended\"")
}

fn entry(file: &[u8]) -> Entry {
    let head = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let body: serde_json::Value = serde_json::from_slice(&file[head..]).unwrap();
    let checkpoint = &body["checkpoint"];
    let nonce = checkpoint["nonce"].as_str().map(str::to_owned);
    (
        body["leader_epoch"].as_u64().unwrap(),
        nonce.map(|nonce| (checkpoint["id"].as_u64().unwrap(), nonce)),
        body["retained"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect(),
    )
}

impl World {
    fn new() -> Self {
        let memory = Arc::new(InMemory::new());
        let faults = FaultStore::new(memory.clone());
        faults.give_way();
        let root = CheckpointStore::over(memory.clone(), "", "memory://local");
        let other = root.job(&other_job()).unwrap();
        block_on(other.put_file(INHERITED_FILE, "abc".into())).unwrap();
        Self {
            store: job_of(Arc::new(faults.clone())),
            truth: job_of(memory),
            faults,
            leaders: (0..LEADERS).map(|_| Leader::default()).collect(),
            log: BTreeMap::new(),
            nonces: BTreeMap::new(),
            savepoints: Vec::new(),
            names: 0,
            confirmed: 0,
            seen: BTreeMap::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    /// A process starts, if there is none: it claims a term and reads the log.
    fn start(&mut self, who: usize) {
        let (claim, load) = (self.name(), self.name());
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        if leader.term.is_some() || leader.running.is_some() {
            return;
        }
        leader.running = Some(Box::pin(async move {
            let none = CrashPoints::none();
            let Ok(leader_epoch) = claim_leadership(&store, &none, &claim).await else {
                return Outcome::Started(None);
            };
            match execute(
                &store,
                &none,
                StoreRequest::LoadLatest { leader_epoch, nonce: load, rescaled: None },
            )
            .await
            {
                StoreReply::Loaded(loaded) => Outcome::Started(Some((leader_epoch, *loaded))),
                _ => Outcome::Started(None),
            }
        }));
    }

    /// A leader stores a checkpoint that shares a file with the one before, or repeats one of unknown outcome.
    fn commit(&mut self, who: usize) {
        let name = self.name();
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        let (Some(term), None) = (leader.term, &leader.running) else { return };
        let is_new = leader.pending.is_none();
        let manifest = leader.pending.take().unwrap_or_else(|| {
            leader.highest += 1;
            let shared = leader.retained.last().and_then(|m| m.files().next().cloned());
            manifest(leader.highest, term, &name, shared)
        });
        let record = leader.record + 1;
        let kept = leader.retained.iter().rev().take(RETAINED - 1).rev().map(|m| m.checkpoint);
        let retained = kept.chain([manifest.checkpoint]).collect();
        let request = Commit { manifest: manifest.clone(), record, retained, rescaled: None };
        leader.running = Some(Box::pin(async move {
            if is_new {
                let path = &manifest.operators[0].subtasks[0].files[0].path;
                if let Err(e) = store.put_file(path, "abc".into()).await {
                    // Declined: this checkpoint is given up.
                    return Outcome::Commit(manifest, StoreReply::Refused(Failure::from(&e)));
                }
            }
            let request = StoreRequest::Commit(Box::new(request));
            Outcome::Commit(manifest, execute(&store, &CrashPoints::none(), request).await)
        }));
    }

    /// A leader of a job without checkpoints copies the files of the one that the job was restored from; the commit
    /// follows.
    fn inherit(&mut self, who: usize) {
        let name = self.name();
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        let (Some(term), None, None, true) =
            (leader.term, &leader.running, &leader.pending, leader.retained.is_empty())
        else {
            return;
        };
        leader.highest += 1;
        let manifest = inherited(leader.highest, term, &name);
        let request = StoreRequest::Inherit(Inherit {
            leader_epoch: term,
            from: format!("memory://local/{}", other_job()),
            paths: manifest.file_paths().map(str::to_owned).collect(),
        });
        leader.running = Some(Box::pin(async move {
            Outcome::Inherited(manifest, execute(&store, &CrashPoints::none(), request).await)
        }));
    }

    /// A leader completes a savepoint, all files of which are there, and takes back what it cannot complete.
    fn savepoint(&mut self, who: usize) {
        let name = self.name();
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        let (Some(leader_epoch), None, None) = (leader.term, &leader.running, &leader.pending) else {
            return;
        };
        leader.highest += 1;
        let (checkpoint, location) =
            (CheckpointId(leader.highest), format!("memory://local/savepoint-{name}"));
        let manifest = Manifest {
            kind: CheckpointKind::Savepoint,
            location: Some(location.clone()),
            ..manifest(leader.highest, leader_epoch, &name, None)
        };
        leader.running = Some(Box::pin(async move {
            let directory = store.for_base(&location, &[]).unwrap();
            let path = &manifest.operators[0].subtasks[0].files[0].path;
            if let Err(e) = directory.put_file(path, "abc".into()).await {
                return Outcome::Savepoint(manifest, StoreReply::Failed(Failure::from(&e)));
            }
            let none = CrashPoints::none();
            let request = StoreRequest::WriteSavepoint(Box::new(manifest.clone()));
            let reply = execute(&store, &none, request).await;
            if !matches!(reply, StoreReply::SavepointWritten) {
                let discard = StoreRequest::DiscardSavepoint { leader_epoch, checkpoint, location };
                execute(&store, &none, discard).await;
            }
            Outcome::Savepoint(manifest, reply)
        }));
    }

    /// A leader deletes what its newest checkpoints do not need.
    fn sweep(&mut self, who: usize) {
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        let (Some(leader_epoch), None, Some(newest)) =
            (leader.term, &leader.running, leader.retained.last().map(|m| m.checkpoint))
        else {
            return;
        };
        let request = StoreRequest::Sweep(Sweep {
            leader_epoch,
            newest,
            record: leader.record,
            keep: leader.retained.iter().map(|m| m.checkpoint).collect(),
            keep_files: leader.retained.iter().flat_map(|m| m.files().map(|f| f.path.clone())).collect(),
            release: None,
        });
        leader.running =
            Some(Box::pin(
                async move { Outcome::Sweep(execute(&store, &CrashPoints::none(), request).await) },
            ));
    }

    /// A leader ends the job.
    fn end_job(&mut self, who: usize) {
        let (leader, store) = (&mut self.leaders[who], self.store.clone());
        let (Some(leader_epoch), None) = (leader.term, &leader.running) else { return };
        let record = TerminalRecord {
            job: job(),
            leader_epoch,
            status: TerminalStatus::Canceled,
            failure: None,
            last_checkpoint: leader.retained.last().map(|m| m.checkpoint),
            savepoint: None,
            keeps_checkpoints: true,
        };
        let request = StoreRequest::WriteStatus(record);
        leader.running =
            Some(Box::pin(
                async move { Outcome::Ended(execute(&store, &CrashPoints::none(), request).await) },
            ));
    }

    fn has_ended(&self) -> bool {
        self.log.last_key_value().is_some_and(|(_, (file, _))| ends(file))
    }

    /// One call of the store at most; `false` if there is nothing to do.
    fn turn(&mut self, who: usize) -> bool {
        let Some(running) = &mut self.leaders[who].running else { return false };
        let polled = running.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.check();
        if let Poll::Ready(outcome) = polled {
            self.leaders[who].running = None;
            self.finish(who, outcome);
        }
        true
    }

    fn finish(&mut self, who: usize, outcome: Outcome) {
        let leader = &mut self.leaders[who];
        let what = match outcome {
            Outcome::Started(Some((term, loaded))) => {
                assert!(loaded.older.iter().all(|(_, m)| m.is_some()));
                let retained = loaded.older.into_iter().filter_map(|(_, m)| m).chain(loaded.latest);
                *leader = Leader {
                    term: Some(term),
                    record: loaded.record,
                    highest: loaded.highest.0.max(RESTORED),
                    retained: retained.collect(),
                    ..Leader::default()
                };
                "started"
            }
            Outcome::Started(None) => "not started",
            Outcome::Commit(manifest, StoreReply::Committed) => {
                leader.record += 1;
                let (id, nonce, term) =
                    (manifest.checkpoint.0, manifest.nonce.clone(), manifest.leader_epoch.0);
                leader.retained.push(manifest);
                let excess = leader.retained.len().saturating_sub(RETAINED);
                leader.retained.drain(..excess);
                let record = leader.record;
                assert_eq!(self.log[&record].1.1, Some((id, nonce)), "confirmed and not in the log");
                assert!(self.log.range(..record).all(|(_, (_, before))| before.0 <= term));
                self.confirmed = self.confirmed.max(id);
                "committed"
            }
            Outcome::Commit(_, StoreReply::Refused(_)) => "refused",
            Outcome::Commit(manifest, StoreReply::Failed(f)) if f.kind == ErrorKind::Retry => {
                leader.pending = Some(manifest);
                "unknown"
            }
            Outcome::Inherited(manifest, StoreReply::Inherited) => {
                leader.pending = Some(manifest);
                "inherited"
            }
            Outcome::Inherited(_, StoreReply::Failed(f)) if f.kind == ErrorKind::Retry => "not inherited",
            Outcome::Savepoint(manifest, StoreReply::SavepointWritten) => {
                self.savepoints.push(manifest);
                "savepoint"
            }
            Outcome::Savepoint(_, StoreReply::Refused(_)) => "no savepoint",
            Outcome::Savepoint(_, StoreReply::Failed(f)) if f.kind == ErrorKind::Retry => "no savepoint",
            Outcome::Sweep(StoreReply::Deleted(0)) => "nothing to delete",
            Outcome::Sweep(StoreReply::Deleted(_)) => "deleted",
            Outcome::Sweep(StoreReply::Failed(f)) if f.kind == ErrorKind::Retry => "not swept",
            Outcome::Ended(StoreReply::StatusWritten) => {
                *leader = Leader::default();
                assert!(self.has_ended());
                "ended"
            }
            Outcome::Ended(StoreReply::Failed(f)) if f.kind == ErrorKind::Retry => "not ended",
            Outcome::Commit(_, StoreReply::Failed(f))
            | Outcome::Sweep(StoreReply::Failed(f))
            | Outcome::Inherited(_, StoreReply::Failed(f))
            | Outcome::Savepoint(_, StoreReply::Failed(f))
            | Outcome::Ended(StoreReply::Failed(f)) => {
                // It stops, or starts from the log.
                *leader = Leader::default();
                if f.kind == ErrorKind::Fenced { "fenced" } else { "failed" }
            }
            Outcome::Commit(_, other)
            | Outcome::Sweep(other)
            | Outcome::Inherited(_, other)
            | Outcome::Savepoint(_, other)
            | Outcome::Ended(other) => panic!("{other:?}"),
        };
        self.note(what);
    }

    fn kill(&mut self, who: usize) {
        if self.leaders[who].running.is_some() {
            self.note("killed");
        }
        self.leaders[who] = Leader::default();
    }

    /// What has to hold at every moment.
    fn check(&mut self) {
        for path in block_on(self.truth.list("epochs")).unwrap() {
            let number =
                path.trim_start_matches("epochs/epoch-").trim_end_matches(".record").parse().unwrap();
            let file = block_on(self.truth.get(&path)).unwrap().unwrap();
            if let Some((first, _)) = self.log.get(&number) {
                assert_eq!(*first, file, "an entry has changed");
                continue;
            }
            assert_eq!(number, self.log.len() as u64 + 1, "the log has a gap");
            assert!(!self.has_ended(), "a job goes on that has ended");
            let entry = entry(&file);
            if let Some((_, (_, before))) = self.log.last_key_value() {
                assert!(before.0 <= entry.0, "terms {} and {}", before.0, entry.0);
                assert!(
                    before.1.as_ref().map(|c| c.0) <= entry.1.as_ref().map(|c| c.0),
                    "an older checkpoint"
                );
            }
            if let Some((id, nonce)) = &entry.1 {
                let first = self.nonces.entry(*id).or_insert_with(|| nonce.clone());
                assert_eq!(first, nonce, "two manifests of checkpoint {id}");
            }
            self.log.insert(number, (file.to_vec(), entry));
        }
        for savepoint in &self.savepoints {
            let location = savepoint.location.as_deref().unwrap_or_default();
            let directory = self.truth.for_base(location, &[]).unwrap();
            let mut paths = savepoint.file_paths().chain(["manifest.json"]);
            let gone = paths.find(|path| block_on(directory.get(path)).unwrap().is_none());
            assert_eq!(gone, None, "{location} was confirmed");
        }
        let status = block_on(self.truth.get("status.json")).unwrap();
        assert!(status.is_none() || self.has_ended(), "a job is said to have ended that goes on");
        let Some((_, (_, (_, newest, retained)))) = self.log.last_key_value() else { return };
        for id in retained {
            let path = manifest_path(CheckpointId(*id));
            let bytes = block_on(self.truth.get(&path)).unwrap();
            let manifest =
                Manifest::decode(&bytes.unwrap_or_else(|| panic!("{path} is gone")), &path).unwrap();
            if let Some((_, nonce)) = newest.as_ref().filter(|(newest, _)| newest == id) {
                assert_eq!(manifest.nonce, *nonce);
            }
            let gone = manifest.file_paths().find(|path| block_on(self.truth.get(path)).unwrap().is_none());
            assert_eq!(gone, None, "checkpoint {id} has lost a file");
        }
    }

    /// Everybody comes to an end; then somebody starts on a store that is well, and goes on from the newest checkpoint.
    fn end(&mut self) {
        self.faults.heal();
        for who in 0..LEADERS {
            while self.turn(who) {}
        }
        self.kill(0);
        self.start(0);
        while self.turn(0) {}
        if self.has_ended() {
            assert_eq!(self.leaders[0].term, None, "it goes on");
            return;
        }
        let leader = &self.leaders[0];
        let newest = leader.retained.last().map_or(0, |m| m.checkpoint.0);
        assert!(
            newest >= self.confirmed,
            "checkpoint {} was confirmed, {newest} is restored",
            self.confirmed
        );
        self.commit(0);
        while self.turn(0) {}
        assert!(self.confirmed > newest);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start(usize),
    Commit(usize),
    Sweep(usize),
    Inherit(usize),
    Savepoint(usize),
    End(usize),
    Kill(usize),
    Turns(usize, u8),
    Fail(Operation, &'static str, Fault),
    Stale(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..LEADERS;
    let operation = prop_oneof![
        1 => Just((Operation::Put, "leader/")),
        1 => Just((Operation::Put, "manifest.json")),
        1 => Just((Operation::Put, "count-0")),
        1 => Just((Operation::Copy, "")),
        3 => Just((Operation::Put, ".record")),
        1 => Just((Operation::Get, "")),
        1 => Just((Operation::Delete, "")),
        1 => Just((Operation::List, "")),
    ];
    let fault =
        prop_oneof![1 => Just(Fault::FailBefore), 2 => Just(Fault::FailAfter), 1 => Just(Fault::Conflict)];
    let other = prop_oneof![
        2 => who.clone().prop_map(Step::Start),
        14 => who.clone().prop_map(Step::Commit),
        7 => who.clone().prop_map(Step::Sweep),
        3 => who.clone().prop_map(Step::Inherit),
        4 => who.clone().prop_map(Step::Savepoint),
        1 => who.clone().prop_map(Step::Kill),
        20 => (who.clone(), prop_oneof![1 => 1u8..4, 1 => 1u8..40, 2 => Just(u8::MAX)]).prop_map(|(who, turns)| Step::Turns(who, turns)),
        3 => (operation, fault).prop_map(|((operation, path), fault)| Step::Fail(operation, path, fault)),
        2 => (0usize..8).prop_map(Step::Stale),
    ];
    prop_oneof![200 => other, 1 => who.prop_map(Step::End)]
}

#[test]
fn whatever_leaders_do_to_each_other_what_is_committed_stays_and_is_whole() {
    let seen = Cell::new(BTreeMap::new());
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop::collection::vec(step(), 1..200), |steps| {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Start(who) => world.start(who),
                Step::Commit(who) => world.commit(who),
                Step::Sweep(who) => world.sweep(who),
                Step::Inherit(who) => world.inherit(who),
                Step::Savepoint(who) => world.savepoint(who),
                Step::End(who) => world.end_job(who),
                Step::Kill(who) => world.kill(who),
                Step::Turns(who, turns) => _ = (0..turns).take_while(|_| world.turn(who)).count(),
                Step::Fail(operation, path, fault) => world.faults.fail_next(operation, path, fault),
                Step::Stale(count) => world.faults.stale_listings(count),
            }
        }
        world.end();
        let mut all: BTreeMap<&str, u64> = seen.take();
        world.seen.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
        seen.set(all);
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
    let seen = seen.take();
    for what in [
        "committed",
        "refused",
        "unknown",
        "fenced",
        "deleted",
        "killed",
        "not started",
        "not swept",
        "ended",
        "inherited",
        "not inherited",
        "savepoint",
        "no savepoint",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times > 0), "{what} is too seldom: {seen:?}");
    }
}

/// Every place at which a leader that commits and cleans up can be overtaken by one that starts and commits, and every place
/// at which that one can be held up in turn.
#[test]
fn a_leader_is_overtaken_at_every_call_and_overtakes_again() {
    assert!(overtake(World::commit) > 300);
}

/// The same of one that completes a savepoint.
#[test]
fn a_leader_that_takes_a_savepoint_is_overtaken_at_every_call() {
    assert!(overtake(World::savepoint) > 300);
}

/// The same of one that ends the job.
#[test]
fn a_leader_that_ends_the_job_is_overtaken_at_every_call() {
    assert!(overtake(World::end_job) > 100);
}

/// Returns how many pairs of places there are.
fn overtake(begin: fn(&mut World, usize)) -> u64 {
    let mut pairs = 0;
    for first in 0.. {
        let mut is_over = false;
        for second in 0.. {
            let mut world = World::new();
            let whole = |world: &mut World, who| while world.turn(who) {};
            world.start(0);
            whole(&mut world, 0);
            for _ in 0..RETAINED {
                world.commit(0);
                whole(&mut world, 0);
            }
            // The old leader: `first` calls of a commit, and of the cleaning up behind it.
            begin(&mut world, 0);
            let done = (0..first).take_while(|_| world.turn(0)).count();
            if world.leaders[0].running.is_none() {
                // Nothing, if it has ended the job.
                world.sweep(0);
                is_over = (done..first).take_while(|_| world.turn(0)).count() + done < first;
            }
            // The new one: `second` calls of start and commit, before the old one goes on.
            world.start(1);
            let done = (0..second).take_while(|_| world.turn(1)).count();
            world.commit(1);
            let done = (done..second).take_while(|_| world.turn(1)).count() + done;
            whole(&mut world, 0);
            whole(&mut world, 1);
            world.commit(1);
            whole(&mut world, 1);
            world.sweep(1);
            whole(&mut world, 1);
            world.end();
            pairs += 1;
            if done < second {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    pairs
}
