//! Commands of people that reach a job through the port of its jobmanager, in another process.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod common;

use common::{Cluster, command, error, free_address, json, out, wait};
use serde_json::Value;

fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn write(path: &std::path::Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_job_is_looked_at_and_stopped_with_its_token() {
    let tokens = tempfile::tempdir().unwrap();
    let token = write(&tokens.path().join("token"), "a secret\n");
    let other = write(&tokens.path().join("other"), "another secret\n");
    let mut cluster = Cluster::endless(&["--cluster.token-file", &token]);
    let asked = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--token-file", &token]);
        cluster.command(&all)
    };
    cluster.wait_for_output();

    let listed = json(&asked(&["list", "--json"]));
    assert_eq!((&listed[0]["job"], &listed[0]["status"]), (&"counting-1".into(), &"running".into()));
    assert!(out(&asked(&["list"]), 0).contains("counting-1"));

    let info = json(&asked(&["info", "--json"]));
    let fields = [
        "aborted",
        "attempt",
        "checkpoints",
        "completed",
        "directory",
        "job",
        "jobmanager",
        "last_checkpoint",
        "leader_epoch",
        "name",
        "plan",
        "restarts",
        "slots",
        "started_at_ms",
        "status",
        "taskmanagers",
    ];
    assert_eq!(names(&info), fields, "the shape is documented");
    assert_eq!((&info["jobmanager"], &info["leader_epoch"]), (&cluster.address.as_str().into(), &1.into()));
    let mut pids: Vec<u64> = Vec::new();
    for taskmanager in info["taskmanagers"].as_array().unwrap() {
        assert_eq!(names(taskmanager), ["id", "process", "slots", "subtasks"]);
        assert_eq!(taskmanager["slots"], 1);
        let subtasks = taskmanager["subtasks"].as_array().unwrap();
        assert!(!subtasks.is_empty() && subtasks.iter().all(|s| names(s) == ["index", "name", "vertex"]));
        pids.push(taskmanager["process"]["pid"].as_u64().unwrap());
    }
    let mut children: Vec<u64> = cluster.taskmanagers.iter().map(|child| child.id().into()).collect();
    pids.sort_unstable();
    children.sort_unstable();
    assert_eq!(pids, children);
    assert!(info["checkpoints"].as_array().unwrap().iter().any(|c| c["failure"].is_null()));
    let text = out(&asked(&["info"]), 0);
    assert!(text.contains(&pids[0].to_string()) && text.contains("#2"), "{text}");

    let plan = json(&asked(&["plan", "--json"]));
    assert_eq!(names(&plan), ["edges", "name", "vertices"]);
    let text = out(&asked(&["plan"]), 0);
    assert!(text.contains("uid count") && text.contains("hash"), "{text}");
    assert!(out(&asked(&["plan", "--dot"]), 0).starts_with("digraph"));

    // By a name, and by the wrong one.
    let savepoint = json(&asked(&["savepoint", "counting", "--json"]));
    assert!(std::path::Path::new(savepoint["location"].as_str().unwrap()).is_dir(), "{savepoint}");
    let wrong = error(&asked(&["info", "sorting"]), 2);
    assert!(wrong.contains("has job counting-1, not 'sorting'"), "{wrong}");
    let relative = error(&asked(&["savepoint", "--target", "here"]), 2);
    assert!(relative.contains("a relative path means nothing"), "{relative}");

    // Without the token nothing is said, and nothing done.
    for arguments in [vec!["cancel"], vec!["cancel", "--token-file", &other]] {
        let refused = error(&cluster.command(&arguments), 2);
        assert!(refused.contains(&cluster.address), "{refused}");
        assert!(
            refused.contains("does not have the jobmanager's token (give it with --token-file"),
            "{refused}"
        );
    }

    // A failure is remembered.
    assert_eq!(json(&asked(&["exceptions", "--json"])), Value::Array(vec![]));
    cluster.taskmanagers[0].kill().unwrap();
    cluster.taskmanagers[0].wait().unwrap();
    cluster.taskmanagers[0] = cluster.taskmanager(&cluster.address, &[]);
    cluster.wait_for("restored from checkpoint", 1);
    let asked = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--token-file", &token]);
        cluster.command(&all)
    };
    let exceptions = json(&asked(&["exceptions", "--json"]));
    let fields = ["at_ms", "attempt", "kind", "message", "restarting_after_ms", "subtask", "taskmanager"];
    assert_eq!(names(&exceptions[0]), fields);
    // Who notices first, the jobmanager or the other taskmanager.
    let message = exceptions[0]["message"].as_str().unwrap();
    let noticed = ["its connection was closed", "the taskmanager at"];
    assert!(noticed.iter().any(|text| message.contains(text)), "{exceptions}");
    assert!(exceptions[0]["restarting_after_ms"].is_u64(), "{exceptions}");
    let text = out(&asked(&["exceptions"]), 0);
    assert!(text.contains("attempt 1") && text.contains("restarted after"), "{text}");

    cluster.wait_for_output();
    let stopped = json(&asked(&["stop", "--json"]));
    assert!(std::path::Path::new(stopped["location"].as_str().unwrap()).is_dir(), "{stopped}");
    let ended = wait(&mut cluster.jobmanager);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", cluster.log());
    for taskmanager in &mut cluster.taskmanagers {
        assert!(wait(taskmanager).is_some_and(|status| status.success()));
    }
    assert!(cluster.check_output() > 0);
    let gone = error(&cluster.command(&["list", "--token-file", &token]), 2);
    assert!(gone.contains(&format!("nobody answers at {}", cluster.address)), "{gone}");
    assert!(gone.contains("look whether --jobmanager names its cluster.listen"), "{gone}");
}

