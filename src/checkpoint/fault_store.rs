//! An object store that fails on demand, for tests.
//!
//! Faults are scripted (the n-th matching call) or drawn from a seed. A call can fail before it has an effect or
//! after, or never come back; listings can be out of date. The same script and seed give the same faults in the same order of calls.

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calls a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writing an object, or completing one that was sent in parts.
    Put,
    /// Beginning an object that is sent in parts, or sending a part.
    Part,
    /// Copying an object within the store.
    Copy,
    /// Reading an object or its metadata.
    Get,
    /// Deleting an object.
    Delete,
    /// Listing.
    List,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails without effect.
    FailBefore,
    /// It takes effect, but the caller gets an error.
    FailAfter,
    /// It never comes back, and has no effect.
    Hang,
    /// It fails without effect, as on a full disk.
    Full,
    /// It fails without effect, because it is not allowed.
    Denied,
    /// It takes so long, and has its effect then. Needs the timer of a runtime.
    Delay(Duration),
    /// What is read has a flipped bit in its middle.
    Flip,
    /// What is read ends in its middle.
    Torn,
    /// It fails without effect, and says that the object exists: as S3 does of one that another is just then creating.
    Conflict,
}

/// A scripted fault.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Which call.
    pub operation: Operation,
    /// Only for paths that contain this.
    pub path: String,
    /// Matching calls that still pass.
    pub skip: u64,
    /// Matching calls that then fail; `u64::MAX` for all.
    pub times: u64,
    /// How.
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<FaultRule>,
    /// Calls in a thousand that fail, and the state of the random sequence.
    rate: u64,
    random: u64,
    /// The newest objects that listings do not show.
    stale: usize,
    recent: VecDeque<Path>,
    injected: u64,
    open_uploads: i64,
    gives_way: bool,
    log: Vec<(Operation, String)>,
}

/// Wraps a store; see the module's text. Clones share the plan.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultStore {
    /// A wrapper without faults.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Adds a scripted fault.
    pub fn inject(&self, rule: FaultRule) {
        self.plan().rules.push(rule);
    }

    /// Fails the next matching call.
    pub fn fail_next(&self, operation: Operation, path: &str, fault: Fault) {
        self.inject(FaultRule { operation, path: path.to_owned(), skip: 0, times: 1, fault });
    }

    /// From now on `per_mille` of a thousand calls fail, before or after their effect, drawn from `seed`.
    pub fn fail_randomly(&self, seed: u64, per_mille: u64) {
        let mut plan = self.plan();
        plan.random = seed;
        plan.rate = per_mille;
    }

    /// Listings do not show the `count` objects written last.
    pub fn stale_listings(&self, count: usize) {
        self.plan().stale = count;
    }

    /// Every call but those of parts waits once before it has its effect and once behind it, so that others can be polled
    /// meanwhile: whoever polls decides the order of calls.
    pub fn give_way(&self) {
        self.plan().gives_way = true;
    }

    /// Removes all faults.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.rules.clear();
        plan.rate = 0;
        plan.stale = 0;
    }

    /// How many faults were injected.
    pub fn injected(&self) -> u64 {
        self.plan().injected
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.plan().log.clone()
    }

    /// Objects sent in parts that were neither completed nor given up, whose parts a store would keep.
    pub fn open_uploads(&self) -> i64 {
        self.plan().open_uploads
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, operation: Operation, path: &str) -> Option<Fault> {
        let mut plan = self.plan();
        plan.log.push((operation, path.to_owned()));
        let mut hit = None;
        for rule in plan.rules.iter_mut().filter(|r| r.operation == operation && path.contains(&r.path)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && hit.is_none() {
                rule.times = if rule.times == u64::MAX { u64::MAX } else { rule.times - 1 };
                hit = Some(rule.fault);
            }
        }
        if hit.is_none() && plan.rate > 0 {
            plan.random =
                plan.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = plan.random >> 33;
            if draw % 1_000 < plan.rate {
                hit = Some(if draw & 1024 == 0 { Fault::FailBefore } else { Fault::FailAfter });
            }
        }
        plan.injected += u64::from(hit.is_some());
        hit
    }

    /// One turn of whoever polls, if that was asked for.
    async fn turn(&self) {
        let mut waits = self.plan().gives_way;
        futures::future::poll_fn(|context| {
            if !std::mem::take(&mut waits) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    fn wrote(&self, path: &Path) {
        let mut plan = self.plan();
        plan.recent.push_back(path.clone());
        if plan.recent.len() > 64 {
            plan.recent.pop_front();
        }
    }

    fn hidden(&self) -> Vec<Path> {
        let plan = self.plan();
        plan.recent.iter().rev().take(plan.stale).cloned().collect()
    }
}

fn injected(operation: Operation, path: &str) -> Error {
    Error::Generic { store: "fault", source: format!("injected: {operation:?} of {path}").into() }
}

/// Fails or hangs if the fault is one without effect.
async fn before(fault: Option<Fault>, operation: Operation, path: &str) -> Result<()> {
    match fault {
        None | Some(Fault::FailAfter | Fault::Flip | Fault::Torn) => Ok(()),
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Some(Fault::FailBefore) => Err(injected(operation, path)),
        Some(Fault::Hang) => futures::future::pending().await,
        Some(Fault::Full) => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Err(Error::Generic { store: "fault", source: Box::new(full) })
        }
        Some(Fault::Denied) => {
            Err(Error::PermissionDenied { path: path.to_owned(), source: "injected".into() })
        }
        Some(Fault::Conflict) => {
            Err(Error::AlreadyExists { path: path.to_owned(), source: "injected".into() })
        }
    }
}

/// Fails if the fault is one after the effect.
fn after<T>(fault: Option<Fault>, operation: Operation, path: &str, result: T) -> Result<T> {
    match fault {
        None | Some(Fault::Delay(_) | Fault::Flip | Fault::Torn) => Ok(result),
        Some(_) => Err(injected(operation, path)),
    }
}

/// Damages what was read, if the fault is one that does.
async fn damaged(fault: Option<Fault>, mut result: GetResult) -> Result<GetResult> {
    if !matches!(fault, Some(Fault::Flip | Fault::Torn)) {
        return Ok(result);
    }
    let (meta, range) = (result.meta.clone(), result.range.clone());
    let (attributes, extensions) =
        (std::mem::take(&mut result.attributes), std::mem::take(&mut result.extensions));
    let mut bytes = result.bytes().await?.to_vec();
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) if fault == Some(Fault::Flip) => *byte ^= 16,
        _ => bytes.truncate(middle),
    }
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

