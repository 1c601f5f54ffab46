//! Scenarios of a job's life. The store is a real one in memory; workers are scripted.

use super::*;
use crate::checkpoint::fault_store::{Fault, FaultRule, FaultStore, Operation};
use crate::checkpoint::{
    CheckpointConfig, CheckpointKind, CheckpointStore, CrashAction, CrashPoints, JobStore, Manifest,
    OperatorHandles, RestoreFrom, StateFileKind, StateHandle, SubtaskSnapshot, TerminalStatus,
    claim_leadership, execute, latest_completed, read_status,
};
use crate::cluster::RestartStrategyConfig;
use crate::graph::{Edge, OperatorInfo, Partitioning, Vertex};
use crate::id::{JobId, VertexId};
use futures::executor::block_on;
use object_store::memory::InMemory;
use std::sync::Arc;

/// Hands out numbers up to a limit.
struct Numbers {
    next: u8,
    limit: u8,
}

impl EnumeratorDriver for Numbers {
    fn next(&mut self, _: u32) -> Result<NextSplit> {
        if self.next == self.limit {
            return Ok(NextSplit::NoMore);
        }
        self.next += 1;
        Ok(NextSplit::Split(vec![self.next]))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(vec![self.next])
    }

    fn restore(&mut self, state: Option<&[u8]>, _: u32) -> Result<()> {
        self.next = state.and_then(|s| s.first().copied()).unwrap_or(0);
        Ok(())
    }
}

pub(super) fn uid(name: &str) -> OperatorUid {
    OperatorUid(name.into())
}

pub(super) fn numbers() -> BTreeMap<OperatorUid, Box<dyn EnumeratorDriver>> {
    let numbers: Box<dyn EnumeratorDriver> = Box::new(Numbers { next: 0, limit: 10 });
    [(uid("read"), numbers)].into()
}

pub(super) fn graph(parallelism: u32) -> JobGraph {
    let vertex = |id: u32, name: &str, kind| Vertex {
        id: VertexId(id),
        name: name.into(),
        parallelism,
        parallelism_is_explicit: false,
        slot_sharing_group: "default".into(),
        operators: vec![OperatorInfo {
            uid: uid(name),
            uid_is_explicit: true,
            name: name.into(),
            max_parallelism: 128,
            max_parallelism_is_explicit: false,
            kind,
            chained_after: None,
        }],
    };
    JobGraph {
        name: "job".into(),
        vertices: vec![vertex(0, "read", OperatorKind::Source), vertex(1, "count", OperatorKind::Keyed)],
        edges: vec![Edge {
            from: VertexId(0),
            operator: 0,
            side_output: None,
            to: VertexId(1),
            partitioning: Partitioning::Hash,
            input: None,
        }],
    }
}

pub(super) struct Cluster {
    pub(super) master: JobMaster,
    pub(super) store: JobStore,
    pub(super) faults: FaultStore,
    pub(super) now: u64,
    pub(super) crash: CrashPoints,
    /// Store requests are held back while this is set.
    pub(super) hold_store: bool,
    /// Only sweeps are.
    pub(super) hold_sweeps: bool,
    pub(super) held: Vec<(RequestId, StoreRequest)>,
    pub(super) sent: Vec<(WorkerId, ToWorker)>,
    pub(super) notices: Vec<JobNotice>,
    pub(super) abandoned: Vec<WorkerId>,
    pub(super) done: Option<JobResult>,
}

pub(super) const READ: [SubtaskId; 2] =
    [SubtaskId { vertex: VertexId(0), index: 0 }, SubtaskId { vertex: VertexId(0), index: 1 }];
pub(super) const COUNT: [SubtaskId; 2] =
    [SubtaskId { vertex: VertexId(1), index: 0 }, SubtaskId { vertex: VertexId(1), index: 1 }];

fn restarts() -> RestartStrategyConfig {
    RestartStrategyConfig::FixedDelay { attempts: 3, delay_ms: 1_000 }
}

