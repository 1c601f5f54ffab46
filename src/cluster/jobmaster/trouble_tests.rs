//! What others do wrong: enumerators that fail, messages from the wrong place, a store that loses, damages or dawdles.

use super::tests::{Cluster, READ, uid};
use super::*;
use crate::checkpoint::fault_store::{Fault, FaultRule, Operation};
use crate::checkpoint::{CrashPoints, StoreRequest, claim_leadership};
use crate::cluster::RestartStrategyConfig;
use futures::executor::block_on;

/// An enumerator that cannot list for a while, as when a file server restarts.
struct Away(u32, ErrorKind);

impl EnumeratorDriver for Away {
    fn next(&mut self, _: u32) -> Result<NextSplit> {
        Ok(NextSplit::NoMore)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: Option<&[u8]>, _: u32) -> Result<()> {
        self.0 = self.0.saturating_sub(1);
        if self.0 > 0 { Err(Error::new(self.1, "cannot list")) } else { Ok(()) }
    }
}

#[test]
fn an_enumerator_that_fails_to_start_is_a_matter_for_the_restart_strategy() {
    let start = |kind| {
        let mut c = Cluster::new(|_| {});
        let away: Box<dyn EnumeratorDriver> = Box::new(Away(3, kind));
        c.master.enumerators = [(uid("read"), away)].into();
        c.join(1, 2);
        while c.master.status() == JobStatus::Restarting {
            let next = c.master.next_deadline_ms().unwrap();
            c.at(next);
        }
        c
    };
    let c = start(ErrorKind::RestartJob);
    assert_eq!((c.master.status(), c.now), (JobStatus::Deploying, 2_000), "two failures, a second apart");
    let c = start(ErrorKind::Config);
    let failure = failure_of(&c);
    assert_eq!(failure.message, "enumerator of source 'read': cannot list");
}

