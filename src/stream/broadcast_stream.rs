//! A stream whose records go to every subtask, and what it is connected with.

use crate::error::Result;
use crate::function::{
    BroadcastProcessFunction, Data, KeyedBroadcastProcessFunction, KeyedOpenContext, OpenContext,
};
use crate::graph::{
    ChildOperators, Input, NodeFactory, OperatorBuild, OperatorFactory, OperatorKind, Partitioning,
};
use crate::operator::{BroadcastSteps, Either, ElementSteps, InputSide, KeyPart, KeyedBroadcastOperator};
use crate::stream::connected_streams::{Connect, no_key, side_inputs};
use crate::stream::data_stream::{add_node, check_same_graph};
use crate::stream::factories::{ProcessFactory, boxed, keyed_operator};
use crate::stream::{DataStream, KeyedStream};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use tidegate_state::Key;

/// A stream of which every subtask of the function behind it gets all records, made by
/// [`DataStream::broadcast_state`].
pub struct BroadcastStream<T> {
    stream: DataStream<T>,
}

impl<T: Data> BroadcastStream<T> {
    pub(super) fn new(stream: DataStream<T>) -> Self {
        Self { stream }
    }

    fn inputs<I: Data>(&self) -> Vec<Input> {
        let broadcast = Some(Partitioning::Broadcast);
        side_inputs(&self.stream.upstreams, InputSide::Second, broadcast, Either::<I, T>::Second, no_key)
    }
}

impl<T> std::fmt::Debug for BroadcastStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BroadcastStream").finish_non_exhaustive()
    }
}

/// A stream without keys and a broadcast stream, made by [`DataStream::connect`].
pub struct BroadcastConnectedStream<I, B> {
    stream: DataStream<I>,
    broadcast: BroadcastStream<B>,
}

impl<I: Data, B: Data> Connect<DataStream<I>> for BroadcastStream<B> {
    type Connected = BroadcastConnectedStream<I, B>;

    fn connect_to(self, stream: DataStream<I>) -> BroadcastConnectedStream<I, B> {
        check_same_graph("connect", &stream.graph, &self.stream.graph);
        BroadcastConnectedStream { stream, broadcast: self }
    }
}

impl<I: Data, B: Data> BroadcastConnectedStream<I, B> {
    /// Runs a [`BroadcastProcessFunction`]. The closure builds it anew for every subtask and after every restart, and
    /// registers its state.
    ///
    /// ```
    /// use tidegate::prelude::*;
    ///
    /// /// Keeps words until the end, and then those that no record of the other stream forbids.
    /// struct Filter { words: OperatorListState<String>, forbidden: BroadcastState<String, ()> }
    ///
    /// impl BroadcastProcessFunction<String, String, String> for Filter {
    ///     fn process_element(
    ///         &mut self, word: String, _: &mut ProcessContext<'_>, _: &mut Collector<'_, String>,
    ///     ) -> Result<()> {
    ///         self.words.push(word)
    ///     }
    ///     fn process_broadcast(
    ///         &mut self, word: String, context: &mut BroadcastContext<'_>, _: &mut Collector<'_, String>,
    ///     ) -> Result<()> {
    ///         context.writable(&self.forbidden).insert(word, ())
    ///     }
    ///     fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
    ///         for word in self.words.iter()? {
    ///             if !self.forbidden.contains_key(&word)? {
    ///                 out.collect(word);
    ///             }
    ///         }
    ///         self.words.clear()
    ///     }
    /// }
    ///
    /// let words = |list: &[&str]| list.iter().map(|word| word.to_string()).collect();
    /// let out = tidegate::testing::example_of_two(words(&["to", "be"]), words(&["or", "to"]), |words, forbidden| {
    ///     words.connect(forbidden.broadcast_state()).process(|open| {
    ///         Ok(Filter { words: open.operator_list_state("words")?, forbidden: open.broadcast_state("forbidden")? })
    ///     })
    /// })?;
    /// assert_eq!(out, ["be"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn process<P, U, F>(self, build: F) -> DataStream<U>
    where
        P: BroadcastProcessFunction<I, B, U> + 'static,
        U: Data,
        F: for<'a, 'b> Fn(&'a mut OpenContext<'b>) -> Result<P> + Send + Sync + 'static,
    {
        let Self { stream, broadcast } = self;
        let elements = &stream.upstreams;
        let mut inputs = side_inputs(elements, InputSide::First, None, Either::<I, B>::First, no_key);
        inputs.extend(broadcast.inputs::<I>());
        let build = move |open: &mut OpenContext<'_>| build(open).map(BroadcastSteps);
        let factory = ProcessFactory::<Either<I, B>, U, _, _>::new(build, true);
        let factory = NodeFactory::Operator(Arc::new(factory));
        let node = add_node(&stream.graph, "broadcast process", OperatorKind::Transform, inputs, factory);
        DataStream::of_node(stream.graph, node)
    }
}

