//! Jobs that change their parallelism: because a person says so, or because slots come and go.

use super::tests::{Cluster, graph};
use super::*;

fn parallelism(c: &Cluster) -> u32 {
    c.master.graph.slots_needed()
}

/// Answers to requests: the parallelism, or why not.
fn answers(c: &Cluster) -> Vec<(u64, std::result::Result<u32, String>)> {
    let find = |n: &JobNotice| match n {
        JobNotice::Rescaled { request: Some(id), parallelism } => Some((*id, Ok(*parallelism))),
        JobNotice::RescaleFailed { request, failure } => Some((*request, Err(failure.message.clone()))),
        _ => None,
    };
    c.notices.iter().filter_map(find).collect()
}

fn refusal(c: &mut Cluster, parallelism: u32) -> String {
    c.event(JobEvent::Rescale { request: 9, parallelism });
    let last = answers(c).pop().expect("no answer");
    assert_eq!(last.0, 9);
    last.1.expect_err("not refused")
}

/// Completes the checkpoint just triggered, stops every subtask and starts those of the next attempt.
fn change_over(c: &mut Cluster) {
    let (checkpoint, _) = *c.triggered().last().expect("no checkpoint");
    c.checkpoint(checkpoint);
    assert_eq!(c.master.status(), JobStatus::Restarting);
    c.all_say(&SubtaskEvent::Canceled);
    assert_eq!(c.master.status(), JobStatus::Deploying);
    assert_eq!(c.restored().last(), Some(&checkpoint));
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(c.master.status(), JobStatus::Running);
}

#[test]
fn a_person_rescales_a_job_and_later_leaders_keep_to_it() {
    let mut c = Cluster::new(|_| {}).running();
    c.join(3, 2);
    c.event(JobEvent::Rescale { request: 1, parallelism: 4 });
    assert_eq!(c.triggered().len(), 1, "a fresh checkpoint, at once");
    assert!(refusal(&mut c, 3).contains("being rescaled already"));
    change_over(&mut c);
    assert_eq!((parallelism(&c), c.master.placement.len()), (4, 8));
    assert_eq!(answers(&c)[1], (1, Ok(4)));
    // By what the restore has written, and by what a checkpoint writes.
    for checkpoint in [None, Some(2)] {
        if let Some(id) = checkpoint {
            c.at(c.now + 2_000);
            c.checkpoint(id);
        }
        let term = c.master.config.leader_epoch.0 + 1;
        let mut next = Cluster::on(c.faults.clone(), term, |_| {});
        next.join(1, 4);
        next.all_say(&SubtaskEvent::Ready);
        assert_eq!((parallelism(&next), next.master.status()), (4, JobStatus::Running));
        c = next;
    }
    // Whoever starts the program with another parallelism means that.
    let mut changed = Cluster::on(c.faults.clone(), 4, |config| config.graph = graph(3));
    changed.join(1, 4);
    assert_eq!(parallelism(&changed), 3);
}

#[test]
fn a_rescale_that_cannot_be_done_is_refused_and_the_job_goes_on() {
    let mut c = Cluster::new(|_| {});
    assert!(refusal(&mut c, 1).contains("only a running one can be rescaled"));
    let mut c = c.running();
    assert!(refusal(&mut c, 0).contains("not between 1 and 128"));
    assert!(refusal(&mut c, 129).contains("not between 1 and 128"));
    assert!(refusal(&mut c, 3).contains("would need 3 slots and there are 2"));
    assert_eq!((c.master.status(), c.triggered().len()), (JobStatus::Running, 0));
    c.event(JobEvent::Rescale { request: 1, parallelism: 2 });
    assert_eq!(answers(&c).last(), Some(&(1, Ok(2))), "it has it already");
    assert_eq!(c.triggered().len(), 0);
    // The checkpoint fails.
    c.event(JobEvent::Rescale { request: 2, parallelism: 1 });
    let reason = Failure { kind: ErrorKind::Retry, message: "disk full".into() };
    let subtask = *c.master.placement.keys().next().unwrap();
    c.says(subtask, SubtaskEvent::Decline { checkpoint: CheckpointId(1), reason });
    let (id, answer) = answers(&c).pop().unwrap();
    assert!(id == 2 && answer.unwrap_err().contains("disk full"));
    assert_eq!((c.master.status(), parallelism(&c)), (JobStatus::Running, 2));
    // The attempt fails.
    c.event(JobEvent::Rescale { request: 3, parallelism: 1 });
    c.fail(subtask, ErrorKind::RestartTask);
    let (id, answer) = answers(&c).pop().unwrap();
    assert!(id == 3 && answer.unwrap_err().contains("the attempt ended"));
    c.canceled_but(subtask);
    c.at(60_000);
    assert_eq!((c.master.status(), parallelism(&c)), (JobStatus::Deploying, 2));
}

