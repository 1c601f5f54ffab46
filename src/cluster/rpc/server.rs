//! The jobmanager's side of the streams: admits taskmanagers, and notices when one is gone.

use super::client::stream;
use super::codec::{Form, Json, LARGEST_MESSAGE, Messages, One};
use super::control::MOST_COMMANDS;
use super::incoming::encrypted;
use super::message::{
    Register, Registered, Settings, ToJobManager, ToTaskManager, VERSION, VERSION_KEY, Who,
};
use super::standing::{Leader, Stage, Standing};
use crate::cluster::jobmanager::{ShellEvent, TaskManagerAddress};
use crate::cluster::jobmaster::JobEvent;
use crate::cluster::message::Failure;
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use crate::id::{LeaderEpoch, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

/// Path of the method of taskmanagers.
pub(super) const JOIN: &str = "/tidegate.Cluster/Join";
/// Path of the method of people's commands.
pub(super) const CONTROL: &str = "/tidegate.Cluster/Control";
/// Path of the method of those who look for the leader.
pub(super) const WHO: &str = "/tidegate.Cluster/Who";
/// How long a new connection may take to say who it is.
pub(super) const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// How long the end of the job waits for its taskmanagers to leave, and for commands to take their replies.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// Whom the jobmanager admits, and what it tells them.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) program: String,
    pub(crate) backend: String,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) settings: Settings,
}

impl Admission {
    /// Why not, if not.
    pub(super) fn refusal(&self, own_token: &str, register: &Register) -> Option<Error> {
        let Register { job, token, program, backend, .. } = register;
        if token != own_token {
            return Some(
                Error::config("the taskmanager does not have the jobmanager's token")
                    .hint("give all members the same cluster.token-file"),
            );
        }
        let ours = &self.settings.job;
        if let Some(job) = job.as_ref().filter(|job| *job != ours.as_str()) {
            return Some(
                Error::config(format!("the taskmanager is of job {job}, the jobmanager leads job {ours}"))
                    .hint(
                        "compare job.id, and cluster.jobmanager of the one with cluster.listen of the other",
                    ),
            );
        }
        if *program != self.program {
            return Some(
                Error::config("the taskmanager runs another program than the jobmanager")
                    .hint("start all members from the same binary with the same flags"),
            );
        }
        (*backend != self.backend).then(|| {
            Error::config(format!(
                "the taskmanager has state.backend {backend}, the jobmanager {}",
                self.backend
            ))
            .hint("start all members with the same state.backend")
        })
    }
}

/// The taskmanagers that are members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    members: BTreeMap<WorkerId, Member>,
    /// Sessions of those who are or were members.
    open: u32,
    /// Commands of people under way.
    commands: u32,
    /// The job is over: nobody is admitted.
    over: Option<Option<Failure>>,
}

#[derive(Debug)]
struct Member {
    to: UnboundedSender<ToTaskManager>,
    data_address: String,
    pid: u32,
    /// Ends the session.
    leave: Arc<Notify>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to a member. What is sent to one that is gone is nobody's loss.
    pub(crate) fn send(&self, worker: WorkerId, message: ToTaskManager) {
        if let Some(member) = self.lock().members.get(&worker) {
            _ = member.to.send(message);
        }
    }

    /// Where each member takes records.
    pub(crate) fn data_addresses(&self) -> Vec<(WorkerId, String)> {
        self.lock().members.iter().map(|(id, member)| (*id, member.data_address.clone())).collect()
    }

    /// The processes of the members.
    pub(crate) fn processes(&self) -> BTreeMap<WorkerId, TaskManagerAddress> {
        let of =
            |member: &Member| TaskManagerAddress { address: member.data_address.clone(), pid: member.pid };
        self.lock().members.iter().map(|(id, member)| (*id, of(member))).collect()
    }

    /// Counts a command as long as what is returned lives; none if there are too many.
    pub(super) fn open_command(&self) -> Option<OpenCommand> {
        let mut state = self.lock();
        let has_room = state.commands < MOST_COMMANDS;
        state.commands += u32::from(has_room);
        has_room.then(|| OpenCommand(self.clone()))
    }

    /// Waits a moment for commands to take their replies.
    fn end_commands(&self) {
        _ = self.0.closed.wait_timeout_while(self.lock(), FAREWELL, |state| state.commands > 0);
    }

    /// Sends a last message to a member, which is none from now on. Nothing is said of it to the jobmanager any more.
    pub(crate) fn dismiss(&self, worker: WorkerId, message: ToTaskManager) {
        if let Some(member) = self.lock().members.remove(&worker) {
            _ = member.to.send(message);
            member.leave.notify_one();
        }
    }

    /// Tells everybody that the job is over, also those who come now, and waits a moment for them to leave.
    pub(crate) fn end(&self, failure: Option<Failure>) {
        let mut state = self.lock();
        state.over = Some(failure.clone());
        for member in std::mem::take(&mut state.members).into_values() {
            _ = member.to.send(ToTaskManager::End { failure: failure.clone() });
        }
        _ = self.0.closed.wait_timeout_while(state, FAREWELL, |state| state.open > 0);
    }
}

