//! `tidegate local-cluster`: a program as a cluster of processes on this machine.

use crate::arguments::LocalClusterCommand;
use crate::{Outcome, block_on, now_ms};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tidegate::cluster::LocalCluster;
use tidegate::error::{Error, Result};
use tidegate::graph::JobGraph;
use tidegate::id::JobId;

pub(crate) fn run(command: LocalClusterCommand) -> Result<Outcome> {
    let mut program = command.program.into_iter();
    let binary = program.next().ok_or_else(|| Error::config("no program is named"))?;
    let arguments: Vec<String> = program.collect();
    // What is wrong with the program is better said once than by every process.
    let name = name_of_job(&binary, &arguments)?;
    let random = std::process::id() ^ (now_ms() as u32).rotate_left(16);
    let job = command.job_id.or_else(|| job_id(&arguments).map(str::to_owned));
    let cluster = LocalCluster {
        program: PathBuf::from(&binary),
        arguments,
        taskmanagers: command.taskmanagers,
        job: job.unwrap_or_else(|| JobId::new(&name, random).to_string()),
        listen: command.listen,
        advertise: command.advertise,
        live: !command.plain && std::io::stderr().is_terminal(),
    };
    let code = block_on(cluster.run())?;
    Ok(Outcome::Code(u8::try_from(code).unwrap_or(1)))
}

/// Has the program print its plan, for which it runs nothing.
fn name_of_job(binary: &str, arguments: &[String]) -> Result<String> {
    let cannot_start = |e| {
        Error::config("cannot be started")
            .with_source(e)
            .at(binary)
            .hint("name a program after the two dashes")
    };
    let mut planning = Command::new(binary);
    planning.args(LocalCluster::common_arguments(arguments)).args([
        "--role",
        "local-cluster",
        "--plan",
        "json",
    ]);
    let output = planning.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(cannot_start)?;
    if !output.status.success() {
        return Err(Error::config("does not start, see above").at(binary));
    }
    let plan: JobGraph = serde_json::from_slice(&output.stdout).map_err(|e| {
        Error::config("does not print a plan when it is called with --plan json")
            .with_source(e)
            .at(binary)
            .hint("use a program of this release of Tidegate that takes its flags from the command line")
    })?;
    Ok(plan.name)
}

/// The job's id among a program's arguments.
fn job_id(arguments: &[String]) -> Option<&str> {
    const FLAGS: [&str; 2] = ["--job-id", "--job.id"];
    arguments.iter().enumerate().find_map(|(index, argument)| match argument.split_once('=') {
        Some((flag, id)) if FLAGS.contains(&flag) => Some(id),
        None if FLAGS.contains(&argument.as_str()) => arguments.get(index + 1).map(String::as_str),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_job_is_found_as_it_is_written() {
        let found = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
            job_id(&arguments).map(str::to_owned)
        };
        assert_eq!(found(&["--input", "a", "--job-id", "x"]).as_deref(), Some("x"));
        assert_eq!(found(&["--job.id=y", "--input"]).as_deref(), Some("y"));
        assert_eq!(found(&["--input", "a", "--job-id"]), None);
    }
}
