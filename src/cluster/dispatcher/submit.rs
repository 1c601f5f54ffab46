//! From a submission to what is written down of a job: the program is copied, and asked what it is going to need.

use super::allow_list::AllowList;
use super::data::DataDirectory;
use super::process::{Membership, spawn};
use super::protocol::Submission;
use super::record::{JobRecord, Outcome};
use super::{StandingCluster, flags};
use crate::checkpoint::{CheckpointStore, read_status};
use crate::error::{Error, Result};
use crate::id::JobId;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// How long a program may take to say what it needs.
const DESCRIBED_WITHIN: Duration = Duration::from_secs(30);
/// How long one call of a job's store may take when its status is read.
const STATUS_WITHIN: Duration = Duration::from_secs(30);
/// How much of what a program says is passed on, in bytes.
const LONGEST_WORDS: usize = 4 << 10;
/// Longest id of a job: it names files.
const LONGEST_ID: usize = 128;

/// What a program says of its job when it is called with `--plan job`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobDescription {
    /// The job's name.
    pub(crate) name: String,
    /// Slots it needs.
    pub(crate) slots: u32,
    /// Slots with which it would run, too.
    pub(crate) least_slots: u32,
    /// Where its checkpoints are, as an absolute path or a URL; none if they are in memory.
    pub(crate) checkpoint_dir: Option<String>,
}

/// What submissions go by.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) options: StandingCluster,
    pub(super) allow_list: AllowList,
    pub(super) data: DataDirectory,
}

impl Desk {
    /// Does everything for a submission that takes time. Its number is still to be given.
    ///
    /// # Errors
    /// A config error that says why it is refused.
    pub(super) async fn prepare(
        self: Arc<Self>,
        submission: Submission,
        unique: u64,
        now_ms: u64,
    ) -> Result<JobRecord> {
        let job = JobId::from(submission.job.clone());
        if submission.job.is_empty() || submission.job.len() > LONGEST_ID || !is_directory_name(&job) {
            return Err(Error::config(format!("'{job}' cannot be a job's id"))
                .hint(format!("use at most {LONGEST_ID} letters, digits, - and _")));
        }
        flags::check(&submission.arguments)?;
        let Submission { program, sha256: wanted, mut arguments, slots, taskmanagers, .. } = submission;
        let (desk, name) = (self.clone(), program.clone());
        let copying = tokio::task::spawn_blocking(move || {
            desk.allow_list.copy(&name, wanted.as_ref(), &desk.data.programs(), unique)
        });
        let sha256 = copying.await.map_err(|e| Error::bug("the copy was broken off").with_source(e))??;
        let work = self.data.make_work(&job)?;
        let binary = self.data.program(&sha256);
        let at = |e: Error| e.at(format!("program '{program}'"));
        // As if alone: without a place for checkpoints it could be no member of a cluster, and would only say so.
        let mut described = describe(&binary, &arguments, "local", &work).await.map_err(at)?;
        if described.checkpoint_dir.is_none() {
            let default = self.data.checkpoints();
            let place = match &self.options.checkpoint_dir {
                Some(place) => place.clone(),
                None => default.to_string_lossy().into_owned(),
            };
            arguments.extend(["--checkpoint.dir".to_owned(), place]);
        }
        described = describe(&binary, &arguments, "local-cluster", &work).await.map_err(at)?;
        let checkpoint_dir = described.checkpoint_dir.ok_or_else(|| {
            at(Error::config("it keeps its checkpoints in memory, where no other process finds them"))
        })?;
        let slots = slots.unwrap_or(described.slots);
        if slots < described.least_slots {
            return Err(at(Error::config(format!(
                "it needs {} slots, and was given {slots}",
                described.least_slots
            ))
            .hint("give it more with --slots, or lower its --parallelism or --min-parallelism")));
        }
        let record = JobRecord {
            number: 0,
            job,
            program,
            sha256,
            arguments,
            taskmanagers: spread(slots, taskmanagers)?,
            checkpoint_dir,
            submitted_at_ms: now_ms,
            outcome: None,
        };
        if let Some(outcome) = status(&record, true).await? {
            return Err(Error::config(format!("job {} has ended: {}", record.job, outcome.status.as_str()))
                .hint("choose another --job-id; to go on from its state give the job --restore"));
        }
        Ok(record)
    }
}