/// A command of a person under way.
pub(super) struct OpenCommand(Sessions);

impl Drop for OpenCommand {
    fn drop(&mut self) {
        self.0.lock().commands -= 1;
        self.0.0.closed.notify_all();
    }
}

/// The server of a jobmanager.
#[derive(Debug)]
pub(crate) struct RpcServer {
    sessions: Sessions,
    serving: AbortHandle,
}

impl RpcServer {
    /// Binds `address`.
    ///
    /// # Errors
    /// A config error if that is not possible.
    pub(crate) async fn bind(address: &str) -> Result<(TcpListener, SocketAddr)> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let at = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, at))
        };
        bound.await.map_err(|e| {
            Error::config(format!("the jobmanager cannot listen on {address}")).with_source(e).hint(
                "set cluster.listen to an address of this machine and a free port; is a jobmanager running?",
            )
        })
    }

    /// Serves on `listener`, as what `standing` says. What members say is sent into `events`.
    pub(crate) fn start(
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
        token: String,
        standing: Standing,
        sessions: Sessions,
        events: Sender<ShellEvent>,
        runtime: &Handle,
    ) -> Self {
        let service = ClusterService {
            token: Arc::from(token),
            standing,
            sessions: sessions.clone(),
            events,
            runtime: runtime.clone(),
        };
        let serving = runtime.spawn(serve_port(listener, tls, service));
        Self { sessions, serving: serving.abort_handle() }
    }

    /// Waits a moment for commands to take their replies, and closes.
    pub(crate) fn farewell(self) {
        self.sessions.end_commands();
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves the connections that come in.
pub(super) async fn serve_port<S>(listener: TcpListener, tls: Option<Arc<Tls>>, service: S)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder();
    _ = match tls {
        None => server.add_service(service).serve_with_incoming(incoming).await,
        Some(tls) => server.add_service(service).serve_with_incoming(encrypted(incoming, tls)).await,
    };
}

#[derive(Clone)]
pub(super) struct ClusterService {
    pub(super) token: Arc<str>,
    pub(super) standing: Standing,
    pub(super) sessions: Sessions,
    events: Sender<ShellEvent>,
    runtime: Handle,
}

impl NamedService for ClusterService {
    const NAME: &'static str = "tidegate.Cluster";
}

impl Service<http::Request<Body>> for ClusterService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (service, runtime) = (self.clone(), self.runtime.clone());
        Box::pin(async move {
            Ok(match request.uri().path() {
                JOIN if version_of(&request) != VERSION.to_string() => another_version(&request).into_http(),
                JOIN => serve::<_, One, _, _, _>(service, &runtime, request, Self::session).await,
                WHO => serve::<_, Json, _, _, _>(service, &runtime, request, Self::says_who).await,
                CONTROL => serve::<_, Json, _, _, _>(service, &runtime, request, Self::command).await,
                _ => Status::unimplemented("there is no such method").into_http(),
            })
        })
    }
}

/// What the head of a call says of the version its messages are in.
fn version_of(request: &http::Request<Body>) -> &str {
    request.headers().get(VERSION_KEY).and_then(|value| value.to_str().ok()).unwrap_or("none")
}

/// Instead of reading messages that may mean something else.
fn another_version(request: &http::Request<Body>) -> Status {
    let theirs = version_of(request);
    Status::unimplemented(format!("the taskmanager speaks version {theirs}, the jobmanager {VERSION}"))
}

/// Serves one call of a method: `life` lives on its stream.
pub(super) async fn serve<S, F, In, Out, Life>(
    service: S,
    runtime: &Handle,
    request: http::Request<Body>,
    life: fn(S, Streaming<In>, UnboundedSender<Out>) -> Life,
) -> http::Response<Body>
where
    S: Clone + Send + 'static,
    F: Form,
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Send + 'static,
    Life: Future<Output = ()> + Send + 'static,
{
    let mut grpc = Grpc::new(Messages::<F, Out, In>::default())
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    grpc.streaming(Method { service, runtime: runtime.clone(), life }, request).await
}

/// A method.
struct Method<S, In, Out, Life> {
    service: S,
    runtime: Handle,
    life: fn(S, Streaming<In>, UnboundedSender<Out>) -> Life,
}

type Replies<Out> = Pin<Box<dyn futures::Stream<Item = Result<Out, Status>> + Send>>;

impl<S, In, Out, Life> Service<Request<Streaming<In>>> for Method<S, In, Out, Life>
where
    S: Clone,
    Out: Send + 'static,
    Life: Future<Output = ()> + Send + 'static,
{
    type Response = Response<Replies<Out>>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<In>>) -> Self::Future {
        // Unbounded: a handful of messages per subtask and checkpoint.
        let (to, replies) = unbounded_channel();
        self.runtime.spawn((self.life)(self.service.clone(), request.into_inner(), to));
        let replies = futures::StreamExt::map(stream(replies), Ok);
        ready(Ok(Response::new(Box::pin(replies))))
    }
}