#[test]
fn a_job_that_is_cancelled_while_it_rescales_is_cancelled() {
    let mut c = Cluster::new(|_| {}).running();
    c.event(JobEvent::Rescale { request: 1, parallelism: 1 });
    c.checkpoint(1);
    c.event(JobEvent::Cancel);
    c.all_say(&SubtaskEvent::Canceled);
    assert_eq!(c.done, Some(JobResult::Canceled));
}

fn adaptive(config: &mut JobMasterConfig) {
    config.graph = graph(4);
    (config.min_parallelism, config.settle_ms) = (Some(2), 3_000);
    config.checkpoint = crate::checkpoint::CheckpointConfig::every_ms(600_000);
}

#[test]
fn an_adaptive_job_runs_on_the_slots_that_are_there() {
    let mut c = Cluster::new(adaptive);
    c.join(1, 1);
    c.at(10_000);
    assert_eq!(c.master.status(), JobStatus::Waiting, "below its minimum");
    c.join(2, 1);
    assert_eq!(c.master.status(), JobStatus::Waiting, "more may come");
    assert_eq!(c.master.next_deadline_ms(), Some(13_000));
    c.at(12_999);
    assert_eq!(c.master.status(), JobStatus::Waiting);
    c.at(13_000);
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!((c.master.status(), parallelism(&c)), (JobStatus::Running, 2));
    // Slots that come and go change nothing.
    c.join(3, 1);
    c.at(14_000);
    c.join(4, 1);
    c.at(16_999);
    c.event(JobEvent::WorkerLost { worker: WorkerId(4), why: "gone".into() });
    c.at(17_000);
    c.event(JobEvent::WorkerLost { worker: WorkerId(3), why: "gone".into() });
    c.at(30_000);
    assert_eq!(c.triggered().len(), 0);
    // Those that stay are used.
    c.join(5, 5);
    assert_eq!(c.master.next_deadline_ms(), Some(33_000));
    c.at(33_000);
    assert_eq!(c.triggered().len(), 1);
    change_over(&mut c);
    assert_eq!(parallelism(&c), 4, "the program's parallelism is the most");
    c.at(60_000);
    assert_eq!(c.triggered().len(), 1, "there is nothing to grow to");
    // And it shrinks when they go.
    let of_five = |(subtask, placed): (&SubtaskId, &Placed)| (placed.worker.0 != 5).then_some(*subtask);
    let survivors: Vec<_> = c.master.placement.iter().filter_map(of_five).collect();
    c.event(JobEvent::WorkerLost { worker: WorkerId(5), why: "gone".into() });
    survivors.into_iter().for_each(|subtask| c.says(subtask, SubtaskEvent::Canceled));
    c.at(61_000);
    assert_eq!(c.master.status(), JobStatus::Waiting);
    assert_eq!(c.master.slots(), Slots { available: 2, needed: 4 });
    c.at(64_000);
    assert_eq!((c.master.status(), parallelism(&c)), (JobStatus::Deploying, 2));
}

#[test]
fn a_checkpoint_that_fails_delays_the_growth_of_an_adaptive_job() {
    let mut c = Cluster::new(adaptive);
    c.join(1, 2);
    c.at(3_000);
    c.all_say(&SubtaskEvent::Ready);
    c.join(2, 2);
    c.at(6_000);
    let reason = Failure { kind: ErrorKind::Retry, message: "disk full".into() };
    let subtask = *c.master.placement.keys().next().unwrap();
    c.says(subtask, SubtaskEvent::Decline { checkpoint: CheckpointId(1), reason });
    c.at(8_999);
    assert_eq!(c.triggered().len(), 1);
    c.at(9_000);
    change_over(&mut c);
    assert_eq!(parallelism(&c), 4);
}
