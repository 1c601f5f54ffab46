//! The decisions, event by event.

use super::*;
use crate::cluster::dispatcher::record::EndStatus;

fn id(name: &str) -> JobId {
    JobId::from(name.to_owned())
}

fn wanted(number: u64, name: &str, taskmanagers: &[u32]) -> Wanted {
    Wanted { number, job: id(name), taskmanagers: taskmanagers.to_vec() }
}

fn outcome(status: EndStatus) -> Outcome {
    Outcome { status, why: None }
}

/// Actions as short words.
fn shown(actions: &[Action]) -> Vec<String> {
    let member = |member: &Member| match member {
        Member::JobManager => "jm".to_owned(),
        Member::TaskManager(index) => format!("tm{index}"),
    };
    let shown = |action: &Action| match action {
        Action::ReadStatus { job } => format!("read {job}"),
        Action::Start { job, member: m, slots } => format!("start {job} {} {slots}", member(m)),
        Action::Dismiss { job, member: m } => format!("dismiss {job} {}", member(m)),
        Action::Kill { job, member: m } => format!("kill {job} {}", member(m)),
        Action::Ended { job, outcome } => format!("ended {job} {}", outcome.status.as_str()),
    };
    actions.iter().map(shown).collect()
}

struct Cluster {
    decisions: Decisions,
    now: u64,
}

impl Cluster {
    fn new(slots: u32) -> Self {
        Self { decisions: Decisions::new(slots), now: 0 }
    }

    fn handle(&mut self, event: Event) -> Vec<String> {
        let actions = shown(&self.decisions.handle(event, self.now));
        self.check();
        actions
    }

    fn check(&self) {
        let running = |job: &&Job| job.jobmanager.is_up() || job.workers.iter().any(Process::is_up);
        let used: u32 = self.decisions.jobs.values().filter(running).map(Job::slots).sum();
        assert!(used <= self.decisions.slots, "{used} slots are used");
        assert!(self.decisions.slots - self.decisions.free() >= used);
    }

    fn submit(&mut self, number: u64, name: &str, taskmanagers: &[u32]) -> Vec<String> {
        self.handle(Event::Submitted(wanted(number, name, taskmanagers)))
    }

    fn died(&mut self, name: &str, member: Member, is_success: bool) -> Vec<String> {
        let how = Death { is_success, how: "ended".to_owned() };
        self.handle(Event::Died { job: id(name), member, how })
    }

    fn status(&mut self, name: &str, status: Option<EndStatus>) -> Vec<String> {
        self.handle(Event::Status { job: id(name), status: Ok(status.map(outcome)) })
    }

    fn unreadable(&mut self, name: &str) -> Vec<String> {
        self.handle(Event::Status { job: id(name), status: Err("no store".to_owned()) })
    }

    /// Goes to the next time at which something is due; returns how long that took.
    fn next(&mut self) -> (u64, Vec<String>) {
        let due = self.decisions.due().expect("nothing is due");
        let pause = due - self.now;
        self.now = due;
        (pause, self.handle(Event::Time))
    }

    fn is(&self, name: &str) -> &'static str {
        self.decisions.place(&id(name)).map_or("gone", |place| place.status)
    }
}

const JM: Member = Member::JobManager;
const TM: Member = Member::TaskManager(0);

#[test]
fn a_job_starts_runs_and_ends_by_the_word_of_its_store() {
    let mut c = Cluster::new(3);
    assert_eq!(c.submit(1, "a", &[2, 1]), ["start a jm 0", "start a tm0 2", "start a tm1 1"]);
    assert_eq!((c.is("a"), c.decisions.free()), ("running", 0));
    assert_eq!(c.died("a", TM, true), [] as [&str; 0], "it was told that the job is over");
    assert_eq!(c.died("a", JM, true), ["read a"]);
    assert_eq!(c.status("a", Some(EndStatus::Finished)), ["ended a finished"]);
    assert_eq!((c.is("a"), c.decisions.free()), ("ending", 0), "a taskmanager is still there");
    assert_eq!(c.died("a", Member::TaskManager(1), true), [] as [&str; 0]);
    assert_eq!((c.is("a"), c.decisions.free(), c.decisions.due()), ("gone", 3, None));
}