impl Cluster {
    pub(super) fn new(change: impl FnOnce(&mut JobMasterConfig)) -> Self {
        let faults = FaultStore::new(Arc::new(InMemory::new()));
        Self::on(faults, 1, change)
    }

    pub(super) fn on(faults: FaultStore, term: u64, change: impl FnOnce(&mut JobMasterConfig)) -> Self {
        let job = JobId::from("job-1".to_owned());
        let store = CheckpointStore::over(Arc::new(faults.clone()), "", "memory://local").job(&job).unwrap();
        let epoch = block_on(claim_leadership(&store, &CrashPoints::none(), &format!("t{term}"))).unwrap();
        assert_eq!(epoch.0, term);
        let mut config = JobMasterConfig::new(job, epoch, graph(2));
        config.checkpoint = CheckpointConfig::every_ms(1_000);
        config.restart = restarts();
        config.seed = term;
        change(&mut config);
        let master = JobMaster::new(config, numbers()).unwrap();
        Self {
            master,
            store,
            faults,
            now: 0,
            crash: CrashPoints::none(),
            hold_store: false,
            hold_sweeps: false,
            held: Vec::new(),
            sent: Vec::new(),
            notices: Vec::new(),
            abandoned: Vec::new(),
            done: None,
        }
    }

    pub(super) fn event(&mut self, event: JobEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.master.handle(event, self.now) {
                match action {
                    JobAction::Send { worker, message } => self.sent.push((worker, message)),
                    JobAction::Store { request, body } => self.held.push((request, body)),
                    JobAction::Abandon { worker, .. } => self.abandoned.push(worker),
                    JobAction::Event(notice) => self.notices.push(notice),
                    JobAction::Done(result) => assert!(self.done.replace(result).is_none(), "done twice"),
                }
            }
            let free = |body: &StoreRequest| !(self.hold_sweeps && matches!(body, StoreRequest::Sweep(_)));
            let next = self.held.iter().position(|(_, body)| free(body));
            if let Some(next) = next.filter(|_| !self.hold_store) {
                let (request, body) = self.held.remove(next);
                let reply = block_on(execute(&self.store, &self.crash, body));
                events.push(JobEvent::Store { request, reply });
            }
        }
    }

    pub(super) fn release(&mut self) {
        self.hold_store = false;
        self.event(JobEvent::Tick);
    }

    pub(super) fn at(&mut self, now: u64) {
        assert!(now >= self.now);
        self.now = now;
        self.event(JobEvent::Tick);
    }

    pub(super) fn join(&mut self, worker: u32, slots: u32) {
        self.event(JobEvent::WorkerJoined { worker: WorkerId(worker), slots });
    }

    pub(super) fn says(&mut self, subtask: SubtaskId, event: SubtaskEvent) {
        let Placed { worker, attempt } = *self.master.placement.get(&subtask).unwrap();
        self.event(JobEvent::Worker(FromWorker { worker, attempt, subtask, event }));
    }

    fn subtasks(&self) -> Vec<SubtaskId> {
        self.master.placement.keys().copied().collect()
    }

    pub(super) fn all_say(&mut self, event: &SubtaskEvent) {
        for s in self.subtasks() {
            self.says(s, event.clone());
        }
    }

    pub(super) fn ack(&mut self, subtask: SubtaskId, checkpoint: u64) {
        let operator = uid(if subtask.vertex.0 == 0 { "read" } else { "count" });
        let path = format!("chk-{checkpoint}/{operator}-{}", subtask.index);
        let (length, crc32) = block_on(self.store.put_file(&path, "abc".into())).unwrap();
        let (id, at) = (path.clone(), CheckpointId(checkpoint));
        let file = StateHandle {
            kind: StateFileKind::Keyed,
            id,
            path,
            length,
            crc32,
            checkpoint: at,
            written_by: None,
        };
        let snapshot = SubtaskSnapshot {
            operators: vec![OperatorHandles { operator, states: Vec::new(), files: vec![file] }],
            ..SubtaskSnapshot::default()
        };
        self.says(subtask, SubtaskEvent::Acknowledge { checkpoint: CheckpointId(checkpoint), snapshot });
    }

    pub(super) fn checkpoint(&mut self, id: u64) {
        for s in self.subtasks() {
            self.ack(s, id);
        }
    }

    pub(super) fn running(mut self) -> Self {
        self.join(1, 1);
        self.join(2, 1);
        self.all_say(&SubtaskEvent::Ready);
        assert_eq!(self.master.status(), JobStatus::Running);
        self.sent.clear();
        self
    }

    pub(super) fn fail(&mut self, subtask: SubtaskId, kind: ErrorKind) {
        self.says(subtask, SubtaskEvent::Failed(Failure { kind, message: "boom".into() }));
    }

    pub(super) fn canceled_but(&mut self, subtask: SubtaskId) {
        for s in self.subtasks().into_iter().filter(|s| *s != subtask) {
            self.says(s, SubtaskEvent::Canceled);
        }
    }

    pub(super) fn count(&self, what: impl Fn(&ToWorker) -> bool) -> usize {
        self.sent.iter().filter(|(_, m)| what(m)).count()
    }

    pub(super) fn triggered(&self) -> Vec<(u64, CheckpointKind)> {
        let find = |n: &JobNotice| match n {
            JobNotice::CheckpointTriggered { checkpoint, kind } => Some((checkpoint.0, *kind)),
            _ => None,
        };
        self.notices.iter().filter_map(find).collect()
    }

    pub(super) fn restored(&self) -> Vec<u64> {
        let find = |n: &JobNotice| match n {
            JobNotice::Restored { checkpoint, .. } => Some(checkpoint.0),
            _ => None,
        };
        self.notices.iter().filter_map(find).collect()
    }

    pub(super) fn objects(&self, prefix: &str) -> Vec<String> {
        block_on(self.store.list(prefix)).unwrap()
    }

    pub(super) fn status_file(&self) -> Option<TerminalStatus> {
        block_on(read_status(&self.store)).unwrap().map(|r| r.status)
    }
}

