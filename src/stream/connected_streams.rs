//! Two streams of different types whose records one function takes.

use crate::error::Result;
use crate::function::{
    CoProcessFunction, Collector, Data, KeyedCoProcessFunction, KeyedOpenContext, OpenContext,
};
use crate::graph::{Input, NodeFactory, OperatorFactory, OperatorKind, Partitioning};
use crate::operator::{CoSteps, Either, EitherKey, InputSide, KeyPart, KeyedCoSteps, named_panic};
use crate::stream::data_stream::{SharedGraph, Upstream, add_node, check_same_graph};
use crate::stream::factories::{FlatFactory, KeyedFactory, ProcessFactory};
use crate::stream::{DataStream, KeyedStream};
use crate::task::{SideExchange, TypedExchange};
use std::marker::PhantomData;
use std::sync::Arc;
use tidegate_state::Key;

/// What a stream `S` can be connected with.
pub trait Connect<S> {
    /// The two streams.
    type Connected;

    /// Connects `first` with this one; [`DataStream::connect`] and [`KeyedStream::connect`] read better.
    fn connect_to(self, first: S) -> Self::Connected;
}

/// The inputs of an operator from one of two streams; `wrap` makes a record that stands for either. `hash` gives the
/// hash of its key; only hash partitioning calls it.
pub(super) fn side_inputs<T, M, W, H>(
    upstreams: &[Upstream],
    side: InputSide,
    partitioning: Option<Partitioning>,
    wrap: W,
    hash: H,
) -> Vec<Input>
where
    T: Data,
    M: Data,
    W: Fn(T) -> M + Clone + Send + Sync + 'static,
    H: Fn(&M) -> u64 + Clone + Send + Sync + 'static,
{
    let input = |u: &Upstream| {
        let (wrap, hash) = (wrap.clone(), hash.clone());
        Input {
            from: u.node,
            port: u.port.clone(),
            partitioning: partitioning.or(u.partitioning),
            side: Some(side),
            exchange: Arc::new(move |partitioning, reader| {
                let (hash, reader) = (hash.clone(), reader.clone());
                let hash = move |value: &M| named_panic(&reader, || hash(value));
                Arc::new(SideExchange {
                    wrap: wrap.clone(),
                    wrapped: TypedExchange { partitioning, hash, record: PhantomData },
                    record: PhantomData,
                })
            }),
        }
    };
    upstreams.iter().map(input).collect()
}

/// The hash of a record that is not partitioned by key.
pub(super) fn no_key<M>(_: &M) -> u64 {
    0
}

/// Two streams without keys, made by [`DataStream::connect`].
///
/// The records of both reach the same subtasks: each stream is spread as it would be for an operator of its own, so
/// that for example `numbers.connect(words.broadcast())` sends all words to every subtask. Barriers, watermarks and
/// idleness are those of both streams together.
pub struct ConnectedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Data, B: Data> Connect<DataStream<A>> for DataStream<B> {
    type Connected = ConnectedStreams<A, B>;

    fn connect_to(self, first: DataStream<A>) -> ConnectedStreams<A, B> {
        check_same_graph("connect", &first.graph, &self.graph);
        ConnectedStreams { first, second: self }
    }
}

impl<A: Data, B: Data> ConnectedStreams<A, B> {
    fn then<U: Data>(self, name: &str, factory: impl OperatorFactory + 'static) -> DataStream<U> {
        let (first, second) = (&self.first.upstreams, &self.second.upstreams);
        let mut inputs = side_inputs(first, InputSide::First, None, Either::<A, B>::First, no_key);
        inputs.extend(side_inputs(second, InputSide::Second, None, Either::<A, B>::Second, no_key));
        let graph = self.first.graph;
        let factory = NodeFactory::Operator(Arc::new(factory));
        let node = add_node(&graph, name, OperatorKind::Transform, inputs, factory);
        DataStream::of_node(graph, node)
    }

