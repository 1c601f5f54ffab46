//! Command lines of members.

/// A command line without the flags that say which member of a cluster a process is.
pub(super) fn without_member_flags(arguments: impl Iterator<Item = String>) -> Vec<String> {
    const FLAGS: [&str; 12] = [
        "--role",
        "--cluster.role",
        "--listen",
        "--cluster.listen",
        "--advertise",
        "--cluster.advertise",
        "--jobmanager",
        "--cluster.jobmanager",
        "--taskmanagers",
        "--cluster.taskmanagers",
        "--job-id",
        "--job.id",
    ];
    let mut kept = Vec::new();
    let mut is_value = false;
    for argument in arguments {
        let name = argument.split('=').next().unwrap_or_default();
        if is_value {
            is_value = false;
        } else if FLAGS.contains(&name) {
            is_value = name == argument;
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_the_command_line_without_what_makes_this_process_their_parent() {
        let given = [
            "--input",
            "a",
            "--role",
            "local-cluster",
            "--taskmanagers=3",
            "--job-id=x",
            "--parallelism",
            "2",
        ];
        let kept = without_member_flags(given.iter().map(|s| (*s).to_owned()));
        assert_eq!(kept, ["--input", "a", "--parallelism", "2"]);
    }
}
