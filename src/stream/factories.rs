//! The typed factories behind the nodes of the logical graph.

use crate::cluster::EnumeratorDriver;
use crate::error::{Error, Result};
use crate::function::{
    Collector, Data, EnumeratorContext, KeyedOpenContext, KeyedProcessFunction, NextSplit, OpenContext,
    OperatorStates, ReaderContext, Sink, SinkContext, Source, SplitEnumerator, TimerQueues,
    WatermarkStrategy,
};
use crate::graph::{
    AttachSide, ChildOperators, OperatorBuild, OperatorFactory, Partitioning, SourceFactory, join_branches,
};
use crate::operator::{
    FlatOperator, KeyPart, KeyedOperator, Operator, ProcessOperator, SideOutputs, SinkOperator, Steps,
    WatermarkOperator,
};
use crate::task::{Exchange, Head, SourceHead, TypedExchange, panic_error};
use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tidegate_state::{BackendScope, Key, KeyedBackend, codec, range_of};

/// An exchange that does not look at keys.
pub(super) fn plain_exchange<T: Data>(partitioning: Partitioning, _reader: &Arc<str>) -> Arc<dyn Exchange> {
    Arc::new(TypedExchange { partitioning, hash: |_: &T| 0, record: PhantomData })
}

pub(super) fn boxed<T: Data>(operator: impl Operator<T> + 'static) -> Box<dyn Any> {
    let operator: Box<dyn Operator<T>> = Box::new(operator);
    Box::new(operator)
}

pub(super) struct Attach<S>(pub(super) PhantomData<fn() -> S>);

impl<S: Data> AttachSide for Attach<S> {
    fn record_type(&self) -> &'static str {
        std::any::type_name::<S>()
    }

    fn attach(&self, name: &str, consumers: Vec<Box<dyn Any>>, side_outputs: &mut SideOutputs) -> Result<()> {
        side_outputs.add::<S>(name, join_branches(consumers)?);
        Ok(())
    }
}