    /// One record out for each one in, by a function for each stream.
    pub fn map<U: Data>(
        self,
        first: impl Fn(A) -> U + Send + Sync + 'static,
        second: impl Fn(B) -> U + Send + Sync + 'static,
    ) -> DataStream<U> {
        let map = move |value: Either<A, B>, out: &mut Collector<'_, U>| match value {
            Either::First(value) => out.collect(first(value)),
            Either::Second(value) => out.collect(second(value)),
        };
        self.then("co map", FlatFactory::new(map))
    }

    /// Any number of records out for each one in, by a function for each stream.
    ///
    /// ```
    /// # use tidegate::testing;
    /// let mut out = testing::example_of_two(vec![1u64, 2], vec!["to be".to_string()], |numbers, lines| {
    ///     numbers.connect(lines).flat_map(
    ///         |n, out| (0..n).for_each(|i| out.collect(format!("{n}.{i}"))),
    ///         |line, out| line.split(' ').for_each(|word| out.collect(word.to_string())),
    ///     )
    /// })?;
    /// out.sort();
    /// assert_eq!(out, ["1.0", "2.0", "2.1", "be", "to"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn flat_map<U: Data>(
        self,
        first: impl Fn(A, &mut Collector<'_, U>) + Send + Sync + 'static,
        second: impl Fn(B, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        let flat_map = move |value: Either<A, B>, out: &mut Collector<'_, U>| match value {
            Either::First(value) => first(value, out),
            Either::Second(value) => second(value, out),
        };
        self.then("co flat map", FlatFactory::new(flat_map))
    }

    /// Runs a [`CoProcessFunction`]; the closure builds it anew for every subtask and after every restart.
    ///
    /// ```
    /// use tidegate::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Sums { numbers: u64, letters: usize }
    ///
    /// impl CoProcessFunction<u64, String, String> for Sums {
    ///     fn process_first(&mut self, n: u64, _: &mut ProcessContext<'_>, _: &mut Collector<'_, String>) -> Result<()> {
    ///         self.numbers += n;
    ///         Ok(())
    ///     }
    ///     fn process_second(&mut self, word: String, _: &mut ProcessContext<'_>, _: &mut Collector<'_, String>) -> Result<()> {
    ///         self.letters += word.len();
    ///         Ok(())
    ///     }
    ///     fn finish_first(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
    ///         out.collect(format!("sum {}", self.numbers));
    ///         Ok(())
    ///     }
    ///     fn finish_second(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
    ///         out.collect(format!("{} letters", self.letters));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let words = ["to", "be"].map(String::from).to_vec();
    /// let mut out = tidegate::testing::example_of_two(vec![3, 4], words, |numbers, words| {
    ///     numbers.connect(words).process(|_| Ok(Sums::default()))
    /// })?;
    /// out.sort();
    /// assert_eq!(out, ["4 letters", "sum 7"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn process<P, U, F>(self, build: F) -> DataStream<U>
    where
        P: CoProcessFunction<A, B, U> + 'static,
        U: Data,
        F: for<'a, 'b> Fn(&'a mut OpenContext<'b>) -> Result<P> + Send + Sync + 'static,
    {
        let build = move |open: &mut OpenContext<'_>| build(open).map(CoSteps);
        self.then("co process", ProcessFactory::<Either<A, B>, U, _, _>::new(build, false))
    }
}

impl<A, B> std::fmt::Debug for ConnectedStreams<A, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectedStreams").finish_non_exhaustive()
    }
}

/// Two streams with keys of one type, made by [`KeyedStream::connect`]: the records of a key reach the same subtask,
/// whichever stream they come in, and share its state.
pub struct KeyedConnectedStreams<A, B, K> {
    graph: SharedGraph,
    first: Vec<Upstream>,
    second: Vec<Upstream>,
    key: Arc<dyn KeyPart<Either<A, B>, K>>,
}