#[test]
fn the_end_of_a_jobmanager_is_no_end_of_the_job_whatever_its_exit_code() {
    for is_success in [true, false] {
        let mut c = Cluster::new(1);
        c.submit(1, "a", &[1]);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            assert_eq!(c.died("a", JM, is_success), ["read a"]);
            assert_eq!(c.status("a", None), [] as [&str; 0]);
            assert_eq!(c.is("a"), "restarting");
            let (pause, actions) = c.next();
            assert_eq!(actions, ["start a jm 0"], "the taskmanager is still there");
            pauses.push(pause);
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000]);
        assert_eq!(c.decisions.place(&id("a")).unwrap().restarts, 4);
    }
}

#[test]
fn taskmanagers_that_left_with_a_jobmanager_start_with_the_next_and_those_that_die_after_a_pause() {
    let mut c = Cluster::new(2);
    c.submit(1, "a", &[1, 1]);
    assert_eq!(c.died("a", TM, true), [] as [&str; 0]);
    assert_eq!(c.is("a"), "running", "the jobmanager is about to leave, too");
    c.died("a", JM, false);
    c.status("a", None);
    assert_eq!(c.next(), (500, vec!["start a jm 0".into(), "start a tm0 1".into()]));
    assert_eq!(c.died("a", Member::TaskManager(1), false), [] as [&str; 0]);
    assert_eq!(c.is("a"), "restarting");
    assert_eq!(c.next(), (500, vec!["start a tm1 1".into()]));
    c.died("a", Member::TaskManager(1), false);
    assert_eq!(c.next(), (1_000, vec!["start a tm1 1".into()]));
    // A long life is forgiven.
    c.now += 60_000;
    c.died("a", Member::TaskManager(1), false);
    assert_eq!(c.next(), (500, vec!["start a tm1 1".into()]));
}

#[test]
fn a_status_that_cannot_be_read_is_asked_again_and_nothing_is_started_meanwhile() {
    let mut c = Cluster::new(1);
    assert_eq!(c.handle(Event::Found(wanted(1, "a", &[1]))), ["read a"]);
    assert_eq!(c.unreadable("a"), [] as [&str; 0]);
    assert_eq!(c.next(), (500, vec!["read a".into()]));
    c.unreadable("a");
    assert_eq!(c.next(), (1_000, vec!["read a".into()]));
    assert_eq!(c.is("a"), "checking");
    assert_eq!(c.status("a", None), ["start a jm 0", "start a tm0 1"]);
    // The same after a death.
    assert_eq!(c.died("a", JM, true), ["read a"]);
    c.unreadable("a");
    assert_eq!(c.next(), (500, vec!["read a".into()]));
    assert_eq!(c.status("a", Some(EndStatus::Failed)), ["ended a failed"]);
}

#[test]
fn what_is_found_ended_is_never_started() {
    let mut c = Cluster::new(1);
    c.handle(Event::Found(wanted(1, "a", &[1])));
    assert_eq!(c.status("a", Some(EndStatus::Canceled)), ["ended a canceled"]);
    assert_eq!((c.is("a"), c.decisions.due()), ("gone", None));
    assert_eq!(c.status("a", None), [] as [&str; 0], "a late answer");
    assert_eq!(c.handle(Event::Time), [] as [&str; 0]);
}

#[test]
fn a_queue_in_order_which_what_can_never_run_does_not_hold_up() {
    let mut c = Cluster::new(3);
    assert_eq!(c.submit(1, "a", &[2]).len(), 2);
    assert_eq!(c.submit(2, "b", &[2]), [] as [&str; 0]);
    assert_eq!(c.submit(3, "c", &[1]), [] as [&str; 0], "b is before it");
    assert_eq!((c.is("b"), c.is("c")), ("queued", "queued"));
    let why = |c: &Cluster, name: &str| c.decisions.place(&id(name)).unwrap().why.unwrap();
    assert_eq!(why(&c, "b"), "it needs 2 slots, and 1 of 3 are free");
    assert_eq!(why(&c, "c"), "others are before it");
    // Submitted when the cluster had more slots.
    c.handle(Event::Found(wanted(0, "huge", &[4])));
    c.status("huge", None);
    assert_eq!(why(&c, "huge"), "it needs 4 slots, and the cluster has 3");
    c.died("a", JM, true);
    c.died("a", TM, true);
    let started = c.status("a", Some(EndStatus::Finished));
    assert_eq!(started[1..], ["start b jm 0", "start b tm0 2", "start c jm 0", "start c tm0 1"]);
    assert_eq!(c.is("huge"), "queued");
}

