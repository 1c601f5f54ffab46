//! A cluster of processes that speaks TLS, and strangers at its door.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod common;

use common::certificates::Authority;
use common::{Cluster, error, json, out, strs, tls, wait};

const MEMBER: &str = "cluster.tls.";
const COMMAND: &str = "tls-";

#[test]
fn an_encrypted_cluster_survives_a_kill_and_takes_commands_of_its_own_only() {
    let files = tempfile::tempdir().unwrap();
    let files = files.path();
    let own = Authority::new(files, "own");
    let own_flags = tls(MEMBER, &own.sign(files, "member"), &own);
    let mut cluster = Cluster::endless(&strs(&own_flags));
    cluster.wait_for_output();
    cluster.taskmanagers[0].kill().unwrap();
    cluster.taskmanagers[0].wait().unwrap();
    cluster.taskmanagers[0] = cluster.taskmanager(&cluster.address, &[]);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.wait_for_output();
    cluster.jobmanager.kill().unwrap();
    cluster.jobmanager.wait().unwrap();
    cluster.jobmanager = cluster.jobmanager_at(&cluster.address);
    cluster.wait_for("restored from checkpoint", 2);
    cluster.wait_for_output();

    let person = tls(COMMAND, &own.sign(files, "person"), &own);
    let ask = |command: &str| {
        let mut all = vec![command];
        all.extend(strs(&person));
        cluster.command(&all)
    };
    assert!(out(&ask("list"), 0).contains("counting-1"));
    let refused = error(&cluster.command(&["cancel"]), 2);
    assert!(refused.contains("it takes encrypted connections only"), "{refused}");
    let expired = tls(COMMAND, &own.sign_expired(files, "expired"), &own);
    let mut all = vec!["cancel"];
    all.extend(strs(&expired));
    let refused = error(&cluster.command(&all), 2);
    assert!(refused.contains("refuses the certificate of this process: CertificateExpired"), "{refused}");
    let half = error(&cluster.command(&["list", &person[0]]), 2);
    assert!(half.contains("--tls-key"), "{half}");

    let stopped = cluster.command(&[vec!["stop", "--json"], strs(&person)].concat());
    assert!(json(&stopped)["location"].is_string());
    assert!(wait(&mut cluster.jobmanager).is_some_and(|status| status.success()), "{}", cluster.log());
    assert!(cluster.check_output() > 0);
}

#[test]
fn strangers_are_refused_at_once_and_told_why() {
    let files = tempfile::tempdir().unwrap();
    let files = files.path();
    let (own, other) = (Authority::new(files, "own"), Authority::new(files, "other"));
    let own_flags = tls(MEMBER, &own.sign(files, "member"), &own);
    let mut cluster = Cluster::endless(&strs(&own_flags));
    cluster.wait_for_output();
    let foreign = other.sign(files, "foreign");
    let strangers = [
        (vec![], "it takes encrypted connections only"),
        (tls(MEMBER, &foreign, &other), "the certificate of the jobmanager at"),
        (tls(MEMBER, &foreign, &own), "refuses the certificate of this process: UnknownCA"),
        (
            tls(MEMBER, &own.sign_expired(files, "expired"), &own),
            "refuses the certificate of this process: CertificateExpired",
        ),
    ];
    for (flags, why) in strangers {
        let ended = cluster.stranger(&strs(&flags));
        assert_eq!(ended.code(), Some(1), "{why}\n{}", cluster.log());
        assert!(cluster.log().contains(why), "{why}\n{}", cluster.log());
    }
    let refusals = cluster.log().matches("tidegate: a connection from").count();
    assert!(refusals >= 4, "the jobmanager says so, too\n{}", cluster.log());
    cluster.wait_for_output();
    assert!(
        !cluster.log().contains("restored from checkpoint"),
        "the job has not noticed\n{}",
        cluster.log()
    );
}

#[test]
fn an_encrypted_taskmanager_does_not_join_a_cluster_in_clear_text() {
    let files = tempfile::tempdir().unwrap();
    let own = Authority::new(files.path(), "own");
    let mut cluster = Cluster::endless(&[]);
    cluster.wait_for_output();
    let flags = tls(MEMBER, &own.sign(files.path(), "member"), &own);
    assert_eq!(cluster.stranger(&strs(&flags)).code(), Some(1), "{}", cluster.log());
    assert!(cluster.log().contains("does not speak TLS"), "{}", cluster.log());
}
