//! Named places of the protocol at which a test kills, fails or delays the process.
//!
//! Every protocol step calls [`CrashPoints::reach`]; without an armed plan that is one pointer test. The registry
//! [`CRASH_POINTS`] is what tests are measured against: a point that no run reaches is a step nobody tested.

use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// All crash points, jobmanager first.
pub const CRASH_POINTS: &[&str] = &[
    // Jobmanager: checkpoint.
    "trigger.sent_k_of_n",
    "ack.k_of_n",
    "manifest.before_put",
    "manifest.applied_no_reply",
    "ack.all_before_manifest",
    "record.before_put",
    "record.applied_no_reply",
    "complete.before_notify",
    "notify.k_of_n",
    "abort.k_of_n",
    "savepoint.before_manifest",
    "savepoint.stored",
    "savepoint.before_discard",
    "stop.recorded",
    "subsume.before_mark",
    "delete.k_of_n",
    "delete.done_unrecorded",
    // Jobmanager: life of the job.
    "leader.before_epoch",
    "leader.epoch_written",
    "claim.before_mark",
    "claim.marked",
    "claim.released",
    "claim.k_of_n",
    "claim.before_forget",
    "inherit.k_of_n",
    "inherit.copied",
    "recover.list",
    "recover.read_manifest",
    "recover.before_fence",
    "restart.cancel_k_of_n",
    "restart.deploy_k_of_n",
    "job.before_terminal",
    "job.ended_no_status",
    "job.terminal_before_cleanup",
    "dispose.k_of_n",
    // Taskmanager.
    "barrier.first",
    "barrier.aligned",
    "barrier.overtaken",
    "in_flight.collected",
    "snapshot.sync",
    "upload.part_k",
    "upload.file_k",
    "upload.before_complete",
    "upload.applied_no_reply",
    "savepoint.before_upload",
    "ack.before_send",
    "ack.after_send",
    "stop.barrier",
    "stop.finish",
    "drain.received",
    "notify.received",
    "sink.before_prepare",
    "sink.prepared",
    "sink.before_commit",
    "sink.commit_unrecorded",
    "restore.file_k",
    "restore.open_db",
    "restore.timers",
    "restore.before_running",
];

/// What happens at an armed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashAction {
    /// The process dies here: every caller gets an error and nothing after it may have an effect.
    Kill,
    /// The real process ends here, by SIGABRT.
    Abort,
    /// The step fails once with an error worth a retry.
    Error,
    /// The step takes this long.
    Delay(Duration),
    /// The step never ends, and nobody is told. In the simulator; a real process is as good as killed.
    Hang,
}

/// What a visit comes to.
enum Visit {
    GoOn,
    Pause(Duration),
    Hang,
}

#[derive(Debug, Default)]
struct Plan {
    armed: BTreeMap<String, Vec<(u64, CrashAction)>>,
    reached: BTreeMap<String, u64>,
    killed: Option<String>,
    hung: Option<String>,
    /// Whether what hangs can be woken up again; otherwise the process is dead from then on.
    wakes: bool,
    awake: bool,
    sleepers: Vec<Waker>,
    acted: BTreeSet<String>,
    watchers: BTreeMap<String, Watcher>,
}

