//! Waiting for slots, reading the newest checkpoint, deploying: everything before `Running`.

use super::failure::Then;
use super::{CHECK_LEADER_MS, JobMaster, JobNotice, JobResult, Phase, Placed, Purpose, Scope, Slots};
use crate::checkpoint::{Loaded, RestorePlan, StoreReply, StoreRequest, plan_restore};
use crate::cluster::message::{Failure, SubtaskDeployment, ToWorker};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Attempt, SubtaskId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// Reads of the newest checkpoint before the job is given up.
const LOAD_TRIES: u32 = 8;
const FIRST_LOAD_RETRY_MS: u64 = 500;

impl JobMaster {
    /// Pausing, Stopping -> Loading, or Waiting if there are too few slots.
    pub(super) fn start_or_wait(&mut self, now_ms: u64) {
        let Slots { available, needed } = self.slots();
        if available >= needed {
            return self.load(0);
        }
        self.await_slots(now_ms);
        self.start_if_slots(now_ms);
    }

    /// Pausing, Loading -> Waiting.
    fn await_slots(&mut self, now_ms: u64) {
        let check_leader_ms = now_ms.saturating_add(CHECK_LEADER_MS);
        self.enter(Phase::Waiting { announced: None, settled_ms: now_ms, check_leader_ms });
    }

    /// Asks the store whether another one leads the job by now: taskmanagers would then be with that one.
    pub(super) fn check_leader(&mut self, now_ms: u64) {
        if let Phase::Waiting { check_leader_ms, .. } = &mut self.phase {
            *check_leader_ms = now_ms.saturating_add(CHECK_LEADER_MS);
            self.forget(Purpose::CheckLeader);
            let body = StoreRequest::CheckLeader { leader_epoch: self.config.leader_epoch };
            self.request(Purpose::CheckLeader, body);
        }
    }

    /// Waiting -> Loading, if there are slots enough; an adaptive job takes fewer once their number has settled.
    pub(super) fn start_if_slots(&mut self, now_ms: u64) {
        let Slots { available, needed } = self.slots();
        if available >= needed {
            return self.load(0);
        }
        let Phase::Waiting { announced, settled_ms, .. } = &mut self.phase else { return };
        if *announced != Some(available) {
            *announced = Some(available);
            *settled_ms = now_ms.saturating_add(self.config.settle_ms);
            self.notice(JobNotice::WaitingForSlots { available, needed });
        } else if *settled_ms <= now_ms && self.fitting_graph().is_some() {
            self.load(0);
        }
    }

    /// Waiting -> Closing, when no worker will ever join.
    pub(super) fn refuse_too_few_slots(&mut self, now_ms: u64) {
        let Slots { available, needed } = self.slots();
        if available < needed {
            let error = Error::config(format!("the job needs {needed} slots and there are {available}"))
                .hint("add slots or lower the parallelism");
            self.close(JobResult::Failed(Failure::from(&error)), now_ms);
        }
    }

    fn load(&mut self, tries: u32) {
        let nonce = self.nonce();
        let body = StoreRequest::LoadLatest {
            leader_epoch: self.config.leader_epoch,
            nonce,
            rescaled: self.coordinator.rescaled(),
        };
        let request = self.request(Purpose::Load, body);
        self.enter(Phase::Loading { request, tries, retry_at_ms: None });
    }

    /// Loading -> Loading, after the pause that follows a failed read.
    pub(super) fn load_again(&mut self) {
        if let Phase::Loading { tries, .. } = self.phase {
            self.load(tries);
        }
    }

