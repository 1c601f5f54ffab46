//! A function that does not come back.

use crate::cluster::{Cluster, FIXED_DELAY, Setup};
use crate::common::wait;
use tidegate::cluster::control::{ControlReply, ControlRequest};

/// It is named, its taskmanager is given up after `cluster.cancel-timeout` and ends, and the job goes on with another one.
#[test]
fn a_function_that_never_returns_costs_its_taskmanager_and_not_the_job() {
    const LIMITS: &[&str] = &["--cluster.cancel-timeout", "1s", "--checkpoint.timeout", "2s"];
    let flags: &'static [&'static str] = Box::leak([LIMITS, FIXED_DELAY].concat().into_boxed_slice());
    let mut cluster = Cluster::of_jobmanager(Setup { keeps_all: false, flags, ..Setup::default() }, None);
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.taskmanagers.push(cluster.spawn_taskmanager_with("TIDEGATE_BLOCK_AT", "10000"));
    let ended = wait(&mut cluster.taskmanagers[1]);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", cluster.log());
    let log = cluster.log();
    let given_up = log.lines().find(|line| line.contains("given up by the jobmanager"));
    let given_up = given_up.unwrap_or_else(|| panic!("nothing is said of it\n{log}"));
    // Which of the two it has is up to who registered first.
    assert!(
        given_up.contains(" of 2 of 'keyed process -> sink'")
            && given_up.contains("not stopped within 1000 ms"),
        "{given_up}"
    );
    let exceptions = cluster.ask(&ControlRequest::Exceptions).unwrap();
    let ControlReply::Exceptions { exceptions } = exceptions else { panic!("{exceptions:?}") };
    assert!(format!("{exceptions:?}").contains("checkpoint"), "{exceptions:?}");
    cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.finish();
}