/// What looks on at a point.
#[derive(Clone)]
struct Watcher(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

/// Handle to the crash points of one process; cheap to clone, without effect by default.
#[derive(Clone, Debug, Default)]
pub struct CrashPoints(Option<Arc<Mutex<Plan>>>);

impl CrashPoints {
    /// Points that do nothing and record nothing: what production uses.
    pub fn none() -> Self {
        Self(None)
    }

    /// Points that count visits and can be armed.
    pub fn armable() -> Self {
        Self(Some(Arc::default()))
    }

    /// Points at which a process hangs that [`CrashPoints::thaw`] wakes up.
    #[cfg(feature = "testing")]
    pub(crate) fn thawing() -> Self {
        Self(Some(Arc::new(Mutex::new(Plan { wakes: true, ..Plan::default() }))))
    }

    /// Arms `name` for its `nth` visit from now (the first is 1). Refuses names that are not registered, so that
    /// a renamed point does not turn a test into one that tests nothing; refuses a handle made by
    /// [`CrashPoints::none`].
    pub fn arm(&self, name: &str, nth: u64, action: CrashAction) -> Result<()> {
        if !CRASH_POINTS.contains(&name) {
            return Err(Error::bug(format!("crash point {name} is not registered")));
        }
        let Some(mut plan) = self.plan() else {
            return Err(Error::bug("these crash points cannot be armed"));
        };
        let nth = plan.reached.get(name).copied().unwrap_or(0) + nth.max(1);
        plan.armed.entry(name.to_owned()).or_default().push((nth, action));
        Ok(())
    }

    /// Has `watcher` called whenever the protocol comes by `name`, which waits for it to return: it sees the store as it is
    /// at that step. Refuses what [`CrashPoints::arm`] refuses.
    pub fn watch(&self, name: &str, watcher: impl Fn() + Send + Sync + 'static) -> Result<()> {
        if !CRASH_POINTS.contains(&name) {
            return Err(Error::bug(format!("crash point {name} is not registered")));
        }
        let Some(mut plan) = self.plan() else {
            return Err(Error::bug("these crash points cannot be watched"));
        };
        plan.watchers.insert(name.to_owned(), Watcher(Arc::new(watcher)));
        Ok(())
    }

    /// Called by the protocol when it comes by `name`. An error must be passed on at once.
    pub async fn reach(&self, name: &str) -> Result<()> {
        match self.visit(name)? {
            Visit::GoOn => Ok(()),
            Visit::Pause(pause) => {
                tokio::time::sleep(pause).await;
                if self.killed().is_some() { Err(Self::dead(name)) } else { Ok(()) }
            }
            Visit::Hang => {
                poll_fn(|context| {
                    let Some(mut plan) = self.plan().filter(|plan| !plan.awake) else {
                        return Poll::Ready(());
                    };
                    plan.sleepers.push(context.waker().clone());
                    Poll::Pending
                })
                .await;
                Ok(())
            }
        }
    }

    /// [`CrashPoints::reach`] for places that are not async: a delay armed here is ignored.
    pub fn reach_sync(&self, name: &str) -> Result<()> {
        self.visit(name).map(|_| ())
    }

    /// Where the process was killed, if it was.
    pub fn killed(&self) -> Option<String> {
        self.plan().and_then(|p| p.killed.clone())
    }

    /// Where the process hangs, or hung.
    #[cfg(feature = "testing")]
    pub(crate) fn hung(&self) -> Option<String> {
        self.plan().and_then(|p| p.hung.clone())
    }

    /// Lets a process that hangs go on.
    #[cfg(feature = "testing")]
    pub(crate) fn thaw(&self) {
        if let Some(mut plan) = self.plan() {
            plan.awake = true;
            plan.sleepers.drain(..).for_each(Waker::wake);
        }
    }

    /// The points that did what they were armed for.
    #[cfg(feature = "testing")]
    pub(crate) fn acted(&self) -> BTreeSet<String> {
        self.plan().map(|p| p.acted.clone()).unwrap_or_default()
    }

    /// How often each point was reached.
    pub fn reached(&self) -> BTreeMap<String, u64> {
        self.plan().map(|p| p.reached.clone()).unwrap_or_default()
    }

    fn plan(&self) -> Option<MutexGuard<'_, Plan>> {
        self.0.as_ref().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn dead(name: &str) -> Error {
        Error::fenced(format!("killed at crash point {name}"))
    }

    fn visit(&self, name: &str) -> Result<Visit> {
        let watcher = self.plan().filter(|p| p.killed.is_none()).and_then(|p| p.watchers.get(name).cloned());
        if let Some(Watcher(watcher)) = watcher {
            watcher();
        }
        let Some(mut plan) = self.plan() else { return Ok(Visit::GoOn) };
        debug_assert!(CRASH_POINTS.contains(&name), "crash point {name} is not registered");
        if let Some(at) = &plan.killed {
            return Err(Self::dead(at));
        }
        let visit = plan.reached.entry(name.to_owned()).or_default();
        *visit += 1;
        let visit = *visit;
        let action = plan.armed.get(name).and_then(|a| a.iter().find(|(n, _)| *n == visit)).map(|(_, a)| *a);
        let Some(action) = action else { return Ok(Visit::GoOn) };
        plan.acted.insert(name.to_owned());
        match action {
            CrashAction::Delay(pause) => Ok(Visit::Pause(pause)),
            CrashAction::Error => Err(Error::retry(format!("failure injected at crash point {name}"))),
            CrashAction::Hang if plan.wakes => {
                plan.hung = Some(name.to_owned());
                Ok(Visit::Hang)
            }
            CrashAction::Abort => std::process::abort(),
            CrashAction::Kill | CrashAction::Hang => {
                plan.killed = Some(name.to_owned());
                if action == CrashAction::Hang {
                    plan.hung = Some(name.to_owned());
                }
                Err(Self::dead(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_nth_visit_kills_and_everything_after_is_dead() {
        let c = CrashPoints::armable();
        c.arm("barrier.aligned", 2, CrashAction::Kill).unwrap();
        c.reach_sync("barrier.aligned").unwrap();
        let other = c.clone();
        assert_eq!(other.reach_sync("barrier.aligned").unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(c.killed().as_deref(), Some("barrier.aligned"));
        assert!(c.reach_sync("snapshot.sync").is_err());
        assert_eq!(c.reached().get("barrier.aligned"), Some(&2));
    }

    #[test]
    fn an_error_happens_once_and_unknown_names_are_refused() {
        let c = CrashPoints::armable();
        c.arm("ack.before_send", 1, CrashAction::Error).unwrap();
        assert_eq!(c.reach_sync("ack.before_send").unwrap_err().kind(), ErrorKind::Retry);
        c.reach_sync("ack.before_send").unwrap();
        assert!(c.arm("no.such_point", 1, CrashAction::Kill).is_err());
        assert!(CrashPoints::none().arm("ack.before_send", 1, CrashAction::Kill).is_err());
    }

    #[test]
    fn names_are_unique() {
        let set: BTreeSet<_> = CRASH_POINTS.iter().collect();
        assert_eq!(set.len(), CRASH_POINTS.len());
    }
}