#[test]
fn a_bounded_job_from_slots_to_finished() {
    let mut c = Cluster::new(|_| {});
    c.join(1, 1);
    assert_eq!(c.master.status(), JobStatus::Waiting);
    assert!(c.notices.contains(&JobNotice::WaitingForSlots { available: 1, needed: 2 }));
    c.join(2, 1);
    assert_eq!(c.master.status(), JobStatus::Deploying);
    // Subtask i of each vertex is in slot i.
    let placed: Vec<_> = c.master.placement.iter().map(|(s, placed)| (s.index, placed.worker.0)).collect();
    assert_eq!(placed, [(0, 1), (1, 2), (0, 1), (1, 2)]);
    assert_eq!(c.count(|m| matches!(m, ToWorker::Deploy { subtasks, .. } if subtasks.len() == 2)), 2);
    c.all_say(&SubtaskEvent::Ready);
    c.says(READ[0], SubtaskEvent::SplitRequest { operator: uid("read") });
    c.at(1_000);
    assert_eq!(
        c.count(|m| matches!(m, ToWorker::TriggerCheckpoint { subtask, .. } if READ.contains(subtask))),
        2
    );
    c.checkpoint(1);
    assert_eq!(c.count(|m| matches!(m, ToWorker::CheckpointCompleted { .. })), 2);
    let manifest = block_on(latest_completed(&c.store)).unwrap().unwrap();
    assert_eq!(manifest.enumerators[0].state, [1]);
    assert_eq!(manifest.state_bytes(), 12);
    c.all_say(&SubtaskEvent::Drained);
    assert_eq!(c.count(|m| matches!(m, ToWorker::Finish { .. })), 0);
    c.at(2_000);
    assert_eq!(c.triggered(), [(1, CheckpointKind::Periodic), (2, CheckpointKind::Final)]);
    c.checkpoint(2);
    assert_eq!(c.master.status(), JobStatus::Finishing);
    // Completion reaches each worker before the order to finish.
    let last: Vec<_> =
        c.sent.iter().rev().take(4).map(|(_, m)| matches!(m, ToWorker::Finish { .. })).collect();
    assert_eq!(last, [true, true, false, false]);
    assert_eq!(c.status_file(), None);
    c.all_say(&SubtaskEvent::Finished);
    assert_eq!(c.done, Some(JobResult::Finished));
    assert_eq!(c.status_file(), Some(TerminalStatus::Finished));
    assert_eq!(c.objects("chk-1").len() + c.objects("chk-2").len(), 0);
    assert_eq!(c.master.handle(JobEvent::Cancel, 9_999), []);
}

