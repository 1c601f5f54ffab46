//! Jobs that go on at another parallelism.

use crate::cluster::{Cluster, Setup};
use tidegate::cluster::control::{ControlReply, ControlRequest};

#[test]
fn a_job_is_rescaled_and_a_new_jobmanager_keeps_to_it() {
    let mut cluster = Cluster::start(2);
    cluster.wait_for_output();
    assert_eq!(cluster.parallelism(), 2);
    let refused = cluster.ask(&ControlRequest::Rescale { parallelism: 3 }).unwrap_err().to_string();
    assert!(refused.contains("the job would need 3 slots and there are 2"), "{refused}");
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.wait_for("takes records at", 3);
    let done = cluster.ask(&ControlRequest::Rescale { parallelism: 3 }).unwrap();
    assert_eq!(done, ControlReply::Rescaled { parallelism: 3 }, "{}", cluster.log());
    cluster.wait_for_output();
    cluster.kill_jobmanager();
    cluster.wait_for("restored from checkpoint", 2);
    assert_eq!(cluster.parallelism(), 3, "{}", cluster.log());
    cluster.wait_for_output();
    let done = cluster.ask(&ControlRequest::Rescale { parallelism: 1 }).unwrap();
    assert_eq!(done, ControlReply::Rescaled { parallelism: 1 }, "{}", cluster.log());
    cluster.finish();
}

#[test]
fn an_adaptive_job_shrinks_to_the_slots_that_are_left_and_grows_again() {
    let flags = &["--min-parallelism", "1", "--cluster.settle-time", "300ms"];
    let mut cluster = Cluster::of_jobmanager(Setup { flags, ..Setup::default() }, None);
    cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
    cluster.wait_for_output();
    let mut lost = cluster.taskmanagers.remove(0);
    lost.kill().unwrap();
    lost.wait().unwrap();
    cluster.wait_for("goes on at parallelism 1", 1);
    cluster.wait_for_output();
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.wait_for("goes on at parallelism 2", 1);
    cluster.wait_for_output();
    cluster.finish();
}
