//! The loop around the decisions: it takes what people ask and what becomes of processes, and does what was decided.

use super::decide::{Action, Death, Decisions, Event, Wanted};
use super::process::{Ended, Handle, Membership, start};
use super::protocol::{ClusterJob, ClusterReply, ClusterReport, ClusterRequest, Submission};
use super::record::{EndStatus, JobRecord, Outcome};
use super::submit::{Desk, common_arguments, status};
use crate::cluster::local_cluster::{Member, asked_to_stop};
use crate::cluster::message::Failure;
use crate::cluster::rpc::Asked;
use crate::cluster::taskmanager::ProcessClock;
use crate::error::{Error, Result};
use crate::id::JobId;
use crate::say::line;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Jobs that have ended and are remembered.
const MOST_ENDED: usize = 100;

/// What comes back from work done aside.
#[derive(Debug)]
enum Done {
    Prepared { record: Result<JobRecord>, reply: oneshot::Sender<ClusterReply> },
    Status { job: JobId, status: Result<Option<Outcome>> },
}

/// The processes of a job.
#[derive(Debug, Default)]
struct Processes {
    /// Where the jobmanager listens, and where taskmanagers look for it.
    address: Option<SocketAddr>,
    handles: BTreeMap<Member, Handle>,
}

/// The cluster as it runs.
pub(super) struct Shell {
    desk: Arc<Desk>,
    decisions: Decisions,
    records: BTreeMap<JobId, JobRecord>,
    processes: BTreeMap<JobId, Processes>,
    /// Where the jobmanagers listen.
    host: IpAddr,
    clock: ProcessClock,
    next_number: u64,
    /// Submissions so far, and those whose program is being copied or asked.
    submissions: u64,
    preparing: u32,
    is_stopping: bool,
    tasks: JoinSet<()>,
    done: (UnboundedSender<Done>, Option<UnboundedReceiver<Done>>),
    ended: (UnboundedSender<Ended>, Option<UnboundedReceiver<Ended>>),
}

impl Shell {
    /// A cluster with what is written down.
    pub(super) fn new(desk: Arc<Desk>, host: IpAddr, records: Vec<JobRecord>, clock: ProcessClock) -> Self {
        let (done, ended) = (unbounded_channel(), unbounded_channel());
        Self {
            decisions: Decisions::new(desk.options.slots),
            desk,
            next_number: records.last().map_or(0, |last| last.number) + 1,
            records: records.into_iter().map(|record| (record.job.clone(), record)).collect(),
            processes: BTreeMap::new(),
            host,
            clock,
            submissions: 0,
            preparing: 0,
            is_stopping: false,
            tasks: JoinSet::new(),
            done: (done.0, Some(done.1)),
            ended: (ended.0, Some(ended.1)),
        }
    }