impl<A: Data, B: Data, K: Key> Connect<KeyedStream<A, K>> for KeyedStream<B, K> {
    type Connected = KeyedConnectedStreams<A, B, K>;

    fn connect_to(self, first: KeyedStream<A, K>) -> KeyedConnectedStreams<A, B, K> {
        check_same_graph("connect", &first.graph, &self.graph);
        KeyedConnectedStreams {
            graph: first.graph,
            first: first.upstreams,
            second: self.upstreams,
            key: Arc::new(EitherKey { first: first.key, second: self.key }),
        }
    }
}

impl<A: Data, B: Data, K: Key> KeyedConnectedStreams<A, B, K> {
    /// Runs a [`KeyedCoProcessFunction`]. The closure builds it anew for every subtask and after every restart, and
    /// registers its state.
    ///
    /// ```
    /// use tidegate::prelude::*;
    ///
    /// /// The price of each order, whichever of the two comes first.
    /// struct Join { price: ValueState<u64>, amount: ValueState<u64> }
    ///
    /// impl Join {
    ///     fn join(&self, item: &str, out: &mut Collector<'_, String>) -> Result<()> {
    ///         if let (Some(price), Some(amount)) = (self.price.get()?, self.amount.get()?) {
    ///             out.collect(format!("{item} {}", price * amount));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// type Pair = (String, u64);
    ///
    /// impl KeyedCoProcessFunction<String, Pair, Pair, String> for Join {
    ///     fn process_first(
    ///         &mut self, (item, price): Pair, _: &mut KeyedContext<'_, String>, out: &mut Collector<'_, String>,
    ///     ) -> Result<()> {
    ///         self.price.set(price)?;
    ///         self.join(&item, out)
    ///     }
    ///     fn process_second(
    ///         &mut self, (item, amount): Pair, _: &mut KeyedContext<'_, String>, out: &mut Collector<'_, String>,
    ///     ) -> Result<()> {
    ///         self.amount.set(amount)?;
    ///         self.join(&item, out)
    ///     }
    /// }
    ///
    /// let prices = vec![("tea".to_string(), 3), ("nut".to_string(), 5)];
    /// let orders = vec![("nut".to_string(), 2), ("oil".to_string(), 1)];
    /// let out = tidegate::testing::example_of_two(prices, orders, |prices, orders| {
    ///     let orders = orders.key_by_ref(|order: &Pair| order.0.as_str());
    ///     prices.key_by_ref(|price: &Pair| price.0.as_str()).connect(orders).process(|open| {
    ///         Ok(Join { price: open.value_state("price")?, amount: open.value_state("amount")? })
    ///     })
    /// })?;
    /// assert_eq!(out, ["nut 10"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn process<P, U, F>(self, build: F) -> DataStream<U>
    where
        P: KeyedCoProcessFunction<K, A, B, U> + 'static,
        U: Data,
        F: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
    {
        let Self { graph, first, second, key } = self;
        let hash = {
            let key = key.clone();
            move |value: &Either<A, B>| key.hash(value)
        };
        let by_key = Some(Partitioning::Hash);
        let mut inputs = side_inputs(&first, InputSide::First, by_key, Either::First, hash.clone());
        inputs.extend(side_inputs(&second, InputSide::Second, by_key, Either::Second, hash));
        let build = move |open: &mut KeyedOpenContext<'_, K>| build(open).map(KeyedCoSteps);
        let factory = KeyedFactory::<Either<A, B>, K, U, _, _>::new(key, build);
        let factory = NodeFactory::Operator(Arc::new(factory));
        let node = add_node(&graph, "keyed co process", OperatorKind::Keyed, inputs, factory);
        DataStream::of_node(graph, node)
    }
}

impl<A, B, K> std::fmt::Debug for KeyedConnectedStreams<A, B, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedConnectedStreams").finish_non_exhaustive()
    }
}
