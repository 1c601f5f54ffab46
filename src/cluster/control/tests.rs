//! The control socket from both sides, with a job that is none.

use super::*;
use crate::cluster::JobController;
use crate::cluster::jobmaster::JobResult;
use crate::id::JobId;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

fn job(id: &str) -> JobId {
    JobId::from(id.to_owned())
}

fn directory() -> (tempfile::TempDir, ControlDirectory) {
    let temp = tempfile::tempdir().unwrap();
    let directory = ControlDirectory::open(&temp.path().join("run")).unwrap();
    (temp, directory)
}

#[test]
fn only_the_owner_may_enter() {
    let (temp, _) = directory();
    let path = temp.path().join("run");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    let refused = ControlDirectory::open(&path).unwrap_err().to_string();
    assert!(refused.contains("others may enter it: its mode is 750"), "{refused}");
}

#[test]
fn a_socket_nobody_listens_on_is_removed_and_one_that_is_listened_on_is_not() {
    let (_temp, directory) = directory();
    drop(UnixListener::bind(directory.socket(&job("dead"))).unwrap());
    let alive = UnixListener::bind(directory.socket(&job("alive"))).unwrap();
    assert!(ControlClient::ask(&directory, &job("dead"), &ControlRequest::Report).is_err());
    assert!(ControlClient::ask(&directory, &job("alive"), &ControlRequest::Report).is_ok());
    let left: Vec<JobId> = directory.sockets().unwrap().into_iter().map(|(job, _)| job).collect();
    assert_eq!(left, [job("alive")]);
    drop(alive);
}

#[test]
fn a_job_that_is_gone_and_nonsense_are_answered_with_an_error_and_the_end_is_told() {
    let (_temp, directory) = directory();
    let controller = JobController::of_nothing();
    let server = ControlServer::start(&directory, &job("j"), controller.clone()).unwrap();
    let mut client = ControlClient::ask(&directory, &job("j"), &ControlRequest::Report).unwrap();
    let e = client.reply().unwrap_err().to_string();
    assert!(e.contains("the job has ended"), "{e}");
    let raw = std::os::unix::net::UnixStream::connect(directory.socket(&job("j"))).unwrap();
    std::io::Write::write_all(&mut &raw, b"{\"command\":\"explode\"}\n").unwrap();
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&raw), &mut answer).unwrap();
    assert!(answer.contains("not a control message"), "{answer}");

    let mut waiting = ControlClient::ask(&directory, &job("j"), &ControlRequest::Cancel).unwrap();
    controller.set_ended(JobResult::Canceled);
    let ended = ControlReply::Ended { status: "canceled".into(), failure: None };
    assert_eq!(waiting.reply().unwrap(), ended);
    server.finish();
    assert!(directory.sockets().unwrap().is_empty(), "the socket is removed");
}

/// A jobmanager that was frozen while another one took over ends; it must neither wait for its socket, which nobody can
/// connect to any more, nor take away the other one's.
#[test]
fn a_server_whose_place_was_taken_ends_and_leaves_the_other_alone() {
    let (_temp, directory) = directory();
    let start = || ControlServer::start(&directory, &job("j"), JobController::of_nothing()).unwrap();
    let (first, second) = (start(), start());
    first.finish();
    drop(start());
    assert!(directory.sockets().unwrap().is_empty(), "the last one has removed its own");
    drop(second);
    let third = start();
    drop(ControlClient::ask(&directory, &job("j"), &ControlRequest::Report).unwrap());
    drop(third);
}