    /// Runs until this process is asked to stop and all others have ended; returns its exit code.
    pub(super) async fn run(mut self, mut asked: UnboundedReceiver<Asked>) -> i32 {
        let mut stop = std::pin::pin!(asked_to_stop());
        let mut code = 0;
        let (Some(mut done), Some(mut ended)) = (self.done.1.take(), self.ended.1.take()) else { return 1 };
        self.tidy();
        let found: Vec<&JobRecord> = self.records.values().filter(|r| r.outcome.is_none()).collect();
        for wanted in found.into_iter().map(wanted).collect::<Vec<_>>() {
            line(format_args!("[cluster] job {} goes on if it has not ended", wanted.job));
            self.handle(Event::Found(wanted)).await;
        }
        while !self.decisions.is_over() {
            let now = self.now_ms();
            let pause = self.decisions.due().map(|at| Duration::from_millis(at.saturating_sub(now)));
            tokio::select! {
                stopped = &mut stop, if !self.is_stopping => {
                    line(format_args!("[cluster] stopping"));
                    (code, self.is_stopping) = (stopped, true);
                    self.handle(Event::Stop).await;
                }
                Some((request, reply)) = asked.recv() => self.asked(request, reply).await,
                Some(done) = done.recv() => self.done(done).await,
                Some(Ended { job, member, how }) = ended.recv() => {
                    if let Some(processes) = self.processes.get_mut(&job) {
                        processes.handles.remove(&member);
                    }
                    self.handle(Event::Died { job, member, how }).await;
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                    self.handle(Event::Time).await;
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
        line(format_args!("[cluster] stopped"));
        code
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().elapsed_us / 1_000
    }

    /// Takes an event in and does what follows from it.
    async fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.decisions.handle(event, self.now_ms()) {
                match action {
                    Action::ReadStatus { job } => self.read_status(job),
                    Action::Start { job, member, slots } => {
                        if let Err(e) = self.start(&job, member, slots).await {
                            line(format_args!("[cluster] {member} of job {job} cannot be started: {e}"));
                            let how = format!("cannot be started: {e}");
                            events.push(Event::Died { job, member, how: Death { is_success: false, how } });
                        }
                    }
                    Action::Dismiss { job, member } => {
                        self.handle_of(&job, member).into_iter().for_each(Handle::dismiss);
                    }
                    Action::Kill { job, member } => {
                        self.handle_of(&job, member).into_iter().for_each(Handle::kill);
                    }
                    Action::Ended { job, outcome } => self.note_end(&job, outcome),
                }
            }
        }
    }

    fn handle_of(&mut self, job: &JobId, member: Member) -> Option<&mut Handle> {
        self.processes.get_mut(job)?.handles.get_mut(&member)
    }

    fn read_status(&mut self, job: JobId) {
        let Some(record) = self.records.get(&job).cloned() else { return };
        let done = self.done.0.clone();
        self.tasks.spawn(async move {
            let status = status(&record, false).await;
            _ = done.send(Done::Status { job, status });
        });
    }

    async fn start(&mut self, job: &JobId, member: Member, slots: u32) -> Result<()> {
        let record = self.records.get(job).ok_or_else(|| Error::bug("a job without a record"))?;
        let (data, hash) = (&self.desk.data, record.sha256.clone());
        let membership: Membership = common_arguments(record, &self.desk.options);
        let (program, work) = (data.program(&hash), data.make_work(job)?);
        let flags = if member == Member::JobManager {
            let desk = self.desk.clone();
            let verifying = tokio::task::spawn_blocking(move || desk.data.verify(&hash));
            verifying.await.map_err(|e| Error::bug("a program was not verified").with_source(e))??;
            let address = self.address_for(job)?;
            ["--role=jobmanager".to_owned(), format!("--listen={address}")]
        } else {
            let address = self.processes.get(job).and_then(|processes| processes.address);
            let address = address.ok_or_else(|| Error::bug("a taskmanager without a jobmanager"))?;
            ["--role=taskmanager".to_owned(), format!("--jobmanager={}", reachable(address))]
        };
        let slots = (member != Member::JobManager).then(|| format!("--slots={slots}"));
        let flags: Vec<String> = flags.into_iter().chain(slots).collect();
        let ended = self.ended.0.clone();
        let handle = start(&program, &work, &membership, member, &flags, &mut self.tasks, ended)
            .await
            .map_err(|e| Error::config("the program does not start").with_source(e))?;
        self.processes.entry(job.clone()).or_default().handles.insert(member, handle);
        Ok(())
    }

    /// Where a jobmanager is to listen: where the one before has, unless somebody else has taken the place. Then its
    /// taskmanagers must be started anew, too.
    fn address_for(&mut self, job: &JobId) -> Result<SocketAddr> {
        let free =
            |address: SocketAddr| TcpListener::bind(address).and_then(|listener| listener.local_addr());
        let known = self.processes.get(job).and_then(|processes| processes.address);
        if let Some(address) = known.and_then(|address| free(address).ok()) {
            return Ok(address);
        }
        let taken: BTreeSet<SocketAddr> = self.processes.values().filter_map(|p| p.address).collect();
        let mut address = None;
        while address.is_none_or(|address| taken.contains(&address)) {
            let found = free(SocketAddr::new(self.host, 0));
            address =
                Some(found.map_err(|e| Error::config("no port is free for the jobmanager").with_source(e))?);
        }
        let processes = self.processes.entry(job.clone()).or_default();
        processes.address = address;
        processes.handles.values_mut().for_each(Handle::kill);
        address.ok_or_else(|| Error::bug("no address was chosen"))
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Status { job, status } => {
                let status = status.map_err(|e| e.to_string());
                self.handle(Event::Status { job, status }).await;
            }
            Done::Prepared { record, reply } => {
                self.preparing -= 1;
                let answer = match record.and_then(|record| self.accept(record)) {
                    Ok(wanted) => {
                        let job = wanted.job.clone();
                        self.handle(Event::Submitted(wanted)).await;
                        self.job_reply(&job)
                    }
                    Err(e) => ClusterReply::Failed(Failure::from(&e)),
                };
                _ = reply.send(answer);
                self.tidy();
            }
        }
    }

    async fn asked(&mut self, request: ClusterRequest, reply: oneshot::Sender<ClusterReply>) {
        let answer = match request {
            ClusterRequest::Submit(submission) => return self.prepare(submission, reply),
            ClusterRequest::List => ClusterReply::Cluster(self.report()),
            ClusterRequest::Withdraw { job } => match self.withdraw(JobId::from(job)).await {
                Ok(answer) => answer,
                Err(e) => ClusterReply::Failed(Failure::from(&e)),
            },
        };
        _ = reply.send(answer);
    }

    fn prepare(&mut self, submission: Submission, reply: oneshot::Sender<ClusterReply>) {
        self.submissions += 1;
        self.preparing += 1;
        let (done, now_ms) = (self.done.0.clone(), self.clock.now().wall_ms.unsigned_abs());
        let preparing = self.desk.clone().prepare(submission, self.submissions, now_ms);
        self.tasks.spawn(async move {
            let record = preparing.await;
            _ = done.send(Done::Prepared { record, reply });
        });
    }