#[test]
fn a_job_is_rescaled_or_says_why_not() {
    let mut cluster = Cluster::endless(&[]);
    cluster.wait_for_output();
    let rescaled = json(&cluster.command(&["rescale", "--parallelism", "1", "--json"]));
    assert_eq!(names(&rescaled), ["job", "parallelism"]);
    assert_eq!((&rescaled["job"], &rescaled["parallelism"]), (&"counting-1".into(), &1.into()));
    cluster.wait_for("restored from checkpoint", 1);
    cluster.wait_for_output();
    let wide = error(&cluster.command(&["rescale", "--parallelism", "3"]), 2);
    assert!(wide.contains("the job would need 3 slots and there are 2 (start taskmanagers first)"), "{wide}");
    let none = error(&cluster.command(&["rescale", "--parallelism", "0"]), 2);
    assert!(none.contains("parallelism 0 is not between 1 and"), "{none}");
    let rescaled = out(&cluster.command(&["rescale", "counting", "--parallelism", "2"]), 0);
    assert_eq!(rescaled, "job counting-1 goes on at parallelism 2\n");
    cluster.wait_for("restored from checkpoint", 2);
    cluster.wait_for_output();
    let nonsense = error(&cluster.command(&["rescale", "--parallelism", "many"]), 2);
    assert!(nonsense.contains("invalid value 'many'"), "{nonsense}");

    assert_eq!(out(&cluster.command(&["cancel"]), 0), "job counting-1 is canceled\n");
    _ = wait(&mut cluster.jobmanager);
    assert!(cluster.check_output() > 0);
}

#[test]
fn a_standby_names_the_leader_until_it_leads_itself() {
    let mut cluster = Cluster::endless(&[]);
    cluster.wait_for_output();
    let standby = cluster.standby();
    cluster.wait_for("standing by for the jobmanager", 1);
    let refused = error(&command(&["info", "--jobmanager", &standby]), 2);
    let said = format!("stands by; job counting-1 is led by the one at {}", cluster.address);
    assert!(refused.contains(&said) && refused.contains("ask that one"), "{refused}");

    // With both addresses the leader is found, also when the standby is asked first; and so do taskmanagers.
    let both = format!("{standby},{}", cluster.address);
    let found = json(&command(&["info", "--jobmanager", &both, "--json"]));
    assert_eq!(found["jobmanager"], cluster.address.as_str());
    for index in 0..2 {
        cluster.taskmanagers[index].kill().unwrap();
        cluster.taskmanagers[index].wait().unwrap();
        cluster.taskmanagers[index] = cluster.taskmanager(&both, &[]);
    }
    cluster.wait_for("restored from checkpoint", 1);

    cluster.jobmanager.kill().unwrap();
    cluster.jobmanager.wait().unwrap();
    cluster.wait_for("restored from checkpoint", 2);
    cluster.wait_for_output();
    let found = json(&command(&["info", "--jobmanager", &both, "--json"]));
    assert_eq!((&found["jobmanager"], &found["leader_epoch"]), (&standby.as_str().into(), &2.into()));

    let canceled = out(&command(&["cancel", "--jobmanager", &standby]), 0);
    assert_eq!(canceled, "job counting-1 is canceled\n");
    assert!(cluster.check_output() > 0);
}

#[test]
fn nobody_and_somebody_else_at_the_address_are_told_apart() {
    let address = free_address();
    let nobody = error(&command(&["list", "--jobmanager", &address]), 2);
    assert!(nobody.contains(&format!("nobody answers at {address}: Connection refused")), "{nobody}");
    let nonsense = error(&command(&["list", "--jobmanager", "not an address"]), 2);
    assert!(nonsense.contains("'not an address' is no address"), "{nonsense}");
    let usage = error(&command(&["info"]), 2);
    assert!(usage.contains("<JOB>"), "{usage}");
}
