//! Runs a whole job, jobmanager and taskmanagers included, in one thread on virtual time.
//!
//! Everything that is chance in a real cluster (the order in which tasks run, how long messages take, what fails and
//! when) is drawn from one seed; the same seed gives the same [`SimulationReport::log`], byte for byte. What runs is
//! the production code of the jobmanager, the subtasks, the checkpoint protocol and the state backends; what is
//! simulated is threads, clocks, the network between the processes, and the checkpoint store.

mod faults;
mod log;
mod rng;
mod worker;
mod world;

pub use faults::{ArmedPoint, SimulationFaults};
pub use log::EventLog;
pub use rng::SeededRng;

use crate::checkpoint::{Savepoint, SavepointMode, StoredCheckpoint};
use crate::cluster::jobmaster::{JobNotice, JobResult};
use crate::environment::Environment;
use crate::error::Result;
use crate::id::JobId;
use object_store::ObjectStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use world::World;

/// A simulated cluster, ready to run one job.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Where all chance comes from.
    pub seed: u64,
    /// What goes wrong.
    pub faults: SimulationFaults,
    /// The run is given up as stuck after so much virtual time, in milliseconds.
    pub max_virtual_ms: u64,
    /// Savepoints that a person asks for.
    pub savepoints: Vec<SimulatedSavepoint>,
    /// Changes of the parallelism that a person asks for: when, in virtual milliseconds, and what for. One that the job
    /// refuses, or that is lost with the jobmanager, is not asked for again.
    pub rescales: Vec<(u64, u32)>,
    /// The checkpoint store, for runs that go on where another has ended; each run has its own without it.
    pub store: Option<Arc<dyn ObjectStore>>,
    /// Bytes that a channel between two subtasks holds, if not as many as usual: with few there is backpressure.
    pub channel_bytes: Option<usize>,
}

/// A savepoint that a person asks for. Its directory is in the checkpoint store, below `savepoints`.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedSavepoint {
    /// When, in virtual milliseconds. If the jobmanager dies before it answers, the person asks the next one.
    pub at_ms: u64,
    /// What follows.
    pub mode: SavepointMode,
}

/// The location of the simulated checkpoint store.
pub const SIMULATED_STORE: &str = "memory://local";

impl Simulation {
    /// A simulation without faults, in which only the schedule is drawn from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: SimulationFaults::default(),
            max_virtual_ms: 3_600_000,
            savepoints: Vec::new(),
            rescales: Vec::new(),
            store: None,
            channel_bytes: None,
        }
    }

    /// Runs the program of `env` under the environment's configuration.
    ///
    /// # Errors
    /// What the program or its configuration got wrong. A job that fails is no error here: see
    /// [`SimulationReport::result`].
    pub fn run(&self, env: Environment, job_name: &str) -> Result<SimulationReport> {
        self.run_inspected(env, job_name, &mut |_| Ok(()))
    }

    /// As [`run`](Self::run), and shows every checkpoint and savepoint to `inspect` at the moment the jobmanager has heard
    /// of its completion, in a store that has no faults.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), and the first one of `inspect`, which ends the run.
    pub fn run_inspected(
        &self,
        env: Environment,
        job_name: &str,
        inspect: Inspect<'_>,
    ) -> Result<SimulationReport> {
        World::new(self.clone(), env, job_name)?.run(inspect)
    }
}

/// Looks at a completed checkpoint.
pub type Inspect<'a> = &'a mut dyn FnMut(StoredCheckpoint) -> Result<()>;

/// What happened.
#[derive(Debug)]
pub struct SimulationReport {
    /// How the job ended; `None` if it was still going when the virtual time was up, which is a failure of liveness.
    pub result: Option<JobResult>,
    /// The job.
    pub job: JobId,
    /// Savepoints that completed, as far as the person has heard of them.
    pub savepoints: Vec<Savepoint>,
    /// Directory of the savepoint with which the job was stopped, as its status says.
    pub stopped_with: Option<String>,
    /// Every event in order.
    pub log: EventLog,
    /// The jobmanager's notices.
    pub notices: Vec<JobNotice>,
    /// Crash points visited, over all processes.
    pub reached: BTreeMap<String, u64>,
    /// Crash points that did what they were armed for.
    pub acted: BTreeSet<String>,
    /// Processes that hung at a crash point.
    pub hangs: u64,
    /// Processes killed, at random or at a crash point.
    pub kills: u64,
    /// Virtual duration of the run, in milliseconds.
    pub virtual_ms: u64,
}