    /// Loading -> Deploying, Waiting, Loading (again later), Stopping or Closing.
    pub(super) fn loaded(&mut self, reply: StoreReply, now_ms: u64) {
        let Phase::Loading { request, tries, .. } = self.phase else {
            self.counters.stale_reply += 1;
            return;
        };
        let failure = match reply {
            StoreReply::Loaded(loaded) => match self.prepare(&loaded, now_ms) {
                Ok(Some(plan)) => return self.deploy(plan, now_ms),
                Ok(None) => return self.stop(Then::Restart { at_ms: now_ms }, Scope::Whole, now_ms),
                // Such as an enumerator that cannot reach what it lists: a matter for the restart strategy.
                Err(e) if e.kind().is_recoverable() => return self.fail(Failure::from(&e), &[], now_ms),
                Err(e) => return self.close(JobResult::Failed(Failure::from(&e)), now_ms),
            },
            StoreReply::Failed(failure) => failure,
            other => {
                Failure { kind: ErrorKind::Bug, message: format!("unexpected reply to a read: {other:?}") }
            }
        };
        // Damage can be in transit, so it is worth a second read; an older checkpoint is never a substitute.
        let again = match failure.kind {
            ErrorKind::Retry => tries + 1 < LOAD_TRIES,
            ErrorKind::Data => tries == 0,
            _ => false,
        };
        if again {
            let pause = FIRST_LOAD_RETRY_MS << tries.min(6);
            self.notice(JobNotice::StoreTrouble { what: "read the newest checkpoint", why: failure.message });
            self.phase =
                Phase::Loading { request, tries: tries + 1, retry_at_ms: Some(now_ms.saturating_add(pause)) };
            return;
        }
        let e = Error::from(failure).at("cannot read the newest completed checkpoint");
        match e.kind() {
            // The store is away: not final, a matter for the restart strategy.
            ErrorKind::Retry => self.fail(Failure::from(&e), &[], now_ms),
            _ => self.close(JobResult::Failed(Failure::from(&e)), now_ms),
        }
    }

    /// Everything that must succeed before an attempt can be deployed. `None`: what goes on must restart, too.
    fn prepare(&mut self, loaded: &Loaded, now_ms: u64) -> Result<Option<Option<RestorePlan>>> {
        let known = self.coordinator.newest_completed();
        let found = loaded.latest.as_ref().map(|manifest| manifest.checkpoint);
        if let Some(known) = known.filter(|known| found < Some(*known)) {
            let found = found.map_or_else(|| "there is none".to_owned(), |id| format!("the newest is {id}"));
            let text = format!("completed checkpoint {known} has vanished from the store: {found}");
            return Err(Error::data(text).hint(
                "if the directory was restored from a copy, start a new job with restore.path and accept the loss",
            ));
        }
        let decided = self.coordinator.load(loaded);
        self.follow(decided, now_ms);
        // Slots that have gone meanwhile are noticed when it is deployed.
        let graph = self.fitting_graph().unwrap_or_else(|| self.wanted_graph());
        let plan = match (&loaded.latest, &self.config.restore) {
            (Some(own), _) => {
                if own.kind.is_stop() {
                    self.stopped_with.clone_from(&own.location);
                }
                let base = own.location.as_deref().unwrap_or_default();
                Some(plan_restore(own, base, &graph, self.config.allow_non_restored)?)
            }
            (None, Some(from)) => {
                let allow = self.config.allow_non_restored;
                let mut plan = plan_restore(&from.manifest, &from.base, &graph, allow)?;
                if let Some(checkpoint) = self.coordinator.reserve_inherited(from) {
                    plan.share_as(checkpoint);
                }
                Some(plan)
            }
            (None, None) => None,
        };
        let adopted = plan.as_ref().map_or_else(|| graph.clone(), |plan| plan.adopt(&graph));
        if self.scope != Scope::Whole && !self.fits_beside(known, loaded.latest.as_ref(), &adopted) {
            return Ok(None);
        }
        for (uid, enumerator) in &mut self.enumerators {
            let vertex =
                graph.operators().find(|(_, operator)| operator.uid == *uid).map(|(vertex, _)| vertex);
            if vertex.is_some_and(|vertex| !self.scope.has(SubtaskId { vertex: vertex.id, index: 0 })) {
                continue;
            }
            let state = plan.as_ref().and_then(|p| p.enumerators.get(uid)).map(Vec::as_slice);
            let readers = vertex.map_or(1, |vertex| vertex.parallelism);
            enumerator.restore(state, readers).map_err(|e| e.at(format!("enumerator of source '{uid}'")))?;
        }
        self.graph = adopted;
        self.coordinator.set_graph(self.graph.clone());
        Ok(Some(plan))
    }

