//! The command line.

use clap::{ArgGroup, Args, Parser, Subcommand};
use std::path::PathBuf;
use tidegate::cluster::TlsFiles;
use tidegate::cluster::control::JobManagerAddress;
use tidegate::cluster::dispatcher::ProgramHash;
use tidegate::error::Result;

/// Looks at checkpoints and savepoints, checks them, and controls running jobs.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 fine; 1 damage found, or the job did not do it; 2 wrong usage, place, job or key";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at completed checkpoints and savepoints
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Read the state in a checkpoint or savepoint
    #[command(subcommand)]
    State(StateCommand),
    /// Check that everything is there and undamaged that checkpoints name, and find what nothing names
    Fsck(FsckCommand),
    /// List your running jobs on this machine, the one of a jobmanager, or those of a standing cluster
    List(ListCommand),
    /// Show a running job: status, taskmanagers and what runs on them, last checkpoints
    Info(JobCommand),
    /// Show what runs: operators with uid and parallelism, and the edges between them
    Plan(PlanCommand),
    /// Show the last failures of a running job
    Exceptions(JobCommand),
    /// Take a savepoint of a running job
    Savepoint(SavepointCommand),
    /// Stop a running job with a savepoint
    Stop(StopCommand),
    /// Have a running job go on at another parallelism, from a checkpoint taken for that
    Rescale(RescaleCommand),
    /// Stop a running job at once; output since its last checkpoint is not published
    Cancel(JobCommand),
    /// Run a program as a cluster of processes on this machine: a jobmanager and taskmanagers, started again when they die
    LocalCluster(LocalClusterCommand),
    /// Run a standing cluster on this machine: it takes programs of a directory by name and hash, and keeps their jobs running
    Cluster(ClusterCommand),
    /// Have a standing cluster run a program
    Run(RunCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List them
    Ls {
        /// Checkpoint directory, a job's directory, or a savepoint; path or URL
        place: String,
    },
    /// Show one: operators, times, and what became of the job's last checkpoints
    Show {
        /// Checkpoint, savepoint, or a job's directory for its newest checkpoint
        place: String,
        /// List its files, too
        #[arg(long)]
        files: bool,
    },
    /// Read every file of one, and compare it with the manifest
    Verify {
        /// Checkpoint, savepoint, or a job's directory for all its checkpoints
        place: String,
    },
    /// Compare two
    Diff {
        /// The older one
        from: String,
        /// The newer one
        to: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// List operators and their states, with kinds, types and sizes
    Ls {
        /// Checkpoint, savepoint, or a job's directory for its newest checkpoint; path or URL
        place: String,
    },
    /// Print what is kept under one key, as JSON lines
    Get {
        /// Checkpoint, savepoint, or a job's directory for its newest checkpoint; path or URL
        place: String,
        /// Strings as they are, numbers in decimal, bytes as 0x.., options and tuples as JSON; keys of a type of your
        /// own as 0x and their ordered form in hex
        #[arg(allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        selection: StateSelection,
    },
    /// Print everything, as JSON lines
    Dump {
        /// Checkpoint, savepoint, or a job's directory for its newest checkpoint; path or URL
        place: String,
        #[command(flatten)]
        selection: StateSelection,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StateSelection {
    /// Only of the operator with this uid
    #[arg(long, value_name = "UID")]
    pub(crate) operator: Option<String>,
    /// Only the state of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) state: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FsckCommand {
    /// Checkpoint directory, a job's directory, or a savepoint; path or URL
    pub(crate) place: String,
    /// Delete what nothing names; takes over the leadership of jobs that have ended, refuses those that may be running
    #[arg(long)]
    pub(crate) delete: bool,
    /// What is younger may belong to a checkpoint under way and is left alone
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) grace: u64,
    #[command(flatten)]
    pub(crate) control: ControlArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ControlArguments {
    /// Directory of the control sockets, if the jobs set control.dir
    #[arg(long, value_name = "DIR")]
    pub(crate) control_dir: Option<PathBuf>,
}

/// How running jobs are reached.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("remote").args(["jobmanager", "cluster"])))]
pub(crate) struct ReachArguments {
    #[command(flatten)]
    pub(crate) control: ControlArguments,
    /// Reach the job through its jobmanager; several addresses with commas between them
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "control_dir")]
    pub(crate) jobmanager: Option<String>,
    /// Reach the job through the standing cluster that runs it
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "control_dir")]
    pub(crate) cluster: Option<String>,
    /// The token file of the jobmanager or cluster, if it has one
    #[arg(long, value_name = "FILE", requires = "remote")]
    pub(crate) token_file: Option<PathBuf>,
    /// A certificate of the cluster's authority, in PEM, if connections are encrypted
    #[arg(long, value_name = "FILE", requires_all = ["remote", "tls_key", "tls_authority"])]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The cluster's authority
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_authority: Option<PathBuf>,
}