    /// Writes a job down that is new.
    fn accept(&mut self, mut record: JobRecord) -> Result<Wanted> {
        let job = &record.job;
        if self.is_stopping {
            return Err(Error::retry("the cluster is stopping"));
        }
        if self.decisions.has(job) {
            return Err(Error::config(format!("job {job} is here already")).hint("choose another --job-id"));
        }
        let needed =
            wanted(&record).taskmanagers.iter().fold(0, |sum: u32, slots| sum.saturating_add(*slots));
        let has = self.desk.options.slots;
        if needed > has {
            return Err(Error::config(format!("job {job} needs {needed} slots, and the cluster has {has}"))
                .hint("lower its --parallelism, or start the cluster with more --slots"));
        }
        record.number = self.next_number;
        self.desk.data.write(&record)?;
        self.next_number += 1;
        let wanted = wanted(&record);
        line(format_args!("[cluster] job {} is submitted: {} {}", record.job, record.program, record.sha256));
        self.records.insert(record.job.clone(), record);
        Ok(wanted)
    }

    async fn withdraw(&mut self, job: JobId) -> Result<ClusterReply> {
        let known = self.records.get_mut(&job);
        let record = known.ok_or_else(|| Error::config(format!("the cluster has no job {job}")))?;
        if record.outcome.is_none() && self.decisions.is_idle(&job) {
            let outcome = Some(Outcome { status: EndStatus::Withdrawn, why: None });
            let withdrawn = JobRecord { outcome, ..record.clone() };
            self.desk.data.write(&withdrawn)?;
            *record = withdrawn;
            line(format_args!("[cluster] job {job} is withdrawn"));
            self.handle(Event::Withdrawn { job: job.clone() }).await;
            self.tidy();
        }
        Ok(self.job_reply(&job))
    }

    /// The job's store says that it has ended.
    fn note_end(&mut self, job: &JobId, outcome: Outcome) {
        let Some(record) = self.records.get_mut(job) else { return };
        line(format_args!("[cluster] job {job} has ended: {}", outcome.status.as_str()));
        record.outcome = Some(outcome);
        if let Err(e) = self.desk.data.write(record) {
            // The store will be asked again when the cluster is started again.
            line(format_args!("[cluster] that is not written down: {e}"));
        }
        self.desk.data.clear_work(job);
        self.tidy();
    }

    /// Forgets old jobs, and removes what is no longer run.
    fn tidy(&mut self) {
        let mut ended: Vec<(u64, JobId)> = self
            .records
            .values()
            .filter(|record| record.outcome.is_some() && !self.decisions.has(&record.job))
            .map(|record| (record.number, record.job.clone()))
            .collect();
        ended.sort();
        let most = ended.len().saturating_sub(MOST_ENDED);
        for (_, job) in ended.into_iter().take(most) {
            self.desk.data.forget(&job);
            self.records.remove(&job);
        }
        self.processes.retain(|job, processes| self.decisions.has(job) || !processes.handles.is_empty());
        if self.preparing == 0 {
            let runs = |record: &&JobRecord| record.outcome.is_none();
            let kept = self.records.values().filter(runs).map(|record| record.sha256.clone()).collect();
            self.desk.data.keep_programs(&kept);
        }
    }

    fn report(&self) -> ClusterReport {
        let mut records: Vec<&JobRecord> = self.records.values().collect();
        records.sort_by_key(|record| record.number);
        ClusterReport {
            slots: self.desk.options.slots,
            free_slots: self.decisions.free(),
            jobs: records.into_iter().map(|record| self.view(record)).collect(),
        }
    }

    fn job_reply(&self, job: &JobId) -> ClusterReply {
        match self.records.get(job) {
            Some(record) => ClusterReply::Job(self.view(record)),
            None => ClusterReply::Failed(Failure::from(&Error::bug("a job without a record"))),
        }
    }

    fn view(&self, record: &JobRecord) -> ClusterJob {
        let place = self.decisions.place(&record.job);
        let restarts = place.as_ref().map_or(0, |place| place.restarts);
        let (status, why) = match (&record.outcome, place) {
            (Some(outcome), _) => (outcome.status.as_str(), outcome.why.clone()),
            (None, Some(place)) => (place.status, place.why),
            (None, None) => ("ending", None),
        };
        let processes = self.processes.get(&record.job);
        let running = processes.filter(|processes| processes.handles.contains_key(&Member::JobManager));
        ClusterJob {
            job: record.job.to_string(),
            program: record.program.clone(),
            sha256: record.sha256.clone(),
            status: status.to_owned(),
            why,
            jobmanager: running.and_then(|processes| processes.address).map(|at| at.to_string()),
            slots: record.taskmanagers.iter().fold(0, |sum, slots| sum.saturating_add(*slots)),
            taskmanagers: record.taskmanagers.len() as u32,
            restarts,
            submitted_at_ms: record.submitted_at_ms,
            checkpoint_dir: record.checkpoint_dir.clone(),
        }
    }
}

fn wanted(record: &JobRecord) -> Wanted {
    Wanted { number: record.number, job: record.job.clone(), taskmanagers: record.taskmanagers.clone() }
}

/// Where a process of this machine reaches what listens at `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