/// Says that a member is gone, however its session ends.
struct Membership {
    worker: WorkerId,
    service: ClusterService,
    why: String,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.service.sessions.lock();
        state.open -= 1;
        self.service.sessions.0.closed.notify_all();
        // One that was dismissed is gone already.
        let was_member = state.members.remove(&self.worker).is_some();
        drop(state);
        if was_member {
            let why = std::mem::take(&mut self.why);
            self.service.says(JobEvent::WorkerLost { worker: self.worker, why });
        }
    }
}

impl ClusterService {
    fn says(&self, event: JobEvent) {
        _ = self.events.send(ShellEvent::Job(event));
    }

    /// Says which process this is, whether it leads or not.
    async fn says_who(self, mut from: Streaming<()>, to: UnboundedSender<Who>) {
        _ = to.send(Who { nonce: self.standing.nonce().to_owned() });
        drop(to);
        _ = tokio::time::timeout(FAREWELL, async { while let Ok(Some(())) = from.message().await {} }).await;
    }

    /// The life of one stream.
    async fn session(self, mut from: Streaming<ToJobManager>, to: UnboundedSender<ToTaskManager>) {
        let first = tokio::time::timeout(REGISTER_WITHIN, from.message()).await;
        let Ok(Ok(Some(ToJobManager::Register(register)))) = first else { return };
        let leader = match self.leader_of(&register).await {
            Ok(leader) => leader,
            Err(refusal) => {
                _ = to.send(ToTaskManager::Refused(Failure::from(&refusal)));
                return;
            }
        };
        let leave = Arc::new(Notify::new());
        let Some(worker) = self.admit(&leader, &register, &to, &leave) else { return };
        let mut membership =
            Membership { worker, service: self.clone(), why: "its connection was closed".to_owned() };
        self.says(JobEvent::WorkerJoined { worker, slots: register.slots });
        let settings = &leader.admission.settings;
        let patience = Duration::from_millis(settings.heartbeat_timeout_ms);
        let mut heartbeat = tokio::time::interval(Duration::from_millis(settings.heartbeat_interval_ms));
        let silence = tokio::time::sleep(patience);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                message = from.message() => match message {
                    Ok(Some(message)) => {
                        silence.as_mut().reset(tokio::time::Instant::now() + patience);
                        match message {
                            ToJobManager::Report(report) if report.worker == worker => {
                                self.says(JobEvent::Worker(report));
                            }
                            ToJobManager::Heartbeat | ToJobManager::Report(_) | ToJobManager::Register(_) => {}
                        }
                    }
                    // What was sent cannot be read.
                    Err(status) if status.code() == Code::InvalidArgument => {
                        membership.why = format!("its connection is broken: {}", status.message());
                        return;
                    }
                    Ok(None) | Err(_) => return,
                },
                _ = heartbeat.tick() => {
                    if to.send(ToTaskManager::Heartbeat).is_err() {
                        return;
                    }
                }
                () = leave.notified() => return,
                () = &mut silence => {
                    membership.why = format!("nothing was heard of it for {} ms", patience.as_millis());
                    return;
                }
            }
        }
    }

    /// The leader, if it takes this taskmanager.
    async fn leader_of(&self, register: &Register) -> Result<Arc<Leader>> {
        match self.standing.settled().await? {
            Stage::Leading(leader) => match leader.admission.refusal(&self.token, register) {
                None => Ok(leader),
                Some(refusal) => Err(refusal),
            },
            Stage::Standby { leader, .. } => {
                Err(Error::retry(format!("it stands by for the jobmanager at {leader}")))
            }
            Stage::Starting => Err(Error::retry("it is still starting")),
        }
    }

    /// Makes it a member; none if the job is over, which it is told.
    fn admit(
        &self,
        leader: &Leader,
        register: &Register,
        to: &UnboundedSender<ToTaskManager>,
        leave: &Arc<Notify>,
    ) -> Option<WorkerId> {
        let mut state = self.sessions.lock();
        if let Some(failure) = &state.over {
            _ = to.send(ToTaskManager::End { failure: failure.clone() });
            return None;
        }
        let worker = WorkerId(state.next);
        state.next += 1;
        let registered = Registered {
            worker,
            leader_epoch: leader.admission.leader_epoch,
            settings: leader.admission.settings.clone(),
        };
        _ = to.send(ToTaskManager::Registered(registered));
        let member = Member {
            to: to.clone(),
            data_address: register.data_address.clone(),
            pid: register.pid,
            leave: leave.clone(),
        };
        state.members.insert(worker, member);
        state.open += 1;
        Some(worker)
    }
}
