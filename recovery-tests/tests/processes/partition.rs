//! Networks that lose what goes one way: taskmanagers in network namespaces of their own. Needs root, and Linux.

use crate::cluster::{Cluster, Setup, spawn_in};
use crate::common::wait;
use std::process::Command;

/// Two machines with a cable between them: the first has the jobmanager and a taskmanager, the other one a taskmanager.
struct Network {
    names: [String; 2],
}

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
/// Nobody has it: what is sent there is lost without a word.
const NOBODY: &str = "02:00:00:00:00:99";

/// Runs it; panics with what it said, since nothing can be tested then.
fn ip(arguments: &[&str]) {
    let ran = Command::new("ip").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success(),
        "this test makes network namespaces, so it needs root: ip {arguments:?}: {said}"
    );
}

impl Network {
    fn new(name: &str) -> Self {
        let id = std::process::id();
        let names = ["a", "b"].map(|side| format!("tidegate-{id}-{name}-{side}"));
        let this = Self { names };
        this.names.iter().for_each(|name| ip(&["netns", "add", name]));
        let [a, b] = [0, 1].map(|side| this.names[side].as_str());
        ip(&["-n", a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", b]);
        for (name, address) in this.names.iter().zip(ADDRESSES) {
            ip(&["-n", name, "link", "set", "lo", "up"]);
            ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", "cable"]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        this
    }

    /// What this side sends to the other one is lost from now on; what the other one sends arrives.
    fn cut(&self, side: usize) {
        let (name, other) = (&self.names[side], ADDRESSES[1 - side]);
        ip(&["-n", name, "neigh", "replace", other, "lladdr", NOBODY, "dev", "cable", "nud", "permanent"]);
    }

    fn heal(&self, side: usize) {
        ip(&["-n", &self.names[side], "neigh", "del", ADDRESSES[1 - side], "dev", "cable"]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A job whose second taskmanager is on the other machine; on the way what the machine `silent` says is lost for a while.
fn cut_on_the_way(name: &str, silent: usize, noticed: &str) {
    let network = Network::new(name);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let token = path.join("token");
    std::fs::write(&token, "sesame").unwrap();
    let token = ["--cluster.token-file", token.to_str().unwrap()];
    let (setup, address) = (Setup::default(), format!("{}:6123", ADDRESSES[0]));
    let member =
        |side: usize, role: &[&str]| spawn_in(&network.names[side], setup, &path, &[role, &token].concat());
    let jobmanager = member(0, &["--role", "jobmanager", "--listen", &address]);
    let taskmanager = |side: usize| {
        let listen = format!("{}:0", ADDRESSES[side]);
        member(side, &["--role", "taskmanager", "--jobmanager", &address, "--listen", &listen])
    };
    let (taskmanagers, standby_address) = (Vec::new(), String::new());
    let mut cluster =
        Cluster { setup, address: address.clone(), standby_address, jobmanager, taskmanagers, directory };
    for side in [0, 1] {
        cluster.taskmanagers.push(taskmanager(side));
        cluster.wait_for("takes records at", side + 1);
    }
    cluster.wait_for_output();
    network.cut(silent);
    cluster.wait_for(noticed, 1);
    cluster.wait_for("waiting for slots: 1 of 2 there", 2);
    network.heal(silent);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.finish();
}

#[test]
fn a_taskmanager_that_cannot_make_itself_heard_is_replaced_by_itself_later() {
    cut_on_the_way("mute", 1, "taskmanager 1 is gone: nothing was heard of it for 1000 ms");
}

#[test]
fn a_taskmanager_that_hears_nothing_drops_what_it_has() {
    cut_on_the_way("deaf", 0, "lost the jobmanager, looking for one");
}

/// Each is at 127.0.0.1:6123 of its own machine, and they share the checkpoint directory. The second one cannot ask the first
/// one, but sees that it is alive; and when it is dead, that it is dead.
#[test]
fn two_jobmanagers_have_the_same_address_on_different_machines() {
    let network = Network::new("same");
    let directory = tempfile::tempdir().unwrap();
    let (path, setup, address) = (directory.path().to_owned(), Setup::default(), "127.0.0.1:6123".to_owned());
    let member = |side: usize, role: &[&str]| spawn_in(&network.names[side], setup, &path, role);
    let jobmanager = |side: usize| member(side, &["--role", "jobmanager"]);
    let taskmanager = |side: usize| member(side, &["--role", "taskmanager"]);
    let (taskmanagers, standby_address) = (vec![taskmanager(0), taskmanager(0)], String::new());
    let mut cluster =
        Cluster { setup, address, standby_address, jobmanager: jobmanager(0), taskmanagers, directory };
    cluster.wait_for_output();
    let mut second = jobmanager(1);
    let ended = wait(&mut second);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", cluster.log());
    cluster.wait_for("job counting-1 has a jobmanager, at 127.0.0.1:6123", 1);
    cluster.wait_for_output();
    for process in cluster.taskmanagers.iter_mut().chain([&mut cluster.jobmanager]) {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    (cluster.jobmanager, cluster.taskmanagers) = (jobmanager(1), vec![taskmanager(1), taskmanager(1)]);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.finish();
}