#[test]
fn a_job_without_interval_still_takes_the_final_checkpoint() {
    let mut c = Cluster::new(|c| c.checkpoint = CheckpointConfig::default()).running();
    c.at(1_000_000);
    assert_eq!(c.triggered(), []);
    c.all_say(&SubtaskEvent::Drained);
    assert_eq!(c.triggered(), [(1, CheckpointKind::Final)]);
}

/// Or a record would meet user code before a damaged file of another subtask is found.
#[test]
fn nothing_starts_before_every_subtask_has_its_state() {
    let mut c = Cluster::new(|_| {});
    c.join(1, 1);
    c.join(2, 1);
    let started = |c: &Cluster| c.count(|m| matches!(m, ToWorker::Start { .. }));
    for s in [READ[0], READ[1], COUNT[0]] {
        c.says(s, SubtaskEvent::Ready);
        assert_eq!((started(&c), c.master.status()), (0, JobStatus::Deploying));
    }
    c.at(5_000);
    assert_eq!(c.triggered(), []);
    c.says(COUNT[1], SubtaskEvent::Ready);
    assert_eq!((started(&c), c.master.status()), (2, JobStatus::Running));
    c.all_say(&SubtaskEvent::Drained);
    assert_eq!(c.triggered(), [(1, CheckpointKind::Final)]);
}

#[test]
fn a_failure_cancels_waits_pauses_and_restores_the_newest_checkpoint() {
    let mut c = Cluster::new(|_| {}).running();
    for _ in 0..3 {
        c.says(READ[0], SubtaskEvent::SplitRequest { operator: uid("read") });
    }
    c.at(1_000);
    c.says(READ[1], SubtaskEvent::SplitRequest { operator: uid("read") });
    c.checkpoint(1);
    c.at(1_500);
    c.fail(COUNT[0], ErrorKind::RestartJob);
    assert_eq!(c.master.status(), JobStatus::Restarting);
    assert_eq!(c.count(|m| matches!(m, ToWorker::Cancel { .. })), 2);
    assert!(
        c.notices.iter().any(|n| matches!(n, JobNotice::Failed { subtask, vertex, worker, .. }
        if *subtask == Some(COUNT[0]) && vertex.as_deref() == Some("count") && *worker == Some(WorkerId(1))))
    );
    c.at(3_000);
    assert_eq!(c.master.attempt(), Attempt(1), "others still run");
    c.canceled_but(COUNT[0]);
    assert_eq!(c.master.attempt(), Attempt(2));
    assert_eq!(c.restored(), [1]);
    let restores = c.sent.iter().filter_map(|(_, m)| match m {
        ToWorker::Deploy { attempt: Attempt(2), subtasks, .. } => Some(subtasks),
        _ => None,
    });
    let restore = restores.flatten().find(|s| s.subtask == COUNT[1]).unwrap().restore.clone().unwrap();
    assert_eq!(restore.operators[0].subtasks.len(), 2);
    // What the old attempt still says has no effect.
    c.event(JobEvent::Worker(FromWorker {
        worker: WorkerId(1),
        attempt: Attempt(1),
        subtask: COUNT[0],
        event: SubtaskEvent::Failed(Failure { kind: ErrorKind::Data, message: "late".into() }),
    }));
    assert_eq!((c.master.status(), c.master.counters().stale_attempt), (JobStatus::Deploying, 1));
    c.all_say(&SubtaskEvent::Ready);
    // The split handed out after the trigger is handed out again; those before are the readers'.
    c.sent.clear();
    c.says(READ[0], SubtaskEvent::SplitRequest { operator: uid("read") });
    assert!(matches!(&c.sent[0].1, ToWorker::AssignSplit { split: Some(s), .. } if s == &[4]));
    // Ids go on.
    c.at(9_000);
    assert_eq!(c.triggered().last(), Some(&(2, CheckpointKind::Periodic)));
}