pub(super) struct FlatFactory<T, U, F> {
    function: Arc<F>,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F: Fn(T, &mut Collector<'_, U>)> FlatFactory<T, U, F> {
    pub(super) fn new(function: F) -> Self {
        Self { function: Arc::new(function), types: PhantomData }
    }
}

impl<T, U, F> OperatorFactory for FlatFactory<T, U, F>
where
    T: Data,
    U: Data,
    F: Fn(T, &mut Collector<'_, U>) + Send + Sync + 'static,
{
    fn keeps_state(&self) -> bool {
        false
    }

    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>> {
        let next = join_branches::<U>(children.main)?;
        Ok(boxed::<T>(FlatOperator { name: build.subtask.operator, function: self.function.clone(), next }))
    }
}

pub(super) struct ProcessFactory<T, U, P, B> {
    build: B,
    has_broadcast_input: bool,
    types: PhantomData<fn(T) -> (U, P)>,
}

impl<T, U, P, B> ProcessFactory<T, U, P, B> {
    pub(super) fn new(build: B, has_broadcast_input: bool) -> Self {
        Self { build, has_broadcast_input, types: PhantomData }
    }
}

impl<T, U, P, B> OperatorFactory for ProcessFactory<T, U, P, B>
where
    T: Data,
    U: Data,
    P: Steps<T, U> + 'static,
    B: for<'a, 'b> Fn(&'a mut OpenContext<'b>) -> Result<P> + Send + Sync + 'static,
{
    fn has_side_outputs(&self) -> bool {
        true
    }

    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>> {
        let OperatorBuild { uid, subtask, restored, .. } = build;
        let mut operator_states = OperatorStates::new(restored.lists(), self.has_broadcast_input);
        let mut open = OpenContext { subtask: &subtask, operator_states: &mut operator_states };
        let function = (self.build)(&mut open).map_err(|e| e.at(subtask.place()))?;
        let next = join_branches::<U>(children.main)?;
        Ok(boxed::<T>(ProcessOperator::<P, T, U>::new(
            uid,
            subtask,
            function,
            operator_states,
            next,
            children.side_outputs,
            &restored,
        )))
    }
}

pub(super) struct KeyedFactory<T, K, U, P, B> {
    key: Arc<dyn KeyPart<T, K>>,
    build: B,
    types: PhantomData<fn(T) -> (U, P)>,
}

impl<T, K, U, P, B> KeyedFactory<T, K, U, P, B> {
    pub(super) fn new(key: Arc<dyn KeyPart<T, K>>, build: B) -> Self {
        Self { key, build, types: PhantomData }
    }
}

impl<T, K, U, P, B> OperatorFactory for KeyedFactory<T, K, U, P, B>
where
    T: Data,
    K: Key,
    U: Data,
    P: KeyedProcessFunction<K, T, U> + 'static,
    B: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
{
    fn has_side_outputs(&self) -> bool {
        true
    }

    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>> {
        Ok(boxed::<T>(keyed_operator::<T, K, U, P>(self.key.clone(), &self.build, false, build, children)?))
    }
}

/// A keyed operator over a stream of `T`.
pub(super) type KeyedBy<T, K, P, U> = KeyedOperator<K, dyn KeyPart<T, K>, P, T, U>;

/// Opens keyed state and timers, builds the function, and puts the operator around them.
pub(super) fn keyed_operator<T, K, U, P>(
    key: Arc<dyn KeyPart<T, K>>,
    function: impl Fn(&mut KeyedOpenContext<'_, K>) -> Result<P>,
    has_broadcast_input: bool,
    build: OperatorBuild<'_>,
    children: ChildOperators,
) -> Result<KeyedBy<T, K, P, U>>
where
    T: Data,
    K: Key,
    U: Data,
    P: KeyedProcessFunction<K, T, U>,
{
    let OperatorBuild { uid, subtask, restored, keyed, backend, local_dir, crash_points, .. } = build;
    let scope = BackendScope {
        operator: uid.to_string(),
        subtask: subtask.index,
        max_parallelism: subtask.max_parallelism,
        range: range_of(subtask.index, subtask.parallelism, subtask.max_parallelism)?,
        local_dir,
    };
    crash_points.reach_sync("restore.open_db")?;
    let mut backend = KeyedBackend::<K>::open(backend, scope, &keyed)?;
    backend.set_watermark(restored.watermark());
    let timers = TimerQueues::register(&mut backend)?;
    crash_points.reach_sync("restore.timers")?;
    let mut operator_states = OperatorStates::new(restored.lists(), has_broadcast_input);
    let mut open =
        KeyedOpenContext { subtask: &subtask, backend: &mut backend, operator_states: &mut operator_states };
    let function = function(&mut open).map_err(|e| e.at(subtask.place()))?;
    let next = join_branches::<U>(children.main)?;
    Ok(KeyedOperator::new(
        uid,
        subtask,
        key,
        backend,
        operator_states,
        timers,
        function,
        next,
        children.side_outputs,
        &restored,
    ))
}

pub(super) struct WatermarkFactory<T>(pub(super) WatermarkStrategy<T>);

impl<T: Data> OperatorFactory for WatermarkFactory<T> {
    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>> {
        let next = join_branches::<T>(children.main)?;
        let OperatorBuild { uid, subtask, restored, .. } = build;
        Ok(boxed::<T>(WatermarkOperator::new(uid, subtask.operator, self.0.clone(), next, &restored)))
    }
}

pub(super) struct SinkFactory<S> {
    sink: S,
}

impl<S: Sink> SinkFactory<S> {
    pub(super) fn new(sink: S) -> Self {
        Self { sink }
    }
}

impl<S: Sink> OperatorFactory for SinkFactory<S> {
    /// One that publishes as it writes has committables without content, and none of them.
    fn keeps_state(&self) -> bool {
        size_of::<S::Committable>() > 0
    }

    fn is_of_one_process(&self) -> bool {
        self.sink.is_of_one_process()
    }

    fn build(&self, build: OperatorBuild<'_>, _children: ChildOperators) -> Result<Box<dyn Any>> {
        let OperatorBuild { job, uid, subtask, restored, crash_points, .. } = build;
        let context = SinkContext {
            job: job.clone(),
            operator: uid.clone(),
            attempt: subtask.attempt,
            subtask: subtask.clone(),
        };
        let writer = self.sink.writer(&context).map_err(|e| e.at(subtask.place()))?;
        let committer = self.sink.committer(&context).map_err(|e| e.at(subtask.place()))?;
        let operator = SinkOperator::new(uid, subtask, writer, committer, &restored, crash_points.clone())?;
        Ok(boxed::<S::Record>(operator))
    }
}

pub(super) struct SourceNode<S> {
    pub(super) source: Arc<S>,
}

impl<S: Source> SourceFactory for SourceNode<S> {
    fn is_replayable(&self) -> bool {
        self.source.is_replayable()
    }

    fn enumerator(&self) -> Box<dyn EnumeratorDriver> {
        Box::new(Enumerator { source: self.source.clone(), current: None })
    }

    fn head(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Head>> {
        let OperatorBuild { uid, subtask, restored, .. } = build;
        let chain = join_branches::<S::Record>(children.main)?;
        let context = ReaderContext { subtask: subtask.clone() };
        let reader = self.source.reader(&context).map_err(|e| e.at(subtask.place()))?;
        Ok(Box::new(SourceHead::new(uid, subtask.operator, reader, chain, &restored)?))
    }
}

/// A typed enumerator behind the untyped interface of the jobmanager.
struct Enumerator<S: Source> {
    source: Arc<S>,
    current: Option<Box<dyn SplitEnumerator<S::Split>>>,
}

fn not_started() -> Error {
    Error::bug("an enumerator was used before it was started")
}

/// User code on the jobmanager's thread: a panic fails the job and not the jobmanager.
fn guarded<R>(user_code: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(user_code)).unwrap_or_else(|payload| Err(panic_error(payload.as_ref())))
}

impl<S: Source> EnumeratorDriver for Enumerator<S> {
    fn next(&mut self, subtask: u32) -> Result<NextSplit<Vec<u8>>> {
        let Some(current) = &mut self.current else { return Err(not_started()) };
        Ok(match guarded(|| current.next_split(subtask))? {
            NextSplit::Split(split) => {
                let mut bytes = Vec::new();
                codec::encode(&split, &mut bytes)?;
                NextSplit::Split(bytes)
            }
            NextSplit::Wait => NextSplit::Wait,
            NextSplit::NoMore => NextSplit::NoMore,
        })
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let current = self.current.as_ref().ok_or_else(not_started)?;
        guarded(|| current.snapshot())
    }

    fn restore(&mut self, state: Option<&[u8]>, parallelism: u32) -> Result<()> {
        let context = EnumeratorContext { parallelism };
        self.current = Some(guarded(|| self.source.enumerator(&context, state))?);
        Ok(())
    }
}