#[test]
fn a_job_that_was_there_before_keeps_its_place_while_its_status_is_read() {
    let mut c = Cluster::new(2);
    c.handle(Event::Found(wanted(1, "first", &[2])));
    c.handle(Event::Found(wanted(2, "second", &[2])));
    assert_eq!(c.status("second", None), [] as [&str; 0]);
    assert_eq!(c.status("first", None), ["start first jm 0", "start first tm0 2"]);
    assert_eq!(c.is("second"), "queued");
}

#[test]
fn taskmanagers_that_do_not_leave_are_killed_and_their_slots_are_not_given_away_before() {
    let mut c = Cluster::new(1);
    c.submit(1, "a", &[1]);
    c.submit(2, "b", &[1]);
    c.died("a", JM, true);
    assert_eq!(c.status("a", Some(EndStatus::Finished)), ["ended a finished"]);
    assert_eq!(c.next(), (5_000, vec!["kill a tm0".into()]));
    assert_eq!(c.decisions.due(), None, "once");
    assert_eq!(c.died("a", TM, false), ["start b jm 0", "start b tm0 1"]);
}

#[test]
fn what_does_not_run_can_be_withdrawn_and_what_runs_or_is_being_asked_cannot() {
    let mut c = Cluster::new(1);
    c.submit(1, "a", &[1]);
    c.submit(2, "b", &[1]);
    let idle = |c: &Cluster, name: &str| c.decisions.is_idle(&id(name));
    assert!(!idle(&c, "a") && idle(&c, "b"));
    c.died("a", JM, false);
    assert!(!idle(&c, "a"), "it may have ended");
    c.unreadable("a");
    assert!(idle(&c, "a"));
    c.next();
    c.status("a", None);
    assert!(idle(&c, "a"), "it waits for its restart");
    assert_eq!(c.handle(Event::Withdrawn { job: id("a") }), ["dismiss a tm0"]);
    assert!(!idle(&c, "a"));
    assert_eq!(c.died("a", TM, false), ["start b jm 0", "start b tm0 1"]);
    assert_eq!(c.is("a"), "gone");
}

#[test]
fn stopping_ends_jobmanagers_first_and_no_job() {
    let mut c = Cluster::new(2);
    c.submit(1, "a", &[1, 1]);
    c.submit(2, "b", &[1]);
    c.handle(Event::Found(wanted(3, "c", &[1])));
    assert_eq!(c.handle(Event::Stop), ["dismiss a jm"]);
    assert_eq!((c.is("b"), c.is("c")), ("gone", "gone"));
    assert_eq!(c.died("a", JM, false), ["dismiss a tm0", "dismiss a tm1"], "its status is not asked");
    c.died("a", TM, false);
    assert!(!c.decisions.is_over());
    assert_eq!(c.next(), (5_000, vec!["kill a tm1".into()]));
    assert_eq!(c.died("a", Member::TaskManager(1), false), [] as [&str; 0]);
    assert!(c.decisions.is_over());
}

#[test]
fn stopping_kills_a_jobmanager_that_does_not_leave_and_all_that_waits_is_dropped() {
    let mut c = Cluster::new(4);
    c.submit(1, "a", &[1]);
    c.submit(2, "b", &[1]);
    c.died("b", JM, false);
    c.died("b", TM, false);
    assert_eq!(c.handle(Event::Stop), ["dismiss a jm"], "nothing of b runs");
    assert_eq!(c.next(), (5_000, vec!["kill a jm".into(), "kill a tm0".into()]));
    c.died("a", TM, false);
    assert!(!c.decisions.is_over());
    c.died("a", JM, false);
    assert!(c.decisions.is_over());
    let mut idle = Cluster::new(1);
    idle.handle(Event::Stop);
    assert!(idle.decisions.is_over());
}