#[test]
fn failures_by_table() {
    // Kind of failure, restart strategy, whether the job ends.
    for (kind, restart, ends) in [
        (ErrorKind::RestartJob, restarts(), false),
        (ErrorKind::Retry, restarts(), false),
        (ErrorKind::Config, restarts(), true),
        (ErrorKind::Data, restarts(), true),
        (ErrorKind::Bug, restarts(), true),
        (ErrorKind::RestartTask, RestartStrategyConfig::None, true),
    ] {
        let mut c = Cluster::new(|c| c.restart = restart).running();
        c.at(1_000);
        c.checkpoint(1);
        c.fail(READ[0], kind);
        c.canceled_but(READ[0]);
        c.at(10_000);
        assert_eq!(c.done.is_some(), ends, "{kind}");
        if ends {
            assert!(matches!(&c.done, Some(JobResult::Failed(f)) if f.message == "boom"));
            assert_eq!(c.status_file(), Some(TerminalStatus::Failed));
            assert!(!c.objects("chk-1").is_empty(), "checkpoints of a failed job are kept");
        } else {
            assert_eq!(c.restored(), [1]);
        }
    }
}

#[test]
fn a_lost_worker_is_a_failure_and_its_slots_are_missed() {
    let mut c = Cluster::new(|_| {}).running();
    c.event(JobEvent::WorkerLost { worker: WorkerId(2), why: "connection closed".into() });
    assert_eq!(c.count(|m| matches!(m, ToWorker::Cancel { .. })), 1);
    c.says(READ[0], SubtaskEvent::Canceled);
    c.says(COUNT[0], SubtaskEvent::Canceled);
    c.at(60_000);
    assert_eq!((c.master.status(), c.master.attempt()), (JobStatus::Waiting, Attempt(1)));
    c.join(3, 1);
    assert_eq!((c.master.status(), c.master.attempt()), (JobStatus::Deploying, Attempt(2)));
    // A worker without subtasks may come and go.
    c.join(4, 1);
    c.event(JobEvent::WorkerLost { worker: WorkerId(4), why: "stopped".into() });
    assert_eq!(c.master.status(), JobStatus::Deploying);
}

#[test]
fn fixed_slots_that_do_not_suffice_are_an_error_that_says_so() {
    let mut c = Cluster::new(|c| c.fixed_slots = true);
    c.join(1, 1);
    assert_eq!(c.done, None);
    c.at(0);
    let Some(JobResult::Failed(f)) = &c.done else { panic!("{:?}", c.done) };
    assert_eq!(f.kind, ErrorKind::Config);
    assert!(f.message.contains("needs 2 slots and there are 1"), "{}", f.message);
}

#[test]
fn a_worker_that_does_not_stop_is_abandoned() {
    let mut c = Cluster::new(|c| c.cancel_timeout_ms = 5_000).running();
    c.fail(READ[0], ErrorKind::RestartJob);
    c.says(COUNT[0], SubtaskEvent::Canceled);
    assert_eq!(c.master.next_deadline_ms(), Some(5_000));
    c.at(5_000);
    assert_eq!(c.abandoned, [WorkerId(2)]);
    let said = "warning: taskmanager 2 is given up: not stopped within 5000 ms: subtask 2 of 2 of 'read', \
                subtask 2 of 2 of 'count'";
    assert!(c.notices.iter().any(|n| n.to_string() == said), "{:?}", c.notices);
    c.join(3, 1);
    assert_eq!(c.master.attempt(), Attempt(2));
}