    /// Loading -> Deploying; back to Waiting if slots have gone meanwhile.
    fn deploy(&mut self, plan: Option<RestorePlan>, now_ms: u64) {
        let Some(placed) = self.place_scope() else { return self.await_slots(now_ms) };
        if !self.attempt.is_none() {
            self.counters.restarts += 1;
        }
        self.attempt = Attempt(self.attempt.0.saturating_add(1));
        let attempt = self.attempt;
        let scope = &self.scope;
        self.placement.retain(|subtask, _| !scope.has(*subtask));
        self.drained.retain(|subtask| !scope.has(*subtask));
        self.live.extend(placed.keys().copied());
        self.placement
            .extend(placed.iter().map(|(subtask, worker)| (*subtask, Placed { worker: *worker, attempt })));
        self.forget_splits();
        self.enter(Phase::Deploying { starting: placed.keys().copied().collect() });
        let parallelism = self.graph.parallelism();
        if parallelism < self.wanted_graph().parallelism() {
            self.notice(JobNotice::Rescaled { request: None, parallelism });
        }
        let placement: BTreeMap<_, _> =
            self.placement.iter().map(|(subtask, placed)| (*subtask, placed.worker)).collect();
        self.notice(JobNotice::Deployed { attempt, placement: placed.clone() });
        let mut restores = BTreeMap::new();
        let mut key_groups = Vec::new();
        if let Some(plan) = plan {
            let base = plan.subtasks.values().next().map(|s| s.base.clone()).unwrap_or_default();
            self.notice(JobNotice::Restored { checkpoint: plan.checkpoint, base });
            for warning in plan.warnings {
                self.notice(JobNotice::Warning(warning));
            }
            restores = plan.subtasks;
            key_groups = plan.key_groups.into_iter().collect();
        }
        let mut per_worker: BTreeMap<WorkerId, Vec<SubtaskDeployment>> = BTreeMap::new();
        for (subtask, worker) in &placed {
            let deployment = SubtaskDeployment { subtask: *subtask, restore: restores.remove(subtask) };
            per_worker.entry(*worker).or_default().push(deployment);
        }
        let placement: Vec<_> = placement.into_iter().collect();
        let oldest = self.placement.values().map(|placed| placed.attempt).min().unwrap_or(attempt);
        for (worker, subtasks) in per_worker {
            let (key_groups, placement) = (key_groups.clone(), placement.clone());
            self.send(worker, ToWorker::Deploy { attempt, subtasks, key_groups, placement, oldest });
        }
    }

    /// Deploying -> Running, with the last subtask; or -> Finishing, if the job had stopped before.
    pub(super) fn subtask_ready(&mut self, subtask: SubtaskId, now_ms: u64) {
        let Phase::Deploying { starting } = &mut self.phase else {
            self.counters.unexpected += 1;
            return;
        };
        starting.remove(&subtask);
        if starting.is_empty() && self.stopped_with.is_some() {
            return self.finish();
        }
        if starting.is_empty() {
            self.start_deployed();
            self.scope = Scope::Whole;
            self.coordinator.start(self.attempt, now_ms);
            self.enter(Phase::Running);
            self.inherit(now_ms);
            self.finish_if_drained();
        }
    }

    /// Has the subtasks of the newest attempt process.
    fn start_deployed(&mut self) {
        let attempt = self.attempt;
        let of_attempt = |placed: &&Placed| placed.attempt == attempt;
        let workers: BTreeSet<_> =
            self.placement.values().filter(of_attempt).map(|placed| placed.worker).collect();
        workers.into_iter().for_each(|worker| self.send(worker, ToWorker::Start { attempt }));
    }
}