fn failure_of(c: &Cluster) -> Failure {
    match &c.done {
        Some(JobResult::Failed(failure)) => failure.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_another_worker_says_about_a_subtask_has_no_effect() {
    let mut c = Cluster::new(|_| {}).running();
    let (attempt, subtask) = (c.master.attempt(), READ[0]);
    let right = c.master.placement.get(&subtask).unwrap().worker;
    let wrong = WorkerId(3 - right.0);
    let failure = Failure { kind: ErrorKind::Config, message: "not mine".into() };
    for event in [SubtaskEvent::Failed(failure), SubtaskEvent::Canceled, SubtaskEvent::Finished] {
        c.event(JobEvent::Worker(FromWorker { worker: wrong, attempt, subtask, event }));
    }
    assert_eq!((c.master.status(), c.master.counters().wrong_worker), (JobStatus::Running, 3));
    // Nor has what the right one says about a subtask that has ended.
    c.fail(subtask, ErrorKind::RestartJob);
    c.says(subtask, SubtaskEvent::Canceled);
    assert_eq!(c.master.counters().wrong_worker, 4);
}

/// An empty answer of the store is not an empty job.
#[test]
fn completed_checkpoints_that_have_vanished_fail_the_job_instead_of_starting_it_afresh() {
    let mut c = Cluster::new(|_| {}).running();
    c.at(1_000);
    c.checkpoint(1);
    block_on(c.store.take_back(&c.objects("epochs"))).unwrap();
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    c.at(5_000);
    let failure = failure_of(&c);
    assert_eq!(failure.kind, ErrorKind::Data);
    assert!(failure.message.contains("completed checkpoint 1 has vanished"), "{}", failure.message);
}

/// The end of the commit log is gone, and an older checkpoint is the last one there.
#[test]
fn a_log_that_has_lost_its_end_does_not_take_the_job_back() {
    for lost in [1, 2] {
        let mut c = Cluster::new(|c| c.checkpoint.retained = 3).running();
        for n in 1..=3 {
            c.at(n * 1_000);
            c.checkpoint(n);
        }
        let records = c.objects("epochs");
        block_on(c.store.take_back(&records[records.len() - lost..])).unwrap();
        c.fail(READ[0], ErrorKind::RestartJob);
        c.canceled_but(READ[0]);
        c.at(9_000);
        let failure = failure_of(&c);
        assert_eq!((failure.kind, c.restored()), (ErrorKind::Data, Vec::new()));
        let says = format!("checkpoint 3 has vanished from the store: the newest is {}", 3 - lost);
        assert!(failure.message.contains(&says), "{}", failure.message);
    }
}

#[test]
fn damage_is_read_a_second_time_and_no_third() {
    let restart = |damaged_reads: u32| {
        let mut c = Cluster::new(|_| {}).running();
        c.at(1_000);
        c.checkpoint(1);
        c.fail(READ[0], ErrorKind::RestartJob);
        c.hold_store = true;
        c.canceled_but(READ[0]);
        c.at(5_000);
        for _ in 0..damaged_reads {
            let (request, _) = c.held.remove(0);
            let failure = Failure { kind: ErrorKind::Data, message: "checksum".into() };
            c.event(JobEvent::Store { request, reply: StoreReply::Failed(failure) });
            if let Some(next) = c.master.next_deadline_ms() {
                c.at(next);
            }
        }
        c.release();
        c
    };
    assert_eq!(restart(1).restored(), [1]);
    let c = restart(2);
    assert_eq!((c.restored(), failure_of(&c).kind), (Vec::new(), ErrorKind::Data));
}

#[test]
fn a_store_that_is_slow_to_delete_is_asked_once_at_a_time() {
    let mut c = Cluster::new(|_| {}).running();
    c.hold_sweeps = true;
    for n in 1..=4 {
        c.at(n * 1_000);
        c.checkpoint(n);
    }
    assert!(matches!(c.held.as_slice(), [(_, StoreRequest::Sweep(_))]), "{:?}", c.held);
    c.hold_sweeps = false;
    c.at(5_000);
    c.checkpoint(5);
    assert_eq!((1..=4).map(|n| c.objects(&format!("chk-{n}")).len()).sum::<usize>(), 0);
    assert_eq!(c.master.status(), JobStatus::Running);
}

/// An enumerator that has a split only at the third question.
struct Later(u32);

impl EnumeratorDriver for Later {
    fn next(&mut self, _: u32) -> Result<NextSplit> {
        self.0 += 1;
        Ok(if self.0 < 3 { NextSplit::Wait } else { NextSplit::Split(vec![7]) })
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: Option<&[u8]>, _: u32) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_to_wait_for_a_split_is_not_forgotten() {
    let mut c = Cluster::new(|_| {});
    let later: Box<dyn EnumeratorDriver> = Box::new(Later(0));
    c.master.enumerators = [(uid("read"), later)].into();
    let mut c = c.running();
    c.says(READ[0], SubtaskEvent::SplitRequest { operator: uid("read") });
    let assigned = |c: &Cluster| c.sent.iter().any(|(_, m)| matches!(m, ToWorker::AssignSplit { .. }));
    c.at(SPLIT_RETRY_MS);
    assert!(!assigned(&c));
    assert_eq!(c.master.next_deadline_ms(), Some(2 * SPLIT_RETRY_MS));
    c.at(2 * SPLIT_RETRY_MS);
    assert!(assigned(&c), "{:?}", c.sent);
}

/// A jobmanager that was frozen for so long that another one took over wakes up without taskmanagers: they are with the
/// other one. It must not wait for them for ever.
#[test]
fn a_job_without_slots_finds_out_that_another_leads_it() {
    let mut c = Cluster::new(|_| {});
    c.at(60_000);
    assert_eq!((c.master.status(), &c.done), (JobStatus::Waiting, &None));
    block_on(claim_leadership(&c.store, &CrashPoints::none(), "another")).unwrap();
    c.at(c.master.next_deadline_ms().unwrap());
    assert!(matches!(c.done, Some(JobResult::Fenced(_))), "{:?}", c.done);
}

#[test]
fn an_unreadable_newest_checkpoint_fails_the_job_with_the_name_of_the_file() {
    let mut c = Cluster::new(|_| {}).running();
    c.at(1_000);
    c.checkpoint(1);
    block_on(c.store.damage("chk-1/manifest.json", b"garbage\n".to_vec())).unwrap();
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    for t in [2_000, 3_000, 4_000] {
        c.at(t);
    }
    let Some(JobResult::Failed(f)) = &c.done else { panic!("{:?}", c.done) };
    assert_eq!(f.kind, ErrorKind::Data);
    assert!(f.message.contains("job-1/chk-1/manifest.json"), "{}", f.message);
}

#[test]
fn a_store_that_is_away_delays_a_restart_and_does_not_end_the_job() {
    let mut c = Cluster::new(|c| c.restart = RestartStrategyConfig::default()).running();
    c.at(1_000);
    c.checkpoint(1);
    c.fail(READ[0], ErrorKind::RestartJob);
    c.canceled_but(READ[0]);
    let rule = |operation| FaultRule {
        operation,
        path: String::new(),
        skip: 0,
        times: u64::MAX,
        fault: Fault::FailBefore,
    };
    c.faults.inject(rule(Operation::List));
    c.faults.inject(rule(Operation::Get));
    while c.now < 3_600_000 {
        let next = c.master.next_deadline_ms().unwrap();
        c.at(next.max(c.now));
        assert_eq!(c.done, None);
    }
    c.faults.heal();
    let next = c.master.next_deadline_ms().unwrap();
    c.at(next);
    c.at(next + 60_000);
    assert_eq!(c.restored(), [1]);
}

#[test]
fn a_commit_the_store_does_not_confirm_is_repeated_while_the_job_runs() {
    let mut c = Cluster::new(|c| c.checkpoint.tolerable_failures = 0).running();
    c.at(1_000);
    let always = FaultRule {
        operation: Operation::Put,
        path: "record".into(),
        skip: 0,
        times: u64::MAX,
        fault: Fault::FailBefore,
    };
    c.faults.inject(always);
    c.checkpoint(1);
    while c.now < 3_600_000 {
        let next = c.master.next_deadline_ms().unwrap();
        c.at(next);
    }
    assert_eq!((c.master.status(), c.triggered().len()), (JobStatus::Running, 1));
    assert!(c.notices.iter().any(|n| matches!(n, JobNotice::CheckpointStalled { .. })));
    let alarms = c.notices.iter().filter(|n| n.is_trouble()).count();
    assert_eq!(alarms, 1, "an hour of failures is said once: {:?}", c.notices);
    c.faults.heal();
    let healed = c.now;
    while c.master.last_checkpoint().is_none() && c.now < healed + 1_000 {
        let next = c.master.next_deadline_ms().unwrap();
        c.at(next);
    }
    assert_eq!(c.master.last_checkpoint(), Some(CheckpointId(1)), "within one interval");
}

#[test]
fn a_terminal_record_that_cannot_be_written_is_repeated_and_then_reported() {
    let mut c = Cluster::new(|_| {}).running();
    c.faults.inject(FaultRule {
        operation: Operation::Put,
        path: "status".into(),
        skip: 0,
        times: u64::MAX,
        fault: Fault::FailBefore,
    });
    c.event(JobEvent::Cancel);
    c.all_say(&SubtaskEvent::Canceled);
    assert_eq!(c.done, None);
    while let Some(next) = c.master.next_deadline_ms() {
        c.at(next);
    }
    assert!(
        matches!(&c.done, Some(JobResult::Failed(f)) if f.message.starts_with("the job was canceled; that is not recorded")
            && f.message.contains("terminal record")),
        "{:?}",
        c.done
    );
}