#[test]
fn cancelling_works_in_every_state() {
    type Prepare = fn(&mut Cluster);
    let states: [(&str, Prepare); 5] = [
        ("waiting", |_| {}),
        ("loading", |c| {
            c.hold_store = true;
            c.join(1, 2);
        }),
        ("deploying", |c| c.join(1, 2)),
        ("running", |c| {
            c.join(1, 2);
            c.all_say(&SubtaskEvent::Ready);
        }),
        ("pausing", |c| {
            c.join(1, 2);
            c.fail(READ[0], ErrorKind::RestartJob);
            c.canceled_but(READ[0]);
        }),
    ];
    for (name, prepare) in states {
        let mut c = Cluster::new(|_| {});
        prepare(&mut c);
        c.event(JobEvent::Cancel);
        if matches!(name, "deploying" | "running") {
            assert_eq!(c.master.status(), JobStatus::Canceling, "{name}");
            c.all_say(&SubtaskEvent::Canceled);
        }
        for _ in 0..3 {
            c.release();
        }
        assert_eq!(c.done, Some(JobResult::Canceled), "{name}");
        assert_eq!(c.status_file(), Some(TerminalStatus::Canceled), "{name}");
    }
}

#[test]
fn a_commit_under_way_when_the_job_fails_is_found_by_the_restart() {
    let mut c = Cluster::new(|_| {}).running();
    c.at(1_000);
    c.hold_store = true;
    c.checkpoint(1);
    let commit = c.held.pop().unwrap();
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    // It lands before the restart reads: the restart starts from it.
    let reply = block_on(execute(&c.store, &CrashPoints::none(), commit.1));
    c.event(JobEvent::Store { request: commit.0, reply });
    assert_eq!(c.master.counters().stale_reply, 1);
    c.hold_store = false;
    c.at(2_000);
    assert_eq!(c.restored(), [1]);
    // It lands after: it does not count any more, not even for a later restart.
    c.all_say(&SubtaskEvent::Ready);
    c.at(3_000);
    c.hold_store = true;
    c.checkpoint(2);
    let late = c.held.pop().unwrap();
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    c.hold_store = false;
    c.at(5_000);
    let reply = block_on(execute(&c.store, &CrashPoints::none(), late.1));
    assert!(matches!(&reply, StoreReply::Failed(f) if f.kind == ErrorKind::RestartJob));
    c.all_say(&SubtaskEvent::Ready);
    c.event(JobEvent::Store { request: late.0, reply });
    assert_eq!((c.restored(), c.done.clone()), (vec![1, 1], None));
    assert_eq!((c.master.status(), c.master.counters().stale_reply), (JobStatus::Running, 2));
    c.at(6_000);
    c.checkpoint(3);
    assert_eq!(c.master.last_checkpoint(), Some(CheckpointId(3)));
}

#[test]
fn a_new_leader_goes_on_and_the_old_one_is_fenced() {
    let mut old = Cluster::new(|_| {}).running();
    old.at(1_000);
    old.checkpoint(1);
    let mut new = Cluster::on(old.faults.clone(), 2, |_| {}).running();
    assert_eq!(new.restored(), [1]);
    old.at(2_000);
    old.sent.clear();
    old.checkpoint(2);
    assert!(matches!(old.done, Some(JobResult::Fenced(_))), "{:?}", old.done);
    assert_eq!(old.count(|m| matches!(m, ToWorker::CheckpointCompleted { .. })), 0);
    assert_eq!(old.status_file(), None);
    // Its leftovers do not harm the new leader, which goes on above them.
    new.at(1_000);
    new.checkpoint(2);
    new.at(2_000);
    new.checkpoint(3);
    assert_eq!(new.master.last_checkpoint(), Some(CheckpointId(3)));
}

