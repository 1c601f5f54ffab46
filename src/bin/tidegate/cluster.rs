//! `tidegate cluster|run`: a standing cluster, and programs submitted to it.

use crate::arguments::{ClusterCommand, ReachArguments, RunCommand};
use crate::table::{Table, span};
use crate::{Outcome, block_on, now_ms, print};
use tidegate::cluster::control::JobManagerAddress;
use tidegate::cluster::dispatcher::{
    ClusterJob, ClusterReply, ClusterReport, ClusterRequest, StandingCluster, Submission, ask,
};
use tidegate::error::{Error, ErrorKind, Result};
use tidegate::id::JobId;

/// Digits of a hash that people are shown.
const SHORT_HASH: usize = 12;

pub(crate) fn serve(command: ClusterCommand) -> Result<Outcome> {
    let cluster = StandingCluster {
        tls: command.tls(),
        allow_list: command.jobs,
        data: command.data,
        slots: command.slots,
        listen: command.listen,
        checkpoint_dir: command.checkpoint_dir,
        token_file: command.token_file,
    };
    let code = block_on(cluster.run())?;
    Ok(Outcome::Code(u8::try_from(code).unwrap_or(1)))
}

/// The cluster that was named; none if none was.
pub(crate) fn named(reach: &ReachArguments) -> Result<Option<JobManagerAddress>> {
    reach.cluster.as_deref().map(|address| reach.address(address)).transpose()
}

pub(crate) fn run(command: RunCommand, json: bool) -> Result<Outcome> {
    let random = std::process::id() ^ (now_ms() as u32).rotate_left(16);
    let job = command.job_id.unwrap_or_else(|| JobId::new(&command.program, random).to_string());
    let submission = Submission {
        program: command.program,
        sha256: command.sha256,
        job: job.clone(),
        arguments: command.arguments,
        slots: command.slots,
        taskmanagers: command.taskmanagers,
    };
    let at = named(&command.reach)?.ok_or_else(|| Error::config("no cluster is named"))?;
    let lost = |e: Error| match e.kind() {
        // A repetition is refused if it was submitted.
        ErrorKind::Retry => e.hint(format!("it may have been submitted: try again with --job-id {job}")),
        _ => e,
    };
    match ask(&at, ClusterRequest::Submit(submission)).map_err(lost)? {
        ClusterReply::Job(job) => print(json, &job, || {
            let why = job.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("job {} is {}{why}\n{} {}\n", job.job, job.status, job.program, job.sha256)
        })?,
        other => return unexpected(&other),
    }
    Ok(Outcome::Fine)
}

fn unexpected<T>(reply: &ClusterReply) -> Result<T> {
    Err(Error::data(format!("an unexpected reply: {reply:?}")))
}

fn report(at: &JobManagerAddress) -> Result<ClusterReport> {
    match ask(at, ClusterRequest::List)? {
        ClusterReply::Cluster(report) => Ok(report),
        other => unexpected(&other),
    }
}

pub(crate) fn list(at: &JobManagerAddress, json: bool) -> Result<Outcome> {
    let report = report(at)?;
    print(json, &report, || {
        let mut table = Table::new(&[
            "job",
            "program",
            "sha256",
            "status",
            ">age",
            ">slots",
            ">restarts",
            "jobmanager",
            "why",
        ]);
        for job in &report.jobs {
            table.row(vec![
                job.job.clone(),
                job.program.clone(),
                job.sha256.as_str().chars().take(SHORT_HASH).collect(),
                job.status.clone(),
                span(now_ms().saturating_sub(job.submitted_at_ms)),
                job.slots.to_string(),
                job.restarts.to_string(),
                job.jobmanager.clone().unwrap_or_default(),
                job.why.clone().unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
            ]);
        }
        let jobs = if report.jobs.is_empty() { "no job was submitted\n".to_owned() } else { table.text() };
        format!("{jobs}{} of {} slots are free\n", report.free_slots, report.slots)
    })?;
    Ok(Outcome::Fine)
}

/// The job that a person means by its id or the beginning of it. One that has not ended goes first.
fn find(at: &JobManagerAddress, name: &str) -> Result<ClusterJob> {
    let jobs = report(at)?.jobs;
    if let Some(job) = jobs.iter().find(|job| job.job == name) {
        return Ok(job.clone());
    }
    let begins: Vec<ClusterJob> = jobs.into_iter().filter(|job| job.job.starts_with(name)).collect();
    match begins.as_slice() {
        [job] => Ok(job.clone()),
        [] => Err(Error::config(format!("the cluster has no job '{name}'"))
            .hint("tidegate list --cluster shows them")),
        many => {
            let ids: Vec<&str> = many.iter().map(|job| job.job.as_str()).collect();
            Err(Error::config(format!("'{name}' can mean {} jobs: {}", many.len(), ids.join(", "))))
        }
    }
}

/// Where the jobmanager of a job of the cluster is.
pub(crate) fn jobmanager_of(at: &JobManagerAddress, name: &str) -> Result<String> {
    let job = find(at, name)?;
    running(&job)
}

fn running(job: &ClusterJob) -> Result<String> {
    job.jobmanager.clone().ok_or_else(|| {
        let why = job.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        Error::config(format!(
            "job {} has no jobmanager that could be asked: it is {}{why}",
            job.job, job.status
        ))
    })
}

/// Takes a job from the cluster that does not run. The id of the job if that was done, else where its jobmanager is.
pub(crate) fn withdraw(at: &JobManagerAddress, name: &str) -> Result<Result<String, String>> {
    let job = find(at, name)?;
    match ask(at, ClusterRequest::Withdraw { job: job.job })? {
        ClusterReply::Job(job) if job.status == "withdrawn" => Ok(Ok(job.job)),
        ClusterReply::Job(job) => running(&job).map(Err),
        other => unexpected(&other),
    }
}
