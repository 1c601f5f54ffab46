//! Two inputs of different types as one: what travels into an operator that connects two streams.
//!
//! The exchanges of both inputs wrap each record, so that one gate takes the channels of both: barriers are aligned over
//! all of them, the watermark is the lowest of all, and the input has ended when all have.

use crate::error::Result;
use crate::function::{
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, Collector, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction, ProcessContext, ProcessFunction, Timestamp,
};
use crate::operator::{KeyPart, Steps};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::sync::Arc;
use tidegate_state::{Key, KeyedBackend};

/// One of the two inputs of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputSide {
    /// That of the stream on which `connect` was called.
    First,
    /// That of the other stream.
    Second,
}

impl InputSide {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::First, Self::Second];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// A record of one of two inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Either<A, B> {
    First(A),
    Second(B),
}

/// The key of a record of either input.
pub(crate) struct EitherKey<A, B, K> {
    pub(crate) first: Arc<dyn KeyPart<A, K>>,
    pub(crate) second: Arc<dyn KeyPart<B, K>>,
}

impl<A: 'static, B: 'static, K: Key> KeyPart<Either<A, B>, K> for EitherKey<A, B, K> {
    fn hash(&self, value: &Either<A, B>) -> u64 {
        match value {
            Either::First(value) => self.first.hash(value),
            Either::Second(value) => self.second.hash(value),
        }
    }

    fn set_current(&self, value: &Either<A, B>, hash: u64, backend: &KeyedBackend<K>) -> Result<()> {
        match value {
            Either::First(value) => self.first.set_current(value, hash, backend),
            Either::Second(value) => self.second.set_current(value, hash, backend),
        }
    }
}

/// Runs a [`ProcessFunction`].
pub(crate) struct PlainSteps<P>(pub(crate) P);

impl<P: ProcessFunction<I, O>, I, O> Steps<I, O> for PlainSteps<P> {
    fn process(
        &mut self,
        value: I,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        self.0.process(value, context, out)
    }

    fn finish(&mut self, out: &mut Collector<'_, O>) -> Result<()> {
        self.0.finish(out)
    }
}

/// Runs a [`CoProcessFunction`].
pub(crate) struct CoSteps<P>(pub(crate) P);

impl<P: CoProcessFunction<A, B, O>, A, B, O> Steps<Either<A, B>, O> for CoSteps<P> {
    fn process(
        &mut self,
        value: Either<A, B>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        match value {
            Either::First(value) => self.0.process_first(value, context, out),
            Either::Second(value) => self.0.process_second(value, context, out),
        }
    }

    fn finish_side(&mut self, side: InputSide, out: &mut Collector<'_, O>) -> Result<()> {
        match side {
            InputSide::First => self.0.finish_first(out),
            InputSide::Second => self.0.finish_second(out),
        }
    }
}

/// Runs a [`BroadcastProcessFunction`].
pub(crate) struct BroadcastSteps<P>(pub(crate) P);

impl<P: BroadcastProcessFunction<I, B, O>, I, B, O> Steps<Either<I, B>, O> for BroadcastSteps<P> {
    fn process(
        &mut self,
        value: Either<I, B>,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        match value {
            Either::First(value) => self.0.process_element(value, context, out),
            Either::Second(value) => {
                let mut context = BroadcastContext {
                    timestamp: context.timestamp,
                    time: context.time,
                    subtask: context.subtask,
                    side_outputs: context.side_outputs,
                };
                self.0.process_broadcast(value, &mut context, out)
            }
        }
    }

    fn finish(&mut self, out: &mut Collector<'_, O>) -> Result<()> {
        self.0.finish(out)
    }
}

/// Runs a [`KeyedCoProcessFunction`].
pub(crate) struct KeyedCoSteps<P>(pub(crate) P);

impl<K, P, A, B, O> KeyedProcessFunction<K, Either<A, B>, O> for KeyedCoSteps<P>
where
    K: Key,
    P: KeyedCoProcessFunction<K, A, B, O>,
{
    fn process(
        &mut self,
        value: Either<A, B>,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        match value {
            Either::First(value) => self.0.process_first(value, context, out),
            Either::Second(value) => self.0.process_second(value, context, out),
        }
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        self.0.on_timer(time, context, out)
    }
}

/// Runs the keyed side of a [`KeyedBroadcastProcessFunction`].
pub(crate) struct ElementSteps<P, B> {
    pub(crate) function: P,
    pub(crate) broadcast: PhantomData<fn(B)>,
}

impl<K, P, I, B, O> KeyedProcessFunction<K, I, O> for ElementSteps<P, B>
where
    K: Key,
    P: KeyedBroadcastProcessFunction<K, I, B, O>,
{
    fn process(
        &mut self,
        value: I,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        self.function.process_element(value, context, out)
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        self.function.on_timer(time, context, out)
    }
}