#[test]
fn a_final_checkpoint_that_fails_is_tried_again_or_restarts_the_job() {
    for (tolerable, restarts) in [(1, false), (0, true)] {
        let mut c = Cluster::new(|c| c.checkpoint.tolerable_failures = tolerable).running();
        c.all_say(&SubtaskEvent::Drained);
        let reason = Failure { kind: ErrorKind::RestartJob, message: "disk full".into() };
        c.says(COUNT[0], SubtaskEvent::Decline { checkpoint: CheckpointId(1), reason });
        assert_eq!(c.master.status() == JobStatus::Restarting, restarts);
        if !restarts {
            assert_eq!(c.count(|m| matches!(m, ToWorker::CheckpointAborted { .. })), 2);
            c.at(1_000);
            c.checkpoint(2);
            assert_eq!(c.master.status(), JobStatus::Finishing);
        }
    }
}

#[test]
fn a_failure_after_the_final_checkpoint_restores_it() {
    let mut c = Cluster::new(|_| {}).running();
    c.all_say(&SubtaskEvent::Drained);
    c.checkpoint(1);
    c.says(READ[0], SubtaskEvent::Finished);
    c.fail(COUNT[0], ErrorKind::RestartJob);
    for s in [READ[1], COUNT[1]] {
        c.says(s, SubtaskEvent::Canceled);
    }
    c.at(1_000);
    assert_eq!(c.restored(), [1]);
    c.all_say(&SubtaskEvent::Ready);
    c.all_say(&SubtaskEvent::Drained);
    c.checkpoint(2);
    c.all_say(&SubtaskEvent::Finished);
    assert_eq!(c.done, Some(JobResult::Finished));
}

fn checkpoint_of_another_job() -> Manifest {
    let mut other = Cluster::new(|_| {}).running();
    other.at(1_000);
    other.checkpoint(1);
    block_on(latest_completed(&other.store)).unwrap().unwrap()
}

#[test]
fn starts_from_a_named_checkpoint_unless_the_job_has_its_own() {
    let mut manifest = checkpoint_of_another_job();
    manifest.checkpoint = CheckpointId(70);
    let from = RestoreFrom { manifest, base: "/elsewhere/job-0".into(), shares_store: false };
    let mut c = Cluster::new(|c| c.restore = Some(from)).running();
    assert!(
        c.notices
            .contains(&JobNotice::Restored { checkpoint: CheckpointId(70), base: "/elsewhere/job-0".into() })
    );
    c.at(1_000);
    assert_eq!(c.triggered(), [(71, CheckpointKind::Periodic)]);
    c.checkpoint(71);
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    c.at(5_000);
    assert_eq!(c.restored(), [70, 71]);
}

#[test]
fn a_checkpoint_whose_files_cannot_be_copied_is_not_inherited_and_the_job_goes_on() {
    let manifest = checkpoint_of_another_job();
    let from = RestoreFrom { manifest, base: "/elsewhere/job-0".into(), shares_store: true };
    let mut c = Cluster::new(|c| c.restore = Some(from)).running();
    let trouble = |notice: &&JobNotice| matches!(notice, JobNotice::StoreTrouble { .. });
    assert!(c.notices.iter().any(|n| trouble(&n)), "{:?}", c.notices);
    c.at(1_000);
    // The number that it would have had is not used for anything else.
    assert_eq!(c.triggered(), [(3, CheckpointKind::Periodic)]);
    c.checkpoint(3);
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    c.at(5_000);
    assert_eq!(c.restored(), [1, 3]);
}

#[test]
fn old_checkpoints_go_and_a_failing_cleanup_stops_nothing() {
    let mut c = Cluster::new(|_| {}).running();
    let rule = FaultRule {
        operation: Operation::Delete,
        path: String::new(),
        skip: 0,
        times: u64::MAX,
        fault: Fault::FailBefore,
    };
    c.faults.inject(rule);
    for n in 1..=3 {
        c.at(n * 1_000);
        c.checkpoint(n);
    }
    assert!(!c.objects("chk-1").is_empty());
    c.faults.heal();
    c.at(4_000);
    c.checkpoint(4);
    assert_eq!((1..=3).map(|n| c.objects(&format!("chk-{n}")).len()).sum::<usize>(), 0);
    assert_eq!(c.objects("chk-4").len(), 5);
}