impl ReachArguments {
    fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            authority: self.tls_authority.clone()?,
        })
    }

    /// An address, with what is needed to be let in there.
    pub(crate) fn address(&self, address: &str) -> Result<JobManagerAddress> {
        let at = JobManagerAddress::new(address, self.token_file.as_deref())?;
        match self.tls() {
            Some(files) => at.encrypted(&files),
            None => Ok(at),
        }
    }
}

/// Which running job.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// Job id or the beginning of one, its directory, or a checkpoint directory with one running job; may be left out with
    /// --jobmanager, with --cluster it is the id or the beginning of it
    #[arg(required_unless_present = "jobmanager")]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    pub(crate) reach: ReachArguments,
}

#[derive(Debug, Args)]
pub(crate) struct JobCommand {
    #[command(flatten)]
    pub(crate) job: JobArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PlanCommand {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Print it in the DOT language of Graphviz
    #[arg(long, conflicts_with = "json")]
    pub(crate) dot: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SavepointCommand {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Make the savepoint's directory below this one; path or URL [default: the job's savepoint.dir]
    #[arg(long)]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopCommand {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Bring event time to its end first, so that all timers and windows fire; not for jobs to be resumed
    #[arg(long)]
    pub(crate) drain: bool,
    /// Make the savepoint's directory below this one; path or URL [default: the job's savepoint.dir]
    #[arg(long)]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RescaleCommand {
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Of all operators but those for which the program sets a lower one; the slots must be there already
    #[arg(long, value_name = "NUMBER")]
    pub(crate) parallelism: u32,
}

#[derive(Debug, Args)]
pub(crate) struct LocalClusterCommand {
    /// How many taskmanagers
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) taskmanagers: u32,
    /// The job's id; one that was started before goes on [default: a new one]
    #[arg(long)]
    pub(crate) job_id: Option<String>,
    /// Where the jobmanager listens [default: a free port of this machine]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Where others reach the jobmanager, if that is not where it listens
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) advertise: Option<String>,
    /// Print everything that the processes say, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// The program
    #[arg(last = true, required = true, value_name = "PROGRAM ARGUMENTS")]
    pub(crate) program: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterCommand {
    /// Directory with the programs that may be run: the executable files directly in it, by their names
    #[arg(long, value_name = "DIR")]
    pub(crate) jobs: PathBuf,
    /// Directory for what must outlive this process; a cluster that is started again on it goes on with its jobs
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Slots, for all jobs together
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: u32,
    /// Where commands are taken; the jobmanagers listen at the same host, at any free ports
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6120")]
    pub(crate) listen: String,
    /// Where jobs have their checkpoints that name no checkpoint.dir; path or URL [default: checkpoints in --data]
    #[arg(long, value_name = "PLACE")]
    pub(crate) checkpoint_dir: Option<String>,
    /// File with a text that commands must have, too; that or TLS is needed to listen beyond this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A certificate, in PEM: connections are encrypted, and both ends must have one of the authority
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_authority"])]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authority
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_authority: Option<PathBuf>,
}

impl ClusterCommand {
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            authority: self.tls_authority.clone()?,
        })
    }
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").args(["cluster"]).required(true)))]
pub(crate) struct RunCommand {
    /// Its name in the cluster's directory of programs
    pub(crate) program: String,
    /// Refuse it unless this is the SHA-256 of the file
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<ProgramHash>,
    /// The job's id; one that has not ended goes on [default: a new one]
    #[arg(long)]
    pub(crate) job_id: Option<String>,
    /// Slots for the job, in all [default: as many as it needs]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slots: Option<u32>,
    /// Processes over which the slots are spread
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) taskmanagers: u32,
    #[command(flatten)]
    pub(crate) reach: ReachArguments,
    /// The program's flags
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}

/// Milliseconds of a duration such as `1h`.
fn duration(text: &str) -> std::result::Result<u64, String> {
    tidegate::config::parse_duration(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
