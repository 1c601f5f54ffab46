//! The command `tidegate`: looks at checkpoints and savepoints, checks them, and controls running jobs.
//!
//! Exit codes: 0 done and fine; 1 damage was found, or a job did not do what it was asked; 2 the command line, or the
//! place, job, state or key it names is wrong, or something else kept the command from its work.

mod arguments;
mod checkpoint;
mod cluster;
mod fsck;
mod info;
mod jobs;
mod local_cluster;
mod show;
mod state;
mod table;

use arguments::{Arguments, Command};
use clap::Parser;
use serde::Serialize;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate::error::{Error, ErrorKind, Result};

/// How a command ended that has printed what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fine,
    /// Damage, or a job that did not do what it was asked.
    Bad,
    /// As a program that was run for the command.
    Code(u8),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let done = match arguments.command {
        Command::Checkpoint(command) => checkpoint::run(command, json),
        Command::State(command) => state::run(command, json),
        Command::Fsck(command) => fsck::run(&command, json),
        Command::List(command) => jobs::list(&command, json),
        Command::Info(command) => info::info(&command, json),
        Command::Plan(command) => info::plan(&command, json),
        Command::Exceptions(command) => info::exceptions(&command, json),
        Command::Savepoint(command) => jobs::savepoint(&command, json),
        Command::Stop(command) => jobs::stop(&command, json),
        Command::Rescale(command) => jobs::rescale(&command, json),
        Command::Cancel(command) => jobs::cancel(&command, json),
        Command::LocalCluster(command) => local_cluster::run(command),
        Command::Cluster(command) => cluster::serve(command),
        Command::Run(command) => cluster::run(command, json),
    };
    match done {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Ok(Outcome::Code(code)) => ExitCode::from(code),
        Err(e) => {
            eprintln!("tidegate: [{}] {e}", e.kind());
            // What is damaged was found by looking, whichever command looked; the rest kept it from looking.
            ExitCode::from(if matches!(e.kind(), ErrorKind::Data | ErrorKind::RestartJob) { 1 } else { 2 })
        }
    }
}

/// Runs a command that talks to a store.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::config("no threads for input and output").with_source(e))?;
    let result = runtime.block_on(work);
    // A thread that waits for a store that hangs must not keep the answer back.
    runtime.shutdown_background();
    result
}

/// Prints a result: as JSON, or as `text` makes it readable.
fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> Result<()> {
    let text = if json {
        let json = serde_json::to_string_pretty(value);
        json.map_err(|e| Error::bug("cannot encode the result").with_source(e))? + "\n"
    } else {
        text()
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as `head`.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Now, in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the one clock of this process")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