#[test]
fn graphs_that_cannot_run_are_refused() {
    let make = |change: fn(&mut JobGraph)| {
        let mut g = graph(2);
        change(&mut g);
        let config = JobMasterConfig::new(JobId::from("j".to_owned()), crate::id::LeaderEpoch(1), g);
        JobMaster::new(config, numbers()).map(|_| ())
    };
    make(|_| {}).unwrap();
    type Change = fn(&mut JobGraph);
    let cases: [(Change, &str); 4] = [
        (|g| g.vertices.clear(), "no operators"),
        (|g| g.vertices[1].parallelism = 0, "parallelism 0"),
        (|g| g.vertices[1].parallelism = 129, "at most 128"),
        (|g| g.vertices[1].operators[0].uid = uid("read"), "uid read"),
    ];
    for (change, says) in cases {
        let e = make(change).unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.to_string().contains(says), "{e}");
    }
}

/// Every jobmanager crash point but those of savepoints and claims, which have tests of their own, killed at its first
/// visit: the next leader brings the job to its end, and no confirmed checkpoint is lost.
#[test]
fn a_jobmanager_killed_at_any_point_is_succeeded() {
    let points = crate::checkpoint::CRASH_POINTS.iter().take_while(|p| **p != "barrier.first");
    // Of messages the shell takes care.
    let elsewhere = |p: &str| {
        let parts = [
            "savepoint.",
            "stop.",
            "claim.",
            "inherit.",
            "trigger.",
            "ack.k",
            "notify.",
            "abort.",
            "restart.",
        ];
        parts.iter().any(|part| p.starts_with(part))
    };
    let points = points.filter(|p| !elsewhere(p));
    let mut tested = 0;
    for point in points {
        let crash = CrashPoints::armable();
        let mut first = Cluster::new(|_| {});
        first.crash = crash.clone();
        if point.starts_with("leader.") {
            crash.arm(point, 1, CrashAction::Kill).unwrap();
            assert!(block_on(claim_leadership(&first.store, &crash, "again")).is_err());
        } else {
            // The first checkpoint is confirmed, then the point is armed.
            if !point.starts_with("recover.") {
                first = first.running();
                first.at(1_000);
                first.checkpoint(1);
            }
            crash.arm(point, 1, CrashAction::Kill).unwrap();
            if first.master.status() == JobStatus::Waiting {
                first.join(1, 2);
            } else {
                first.at(2_000);
                first.checkpoint(2);
                first.all_say(&SubtaskEvent::Drained);
                first.at(3_000);
                if first.master.status() == JobStatus::Running {
                    first.checkpoint(3);
                    first.all_say(&SubtaskEvent::Finished);
                }
            }
        }
        assert_eq!(crash.killed().as_deref(), Some(*point), "never reached");
        tested += 1;
        let confirmed = first.master.last_checkpoint();
        // After the terminal record there is nothing left to do but clean up.
        if first.status_file().is_some() {
            continue;
        }
        let term = 2 + u64::from(*point == "leader.epoch_written");
        let mut next = Cluster::on(first.faults.clone(), term, |_| {}).running();
        assert!(next.restored().first().copied() >= confirmed.map(|c| c.0), "{point}");
        next.at(1_000);
        let (id, _) = *next.triggered().last().unwrap();
        next.checkpoint(id);
        next.all_say(&SubtaskEvent::Drained);
        next.at(2_000);
        let (id, kind) = *next.triggered().last().unwrap();
        if kind == CheckpointKind::Final {
            next.checkpoint(id);
        }
        // A name the dead leader burnt costs one checkpoint, not the job.
        if next.master.status() == JobStatus::Running {
            next.at(5_000);
            let (id, _) = *next.triggered().last().unwrap();
            next.checkpoint(id);
        }
        next.all_say(&SubtaskEvent::Finished);
        assert_eq!(next.done, Some(JobResult::Finished), "{point}");
    }
    assert!(tested >= 15, "{tested}");
}
