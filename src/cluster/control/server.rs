//! The side that answers: a thread that accepts, and one per connection.

use crate::cluster::JobController;
use crate::cluster::control::answer::answer_to;
use crate::cluster::control::protocol::{LONGEST_REQUEST, read_line, write_line};
use crate::cluster::control::{ControlDirectory, ControlReply, ControlRequest};
use crate::cluster::message::Failure;
use crate::error::{Error, Result};
use crate::id::JobId;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at once; further ones are closed at once.
const MOST_CONNECTIONS: u32 = 32;
/// How long a client may take to send its request, or to take a reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the job waits for replies to be taken.
const FAREWELL: Duration = Duration::from_secs(5);

/// The control socket of a running job. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    /// Which file it is: another jobmanager of the job may put its own in the place.
    inode: u64,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    connections: u32,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlServer {
    /// Begins to listen for `job`.
    ///
    /// # Errors
    /// A config error if the socket cannot be made.
    pub(crate) fn start(
        directory: &ControlDirectory,
        job: &JobId,
        controller: JobController,
    ) -> Result<Self> {
        let path = directory.socket(job);
        let at = |e: Error| e.at(format!("control socket {}", path.display()));
        let refuse = |e: std::io::Error| {
            at(Error::config("cannot be made")
                .with_source(e)
                .hint("set control.dir to a short path of your own"))
        };
        // Under its name it is there only once it listens: one that refuses is taken for dead.
        let unready = path.with_extension("new");
        let listener = UnixListener::bind(&unready).map_err(refuse)?;
        let made = std::fs::metadata(&unready).map_err(refuse)?;
        if !directory.has_owner_of(&made).map_err(refuse)? {
            _ = std::fs::remove_file(&unready);
            return Err(at(Error::config("the directory belongs to somebody else").hint("set control.dir")));
        }
        std::fs::rename(&unready, &path).map_err(refuse)?;
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept(&listener, &accepting, &controller))
            .map_err(refuse)?;
        Ok(Self { path, inode: made.ino(), shared, thread: Some(thread) })
    }

    /// The job has ended: waits a moment until those who wait for that have heard.
    pub(crate) fn finish(mut self) {
        self.close();
        let state = self.shared.lock();
        _ = self.shared.changed.wait_timeout_while(state, FAREWELL, |state| state.connections > 0);
    }

    /// Ends the thread that accepts. It cannot be woken if another jobmanager has taken the socket's place: nobody can
    /// connect to it any more then, and it stays behind.
    fn close(&mut self) {
        self.shared.lock().closed = true;
        let is_own = std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_own && let Some(thread) = self.thread.take() {
            let is_woken = UnixStream::connect(&self.path).is_ok();
            _ = std::fs::remove_file(&self.path);
            if is_woken {
                _ = thread.join();
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.close();
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>, controller: &JobController) {
    for stream in listener.incoming() {
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        let Ok(stream) = stream else { continue };
        if state.connections >= MOST_CONNECTIONS {
            continue;
        }
        state.connections += 1;
        drop(state);
        let (connection, controller) = (Connection(shared.clone()), controller.clone());
        // Without a thread the connection is closed, and counted out.
        _ = std::thread::Builder::new()
            .name("control-client".to_owned())
            .spawn(move || connection.serve(stream, &controller));
    }
}

/// One connection; counted as long as it lives.
struct Connection(Arc<Shared>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.lock().connections -= 1;
        self.0.changed.notify_all();
    }
}

impl Connection {
    /// A client that breaks off has not asked for its request to be undone.
    fn serve(&self, stream: UnixStream, controller: &JobController) {
        _ = stream.set_read_timeout(Some(CLIENT_TIMEOUT));
        _ = stream.set_write_timeout(Some(CLIENT_TIMEOUT));
        let mut stream = BufReader::new(stream);
        let request = match read_line::<ControlRequest>(&mut stream, LONGEST_REQUEST) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(e) => {
                _ = write_line(stream.get_mut(), &ControlReply::Failed(Failure::from(&e)));
                return;
            }
        };
        let closed = || self.0.lock().closed;
        answer_to(request, controller, &mut |reply| write_line(stream.get_mut(), &reply).is_ok(), &closed);
    }
}