/// How the job has ended, by the word of its store; `None` if it has not. Once a job is submitted its store is there: one that
/// is not must not be taken for one without an end, so only `is_new` makes it.
///
/// # Errors
/// The store's.
pub(super) async fn status(record: &JobRecord, is_new: bool) -> Result<Option<Outcome>> {
    let place = record.checkpoint_dir.as_str();
    let store =
        if is_new { CheckpointStore::open(place, &[]) } else { CheckpointStore::open_existing(place, &[]) };
    let store = store?.with_call_timeout(STATUS_WITHIN);
    Ok(read_status(&store.job(&record.job)?).await?.map(Outcome::from))
}

fn is_directory_name(job: &JobId) -> bool {
    job.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Slots of each taskmanager.
fn spread(slots: u32, taskmanagers: u32) -> Result<Vec<u32>> {
    if taskmanagers == 0 || taskmanagers > slots {
        return Err(Error::config(format!(
            "{slots} slots cannot be spread over {taskmanagers} taskmanagers"
        ))
        .hint("each needs one at least"));
    }
    let (each, rest) = (slots / taskmanagers, slots % taskmanagers);
    Ok((0..taskmanagers).map(|index| each + u32::from(index < rest)).collect())
}

/// Has a program say what its job needs, for which it runs nothing.
async fn describe(binary: &Path, arguments: &[String], role: &str, work: &Path) -> Result<JobDescription> {
    let mut command = tokio::process::Command::new(binary);
    command.args(arguments).args(["--role", role, "--plan", "job"]).current_dir(work);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = spawn(&mut command).await;
    let child = child.map_err(|e| Error::config("cannot be started").with_source(e))?;
    let output = tokio::time::timeout(DESCRIBED_WITHIN, child.wait_with_output()).await;
    let output = output
        .map_err(|_| {
            let limit = DESCRIBED_WITHIN.as_secs();
            Error::config(format!("does not say within {limit} s what its job needs"))
                .hint("between its start and execute it should only build the job")
        })?
        .map_err(|e| Error::config("is lost").with_source(e))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let start = words.len().saturating_sub(LONGEST_WORDS);
        let start = (start..words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
        let words = words.get(start..).unwrap_or_default().trim();
        return Err(Error::config(format!("does not start ({}): {words}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| {
        Error::config("does not say what its job needs when it is called with --plan job")
            .with_source(e)
            .hint("use a program of this release of Tidegate that takes its flags from the command line")
    })
}

/// What a job's processes are given, all of them.
pub(super) fn common_arguments(record: &JobRecord, options: &StandingCluster) -> Membership {
    let mut flags = record.arguments.clone();
    let mut push = |name: &str, value: &str| flags.push(format!("--{name}={value}"));
    push("job.id", record.job.as_str());
    push("cluster.taskmanagers", &record.taskmanagers.len().to_string());
    push("cluster.watch-stdin", "true");
    if let Some(path) = &options.token_file {
        push("cluster.token-file", &path.to_string_lossy());
    }
    if let Some(tls) = &options.tls {
        push("cluster.tls.certificate", &tls.certificate.to_string_lossy());
        push("cluster.tls.key", &tls.key.to_string_lossy());
        push("cluster.tls.authority", &tls.authority.to_string_lossy());
    }
    Membership { job: record.job.clone(), flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_spread_without_one_too_many() {
        assert_eq!(spread(5, 2).unwrap(), [3, 2]);
        assert_eq!(spread(4, 4).unwrap(), [1, 1, 1, 1]);
        assert_eq!(spread(7, 1).unwrap(), [7]);
        for (slots, taskmanagers) in [(1, 2), (1, 0), (0, 1), (0, 0)] {
            assert!(spread(slots, taskmanagers).is_err(), "{slots} {taskmanagers}");
        }
    }

    #[test]
    fn ids_of_jobs_name_directories() {
        for (id, good) in [("orders-1_A", true), ("..", false), ("a/b", false), ("a b", false), ("ä", false)]
        {
            assert_eq!(is_directory_name(&JobId::from(id.to_owned())), good, "{id}");
        }
    }
}