/// An object on its way in parts.
#[derive(Debug)]
struct FaultUpload {
    store: FaultStore,
    location: Path,
    inner: Box<dyn MultipartUpload>,
}

#[async_trait::async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.store.decide(Operation::Part, self.location.as_ref());
        let (location, part) = (self.location.clone(), self.inner.put_part(data));
        async move {
            before(fault, Operation::Part, location.as_ref()).await?;
            part.await?;
            after(fault, Operation::Part, location.as_ref(), ())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.decide(Operation::Put, self.location.as_ref());
        before(fault, Operation::Put, self.location.as_ref()).await?;
        let result = self.inner.complete().await?;
        self.store.wrote(&self.location);
        self.store.plan().open_uploads -= 1;
        after(fault, Operation::Put, self.location.as_ref(), result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.plan().open_uploads -= 1;
        self.inner.abort().await
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.turn().await;
        let fault = self.decide(Operation::Put, location.as_ref());
        before(fault, Operation::Put, location.as_ref()).await?;
        let result = self.inner.put_opts(location, payload, opts).await?;
        self.wrote(location);
        self.turn().await;
        after(fault, Operation::Put, location.as_ref(), result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.decide(Operation::Part, location.as_ref());
        before(fault, Operation::Part, location.as_ref()).await?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        self.plan().open_uploads += 1;
        let upload = Box::new(FaultUpload { store: self.clone(), location: location.clone(), inner });
        after(fault, Operation::Part, location.as_ref(), upload)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.turn().await;
        let fault = self.decide(Operation::Get, location.as_ref());
        before(fault, Operation::Get, location.as_ref()).await?;
        let result = damaged(fault, self.inner.get_opts(location, options).await?).await?;
        self.turn().await;
        after(fault, Operation::Get, location.as_ref(), result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    this.turn().await;
                    let fault = this.decide(Operation::Delete, location.as_ref());
                    before(fault, Operation::Delete, location.as_ref()).await?;
                    let one = stream::iter([Ok(location.clone())]).boxed();
                    this.inner.delete_stream(one).try_collect::<Vec<_>>().await?;
                    this.turn().await;
                    after(fault, Operation::Delete, location.as_ref(), location.clone())
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let shown = prefix.map(ToString::to_string).unwrap_or_default();
        let fault = self.decide(Operation::List, &shown);
        if fault.is_some_and(|fault| !matches!(fault, Fault::Flip | Fault::Torn)) {
            let failed = async move {
                before(fault, Operation::List, &shown).await?;
                Err(injected(Operation::List, &shown))
            };
            return failed.into_stream().boxed();
        }
        let hidden = self.hidden();
        let listed = self
            .inner
            .list(prefix)
            .try_filter(move |o| futures::future::ready(!hidden.contains(&o.location)));
        let this = self.clone();
        async move {
            this.turn().await;
            listed
        }
        .flatten_stream()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let shown = prefix.map(ToString::to_string).unwrap_or_default();
        let fault = self.decide(Operation::List, &shown);
        before(fault, Operation::List, &shown).await?;
        after(fault, Operation::List, &shown, ())?;
        let hidden = self.hidden();
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        found.objects.retain(|o| !hidden.contains(&o.location));
        if !hidden.is_empty() {
            let below: Vec<_> = self.inner.list(prefix).try_collect().await?;
            let shown = |o: &&ObjectMeta| !hidden.contains(&o.location);
            let is_shown = |p: &Path| below.iter().filter(shown).any(|o| o.location.prefix_matches(p));
            found.common_prefixes.retain(is_shown);
        }
        self.turn().await;
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.turn().await;
        let fault = self.decide(Operation::Copy, to.as_ref());
        before(fault, Operation::Copy, to.as_ref()).await?;
        self.inner.copy_opts(from, to, options).await?;
        self.wrote(to);
        self.turn().await;
        after(fault, Operation::Copy, to.as_ref(), ())
    }
}
