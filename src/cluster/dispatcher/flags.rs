//! Flags of a job that a standing cluster does not take, because it sets them itself.

use crate::config::options;
use crate::error::{Error, Result};

/// Options that make a process a member of the cluster, or a stranger to it.
const OWN: [&str; 13] = [
    "job.id",
    "cluster.role",
    "cluster.jobmanager",
    "cluster.listen",
    "cluster.advertise",
    "cluster.token-file",
    "cluster.tls.certificate",
    "cluster.tls.key",
    "cluster.tls.authority",
    "cluster.standby",
    "cluster.watch-stdin",
    "cluster.taskmanagers",
    "cluster.slots",
];
/// Flags that are no options and keep a job from running.
const PURE: [&str; 2] = ["plan", "help"];
/// Longest command line, in bytes.
const LONGEST: usize = 64 << 10;

/// Refuses arguments of a job that would break the cluster that runs it.
///
/// # Errors
/// A config error that names the flag.
pub(super) fn check(arguments: &[String]) -> Result<()> {
    let length: usize = arguments.iter().map(|argument| argument.len() + 1).sum();
    if length > LONGEST {
        return Err(Error::config(format!("the arguments have {length} bytes, and {LONGEST} are taken"))
            .hint("put options into a file, and name it with --config"));
    }
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let name = match argument.strip_prefix("-D") {
            Some("") => arguments.next().map(String::as_str).unwrap_or_default(),
            Some(pair) => pair,
            None if argument == "-h" => "help",
            None => argument.strip_prefix("--").unwrap_or_default(),
        };
        let name = name.split('=').next().unwrap_or_default().trim();
        let option = options().iter().find(|option| option.key() == name || option.alias() == Some(name));
        let key = option.map_or(name, |option| option.key());
        if OWN.contains(&key) {
            return Err(Error::config(format!("{key} is set by the cluster")).at(format!("flag {argument}")).hint(
                "leave it out; tidegate run has flags of its own for the job's id, slots and taskmanagers",
            ));
        }
        if PURE.contains(&key) {
            return Err(Error::config("the job would not run").at(format!("flag {argument}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(line: &str) -> Result<()> {
        check(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_the_cluster_sets_itself_is_refused_however_it_is_written() {
        for line in [
            "--role jobmanager",
            "--input a --cluster.role=local",
            "-D cluster.slots=9",
            "-Dcluster.slots=9",
            "--job-id x",
            "--job.id=x",
            "--listen 0.0.0.0:1",
            "--advertise elsewhere:1",
            "--jobmanager elsewhere:1",
            "--cluster.token-file /dev/null",
            "--cluster.tls.key=/dev/null",
            "--standby",
            "--cluster.watch-stdin false",
            "--taskmanagers 9",
        ] {
            let e = checked(line).unwrap_err().to_string();
            assert!(e.contains("is set by the cluster"), "{line}: {e}");
        }
        for line in ["--plan json", "--help", "-h"] {
            assert!(checked(line).unwrap_err().to_string().contains("would not run"), "{line}");
        }
        for option in OWN {
            assert!(options().iter().any(|o| o.key() == option), "{option}");
        }
        checked("--input jobmanager --parallelism 2 -D checkpoint.interval=1s --config x.yaml").unwrap();
        assert!(check(&["x".repeat(LONGEST)]).is_err());
    }
}
