//! A jobmanager's port, and those who call it.

use super::client::{join, join_as, who};
use super::*;
use crate::cluster::jobmanager::Inbox;
use crate::error::{Error, ErrorKind};
use crate::id::{JobId, LeaderEpoch};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn register() -> Register {
    Register {
        job: Some("words-1".to_owned()),
        token: "sesame".to_owned(),
        program: "abc".to_owned(),
        backend: "memory".to_owned(),
        slots: 1,
        data_address: "127.0.0.1:1".to_owned(),
        pid: 1,
    }
}

/// A jobmanager that has not found out yet what it is.
fn starting(runtime: &Runtime) -> (String, RpcServer) {
    let (listener, address) = runtime.block_on(RpcServer::bind("127.0.0.1:0")).unwrap();
    let (standing, sessions, events) = (Standing::new("nonce-1"), Sessions::default(), Inbox::new().events);
    let token = "sesame".to_owned();
    let server = RpcServer::start(listener, None, token, standing, sessions, events, runtime.handle());
    (address.to_string(), server)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn one_that_is_still_starting_says_who_it_is() {
    let runtime = runtime();
    let (address, server) = starting(&runtime);
    assert_eq!(runtime.block_on(who(&address, None, LONG)).unwrap(), "nonce-1");
    drop(server);
    let e = runtime.block_on(who(&address, None, LONG)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Retry, "{e}");
}

/// Before anything that it says is read: in another version it may mean something else.
#[test]
fn one_of_another_version_is_told_both() {
    let runtime = runtime();
    let (address, _server) = starting(&runtime);
    let Err(e) = runtime.block_on(join_as(77, &address, None, register(), LONG)) else { panic!("admitted") };
    assert_eq!(e.kind(), ErrorKind::Config);
    let e = e.to_string();
    assert!(e.contains("the taskmanager speaks version 77, the jobmanager 2"), "{e}");
    assert!(e.contains("same release"), "{e}");
    let Err(e) = runtime.block_on(join(&address, None, register(), LONG)) else { panic!("admitted") };
    assert_eq!(e.kind(), ErrorKind::Retry, "not refused, but not taken either: {e}");
}

#[test]
fn strangers_are_refused_by_name() {
    let admission = Admission {
        program: "abc".to_owned(),
        backend: "memory".to_owned(),
        leader_epoch: LeaderEpoch(1),
        settings: Settings {
            job: JobId::from("words-1".to_owned()),
            secret: String::new(),
            checkpoint_dir: String::new(),
            storage_timeout_ms: 1,
            zstd: false,
            heartbeat_interval_ms: 1,
            heartbeat_timeout_ms: 1,
            cancel_timeout_ms: 1,
        },
    };
    let refusal = |change: &dyn Fn(&mut Register)| {
        let mut register = register();
        change(&mut register);
        admission.refusal("sesame", &register).as_ref().map(Error::to_string)
    };
    assert_eq!(refusal(&|_| ()), None);
    assert_eq!(refusal(&|r| r.job = None), None, "one that does not know its job yet");
    let refused = |why: &str, change: &dyn Fn(&mut Register)| {
        let e = refusal(change).expect("refused");
        assert!(e.contains(why), "{e}");
    };
    refused("is of job words-2, the jobmanager leads job words-1", &|r| r.job = Some("words-2".into()));
    refused("does not have the jobmanager's token", &|r| r.token = "guess".into());
    refused("runs another program", &|r| r.program = "abd".into());
    refused("has state.backend rocksdb", &|r| r.backend = "rocksdb".into());
}
