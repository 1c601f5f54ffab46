//! Networks that misbehave: a proxy between members. Whatever it does, the output is exact, and what breaks is noticed.

use crate::cluster::{Cluster, FIXED_DELAY, Setup};
use crate::common::{LONG, free_address};
use std::time::{Duration, Instant};
use tidegate_recovery_tests::proxy::{Direction, Pace, Proxy, Trouble};

/// Lasts through all the trouble of a test.
const SETUP: Setup = Setup {
    job: "counting-1",
    records: 240_000,
    rate: 8_000,
    checkpoint_interval: "200ms",
    keeps_all: false,
    beside: false,
    flags: FIXED_DELAY,
};

/// Damages what passes until somebody has noticed something: damage to what says nothing is none.
fn strike_until_noticed(
    cluster: &Cluster,
    proxy: &Proxy,
    direction: Direction,
    trouble: Trouble,
    signs: &[&str],
) {
    let noticed = || {
        let log = cluster.log();
        signs.iter().map(|sign| log.matches(sign).count()).sum::<usize>()
    };
    let (before, start) = (noticed(), Instant::now());
    let restored = cluster.log().matches("restored from checkpoint").count();
    while noticed() == before {
        assert!(start.elapsed() < LONG, "{trouble:?} {direction:?}: not noticed\n{}", cluster.log());
        proxy.strike(direction, trouble);
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.wait_for("restored from checkpoint", restored + 1);
    cluster.wait_for_output();
}

fn is_unnoticed(cluster: &Cluster, change: impl FnOnce()) {
    let restored = |cluster: &Cluster| cluster.log().matches("restored from checkpoint").count();
    let before = restored(cluster);
    change();
    (0..3).for_each(|_| cluster.wait_for_output());
    assert_eq!(restored(cluster), before, "{}", cluster.log());
}

#[test]
fn a_proxy_in_front_of_the_jobmanager_does_everything_wrong() {
    let mut cluster = Cluster::of_jobmanager(SETUP, None);
    let proxy = Proxy::start(cluster.address.parse().unwrap(), 1).unwrap();
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.taskmanagers.push(cluster.spawn_taskmanager_at(&proxy.address().to_string(), &[]));
    cluster.wait_for_output();
    is_unnoticed(&cluster, || {
        for direction in [Direction::There, Direction::Back] {
            proxy.set_pace(direction, Pace { delay: Duration::from_millis(20), rate: None });
        }
    });
    for direction in [Direction::There, Direction::Back] {
        proxy.set_pace(direction, Pace::default());
    }
    let signs = ["lost the jobmanager, looking for one", " is gone: "];
    for trouble in Trouble::ALL {
        for direction in [Direction::There, Direction::Back] {
            strike_until_noticed(&cluster, &proxy, direction, trouble, &signs);
        }
    }
    cluster.finish();
}

#[test]
fn a_proxy_between_two_taskmanagers_does_everything_wrong() {
    let mut cluster = Cluster::of_jobmanager(SETUP, None);
    // The first one listens elsewhere than the second one is told.
    let listen = free_address();
    let proxy = Proxy::start(listen.parse().unwrap(), 2).unwrap();
    let told = proxy.address().to_string();
    let both = format!("{},{}", cluster.address, cluster.standby_address);
    let behind = ["--listen", listen.as_str(), "--advertise", told.as_str()];
    cluster.taskmanagers.push(cluster.spawn_taskmanager_at(&both, &behind));
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.wait_for_output();
    assert!(proxy.connections() > 0, "the records do not go through it");
    // Far slower than a second for all that waits in a channel.
    is_unnoticed(&cluster, || {
        for direction in [Direction::There, Direction::Back] {
            proxy.set_pace(direction, Pace { delay: Duration::from_millis(5), rate: Some(200_000) });
        }
    });
    for direction in [Direction::There, Direction::Back] {
        proxy.set_pace(direction, Pace::default());
    }
    let signs = ["the connection to the taskmanager at", "the connection from the taskmanager at"];
    for trouble in Trouble::ALL {
        for direction in [Direction::There, Direction::Back] {
            strike_until_noticed(&cluster, &proxy, direction, trouble, &signs);
        }
    }
    cluster.finish();
}