impl<I, B> std::fmt::Debug for BroadcastConnectedStream<I, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BroadcastConnectedStream").finish_non_exhaustive()
    }
}

/// A keyed stream and a broadcast stream, made by [`KeyedStream::connect`].
pub struct KeyedBroadcastConnectedStream<I, B, K> {
    stream: KeyedStream<I, K>,
    broadcast: BroadcastStream<B>,
}

impl<I: Data, B: Data, K: Key> Connect<KeyedStream<I, K>> for BroadcastStream<B> {
    type Connected = KeyedBroadcastConnectedStream<I, B, K>;

    fn connect_to(self, stream: KeyedStream<I, K>) -> KeyedBroadcastConnectedStream<I, B, K> {
        check_same_graph("connect", &stream.graph, &self.stream.graph);
        KeyedBroadcastConnectedStream { stream, broadcast: self }
    }
}

impl<I: Data, B: Data, K: Key> KeyedBroadcastConnectedStream<I, B, K> {
    /// Runs a [`KeyedBroadcastProcessFunction`]. The closure builds it anew for every subtask and after every restart,
    /// and registers its state.
    ///
    /// ```
    /// use tidegate::prelude::*;
    ///
    /// /// The sum of each key, times a factor, when the input has ended.
    /// struct Scaled { sum: ValueState<u64>, factor: BroadcastState<(), u64> }
    ///
    /// impl KeyedBroadcastProcessFunction<u64, u64, u64, u64> for Scaled {
    ///     fn process_element(&mut self, n: u64, context: &mut KeyedContext<'_, u64>, _: &mut Collector<'_, u64>) -> Result<()> {
    ///         self.sum.update(|| 0, |sum| *sum += n)?;
    ///         context.register_event_timer(MAX_WATERMARK)
    ///     }
    ///     fn process_broadcast(
    ///         &mut self, factor: u64, context: &mut KeyedBroadcastContext<'_, u64>, _: &mut Collector<'_, u64>,
    ///     ) -> Result<()> {
    ///         context.writable(&self.factor).insert((), factor)
    ///     }
    ///     fn on_timer(&mut self, _: i64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
    ///         out.collect(self.sum.get()?.unwrap_or(0) * self.factor.get(&())?.unwrap_or(1));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut out = tidegate::testing::example_of_two(vec![1, 2, 3, 4], vec![10], |numbers, factor| {
    ///     numbers.key_by(|n| n % 2).connect(factor.broadcast_state()).process(|open| {
    ///         Ok(Scaled { sum: open.value_state("sum")?, factor: open.broadcast_state("factor")? })
    ///     })
    /// })?;
    /// out.sort();
    /// assert_eq!(out, [40, 60]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn process<P, U, F>(self, build: F) -> DataStream<U>
    where
        P: KeyedBroadcastProcessFunction<K, I, B, U> + 'static,
        U: Data,
        F: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
    {
        let Self { stream: KeyedStream { graph, upstreams, key }, broadcast } = self;
        let hash = {
            let key = key.clone();
            move |value: &Either<I, B>| match value {
                Either::First(value) => key.hash(value),
                Either::Second(_) => 0,
            }
        };
        let by_key = Some(Partitioning::Hash);
        let mut inputs = side_inputs(&upstreams, InputSide::First, by_key, Either::First, hash);
        inputs.extend(broadcast.inputs::<I>());
        let factory = KeyedBroadcastFactory::<I, B, K, U, P, F> { key, build, types: PhantomData };
        let factory = NodeFactory::Operator(Arc::new(factory));
        let node = add_node(&graph, "keyed broadcast process", OperatorKind::Keyed, inputs, factory);
        DataStream::of_node(graph, node)
    }
}

impl<I, B, K> std::fmt::Debug for KeyedBroadcastConnectedStream<I, B, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedBroadcastConnectedStream").finish_non_exhaustive()
    }
}

/// Types that a factory is for.
type Types<I, B, U, P> = fn(I, B) -> (U, P);

struct KeyedBroadcastFactory<I, B, K, U, P, F> {
    key: Arc<dyn KeyPart<I, K>>,
    build: F,
    types: PhantomData<Types<I, B, U, P>>,
}

impl<I, B, K, U, P, F> OperatorFactory for KeyedBroadcastFactory<I, B, K, U, P, F>
where
    I: Data,
    B: Data,
    K: Key,
    U: Data,
    P: KeyedBroadcastProcessFunction<K, I, B, U> + 'static,
    F: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
{
    fn has_side_outputs(&self) -> bool {
        true
    }

    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>> {
        let function = |open: &mut KeyedOpenContext<'_, K>| {
            Ok(ElementSteps { function: (self.build)(open)?, broadcast: PhantomData::<fn(B)> })
        };
        let elements = keyed_operator::<I, K, U, _>(self.key.clone(), function, true, build, children)?;
        Ok(boxed::<Either<I, B>>(KeyedBroadcastOperator { elements }))
    }
}
