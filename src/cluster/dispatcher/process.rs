//! One process of a job: started, listened to, and watched until it ends.

use super::decide::Death;
use crate::cluster::local_cluster::{Member, death};
use crate::id::JobId;
use crate::say;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a file that is being written into by a process about to start may keep another one from starting.
const BUSY: Duration = Duration::from_millis(20);
const TRIES: u32 = 50;
/// How long what a process has said last may take to arrive after its end.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// What makes a process a member of a job.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) job: JobId,
    pub(super) flags: Vec<String>,
}

/// A process has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) job: JobId,
    pub(super) member: Member,
    pub(super) how: Death,
}

/// The way to end a process that runs.
#[derive(Debug)]
pub(super) struct Handle {
    /// It ends when this is closed.
    stdin: Option<ChildStdin>,
    kill: Option<oneshot::Sender<()>>,
}

impl Handle {
    pub(super) fn dismiss(&mut self) {
        self.stdin = None;
    }

    pub(super) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            _ = kill.send(());
        }
    }
}

/// Starts a process whose program may have been written a moment ago: another one that is starting at the same time still has
/// the file open then.
pub(super) async fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 1..TRIES {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => tokio::time::sleep(BUSY).await,
            other => return other,
        }
    }
    command.spawn()
}

/// Starts a process and watches it on `tasks`; its end is told to `ended`.
///
/// # Errors
/// If it does not start.
pub(super) async fn start(
    program: &Path,
    work: &Path,
    membership: &Membership,
    member: Member,
    flags: &[String],
    tasks: &mut JoinSet<()>,
    ended: UnboundedSender<Ended>,
) -> io::Result<Handle> {
    let mut command = Command::new(program);
    command.args(&membership.flags).args(flags).current_dir(work).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command).await?;
    let job = membership.job.clone();
    let pid = child.id().unwrap_or_default();
    say::line(format_args!("[cluster] {member} {pid} of job {job} started"));
    let stdin = child.stdin.take();
    let (kill, killed) = oneshot::channel();
    let last_words = Arc::new(Mutex::new(String::new()));
    let mut listening = JoinSet::new();
    if let Some(output) = child.stderr.take() {
        listening.spawn(pass_on(format!("[{job} {member} {pid}]"), output, last_words.clone()));
    }
    if let Some(output) = child.stdout.take() {
        // Results: they are no words of farewell.
        listening.spawn(pass_on(format!("[{job} {member} {pid}]"), output, Arc::default()));
    }
    tasks.spawn(async move {
        let status = tokio::select! {
            status = child.wait() => status,
            Ok(()) = killed => {
                _ = child.start_kill();
                child.wait().await
            }
        };
        let all = async { while listening.join_next().await.is_some() {} };
        _ = tokio::time::timeout(LAST_WORDS_WITHIN, all).await;
        let is_success = status.as_ref().is_ok_and(|status| status.success());
        let mut how = status.map_or_else(|e| format!("is lost: {e}"), death);
        let words = std::mem::take(&mut *last_words.lock().unwrap_or_else(PoisonError::into_inner));
        say::line(format_args!("[cluster] {member} {pid} of job {job} {how}"));
        if !is_success && !words.is_empty() {
            how = format!("{how}: {words}");
        }
        _ = ended.send(Ended { job, member, how: Death { is_success, how } });
    });
    Ok(Handle { stdin, kill: Some(kill) })
}

/// Shows what a process prints, line by line, and keeps the last one.
async fn pass_on(who: String, output: impl AsyncRead + Send + Unpin + 'static, last: Arc<Mutex<String>>) {
    /// Longest line that is kept, in characters.
    const LONGEST: usize = 500;
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        say::line(format_args!("{who} {line}"));
        *last.lock().unwrap_or_else(PoisonError::into_inner) = line.chars().take(LONGEST).collect();
    }
}
