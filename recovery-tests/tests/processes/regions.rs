//! Two programs in one job that have nothing to do with each other: a dead taskmanager takes one of them with it.

use crate::cluster::{Cluster, Setup};
use tidegate_recovery_tests::counting::Counting;
use tidegate_recovery_tests::oracle;

#[test]
fn a_dead_taskmanager_takes_only_its_region_with_it() {
    let mut cluster = Cluster::of_jobmanager(Setup { beside: true, ..Setup::default() }, None);
    cluster.taskmanagers = (0..4).map(|_| cluster.spawn_taskmanager(None)).collect();
    for (round, victim) in [0, 3, 1].into_iter().enumerate() {
        cluster.wait_for_output();
        cluster.kill_taskmanager(victim);
        cluster.wait_for("restored from checkpoint", round + 1);
    }
    cluster.end();
    cluster.check_output();
    let expected = Counting::new(cluster.setup.records, None).expected();
    assert_eq!(oracle::difference(&expected, &cluster.published("beside")), None, "{}", cluster.log());
    // One that dies while a checkpoint is committed takes everything with it.
    let regional = cluster.log().matches("; the rest goes on").count();
    assert!(regional >= 2, "{}", cluster.log());
}
