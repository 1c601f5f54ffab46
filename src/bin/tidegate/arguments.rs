//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tidegate::cluster::TlsFiles;

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
    /// List your running jobs on this machine, or the one of a jobmanager
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
pub(crate) struct ReachArguments {
    #[command(flatten)]
    pub(crate) control: ControlArguments,
    /// Reach the job through its jobmanager; several addresses with commas between them
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "control_dir")]
    pub(crate) jobmanager: Option<String>,
    /// The jobmanager's cluster.token-file, if it has one
    #[arg(long, value_name = "FILE", requires = "jobmanager")]
    pub(crate) token_file: Option<PathBuf>,
    /// A certificate of the cluster's authority, in PEM, if the jobmanager has cluster.tls
    #[arg(long, value_name = "FILE", requires_all = ["jobmanager", "tls_key", "tls_authority"])]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The cluster's authority
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_authority: Option<PathBuf>,
}

impl ReachArguments {
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            authority: self.tls_authority.clone()?,
        })
    }
}

/// Which running job.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// Job id or the beginning of one, its directory, or a checkpoint directory with one running job; may be left out with
    /// --jobmanager
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
    /// Print everything that the processes say, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// The program
    #[arg(last = true, required = true, value_name = "PROGRAM ARGUMENTS")]
    pub(crate) program: Vec<String>,
}

/// Milliseconds of a duration such as `1h`.
fn duration(text: &str) -> Result<u64, String> {
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
