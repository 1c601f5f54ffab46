//! A stream of records and its transformations.

use crate::error::{Error, Result};
use crate::function::{
    Collector, Data, OpenContext, OutputTag, ProcessFunction, Sink, Source, WatermarkStrategy,
};
use crate::graph::{
    Input, LogicalGraph, Node, NodeFactory, OperatorFactory, OperatorKind, Partitioning, Port,
};
use crate::operator::PlainSteps;
use crate::stream::connected_streams::Connect;
use crate::stream::factories::{
    Attach, FlatFactory, ProcessFactory, SinkFactory, SourceNode, WatermarkFactory, plain_exchange,
};
use crate::stream::keyed_stream::{BorrowedSelector, KeySelector, OwnedSelector};
use crate::stream::{BroadcastStream, KeyedStream};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_state::{BorrowedKey, Key};

pub(crate) type SharedGraph = Rc<RefCell<LogicalGraph>>;

/// Where a stream comes from: outputs of operators already declared.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) node: usize,
    pub(crate) port: Port,
    pub(crate) partitioning: Option<Partitioning>,
}

impl Upstream {
    /// Whether it is an operator's main output with nothing set on the way out.
    pub(super) fn is_plain_output(&self) -> bool {
        matches!(self.port, Port::Main) && self.partitioning.is_none()
    }
}

/// The end of a stream. Takes only settings: name, uid, parallelism.
pub struct DataStreamSink {
    pub(super) graph: SharedGraph,
    pub(super) upstreams: [Upstream; 1],
}

impl std::fmt::Debug for DataStreamSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataStreamSink").finish_non_exhaustive()
    }
}

/// A stream of records of type `T`.
///
/// Each transformation adds an operator to the program and returns its output. Cloning the handle and using both
/// clones duplicates the stream, not the work before it.
///
/// ```
/// use tidegate::testing;
///
/// let out = testing::example(vec![1, 2, 3, 4], |numbers| {
///     numbers.filter(|n| n % 2 == 0).map(|n| n * 10)
/// })?;
/// assert_eq!(out, [20, 40]);
/// # Ok::<(), tidegate::error::Error>(())
/// ```
pub struct DataStream<T> {
    pub(super) graph: SharedGraph,
    pub(super) upstreams: Vec<Upstream>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        Self { graph: self.graph.clone(), upstreams: self.upstreams.clone(), record: PhantomData }
    }
}

impl<T> std::fmt::Debug for DataStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes: Vec<usize> = self.upstreams.iter().map(|u| u.node).collect();
        f.debug_struct("DataStream").field("nodes", &nodes).finish_non_exhaustive()
    }
}

impl<T: Data> DataStream<T> {
    pub(crate) fn from_source<S: Source<Record = T>>(graph: SharedGraph, source: S) -> Self {
        let factory = NodeFactory::Source(Arc::new(SourceNode { source: Arc::new(source) }));
        let node = add_node(&graph, "source", OperatorKind::Source, Vec::new(), factory);
        Self::of_node(graph, node)
    }

    pub(super) fn of_node(graph: SharedGraph, node: usize) -> Self {
        Self {
            graph,
            upstreams: vec![Upstream { node, port: Port::Main, partitioning: None }],
            record: PhantomData,
        }
    }

    fn inputs(&self) -> Vec<Input> {
        let input = |u: &Upstream| Input {
            from: u.node,
            port: u.port.clone(),
            partitioning: u.partitioning,
            side: None,
            exchange: Arc::new(plain_exchange::<T>),
        };
        self.upstreams.iter().map(input).collect()
    }

    fn then<U: Data>(
        &self,
        name: &str,
        kind: OperatorKind,
        factory: impl OperatorFactory + 'static,
    ) -> DataStream<U> {
        let node = add_node(&self.graph, name, kind, self.inputs(), NodeFactory::Operator(Arc::new(factory)));
        DataStream::of_node(self.graph.clone(), node)
    }

    /// One record out for each one in.
    ///
    /// ```
    /// # use tidegate::testing;
    /// assert_eq!(testing::example(vec![1, 2], |s| s.map(|n| n + 1))?, [2, 3]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn map<U: Data>(self, function: impl Fn(T) -> U + Send + Sync + 'static) -> DataStream<U> {
        self.flat("map", move |value, out: &mut Collector<'_, U>| out.collect(function(value)))
    }

    /// Keeps the records for which the predicate holds.
    ///
    /// ```
    /// # use tidegate::testing;
    /// assert_eq!(testing::example(vec![1, 2, 3], |s| s.filter(|n| *n != 2))?, [1, 3]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn filter(self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> DataStream<T> {
        self.flat("filter", move |value, out: &mut Collector<'_, T>| {
            if predicate(&value) {
                out.collect(value);
            }
        })
    }

    /// Any number of records out for each one in.
    ///
    /// ```
    /// # use tidegate::testing;
    /// let words = testing::example(vec!["to be".to_string()], |lines| {
    ///     lines.flat_map(|line: String, out| line.split(' ').for_each(|w| out.collect(w.to_string())))
    /// })?;
    /// assert_eq!(words, ["to", "be"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn flat_map<U: Data>(
        self,
        function: impl Fn(T, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.flat("flat map", function)
    }

    fn flat<U: Data>(
        self,
        name: &str,
        function: impl Fn(T, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.then(name, OperatorKind::Transform, FlatFactory::new(function))
    }

    /// Runs a [`ProcessFunction`]; the closure builds it anew for every subtask and after every restart.
    pub fn process<P, U, B>(self, build: B) -> DataStream<U>
    where
        P: ProcessFunction<T, U> + 'static,
        U: Data,
        B: for<'a, 'b> Fn(&'a mut OpenContext<'b>) -> Result<P> + Send + Sync + 'static,
    {
        let build = move |open: &mut OpenContext<'_>| build(open).map(PlainSteps);
        self.then("process", OperatorKind::Transform, ProcessFactory::new(build, false))
    }

    /// The records a process function emits under `tag`. Call it on the stream the process function returned, before
    /// any other transformation.
    pub fn side_output<S: Data>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let upstreams = self.upstreams.iter().map(|u| Upstream {
            node: u.node,
            port: Port::Side { name: tag.name().to_owned(), attach: Arc::new(Attach::<S>(PhantomData)) },
            partitioning: None,
        });
        DataStream { graph: self.graph.clone(), upstreams: upstreams.collect(), record: PhantomData }
    }

    /// All records of both streams, in no particular order.
    ///
    /// ```
    /// # use tidegate::testing;
    /// let mut out = testing::example(vec![1, 2], |s| s.clone().map(|n| n * 10).union(s))?;
    /// out.sort();
    /// assert_eq!(out, [1, 2, 10, 20]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn union(mut self, other: DataStream<T>) -> DataStream<T> {
        check_same_graph("union", &self.graph, &other.graph);
        self.upstreams.extend(other.upstreams);
        self
    }

    /// Connects with a stream of another type, whose records the same function takes, or with a
    /// [broadcast stream](DataStream::broadcast_state), whose records go to every subtask.
    ///
    /// ```
    /// # use tidegate::testing;
    /// let mut out = testing::example_of_two(vec![1, 2], vec!["be".to_string()], |numbers, words| {
    ///     numbers.connect(words).map(|n: u64| n.to_string(), |word| word)
    /// })?;
    /// out.sort();
    /// assert_eq!(out, ["1", "2", "be"]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn connect<S: Connect<Self>>(self, other: S) -> S::Connected {
        other.connect_to(self)
    }

    /// Makes this the broadcast side of a [`connect`](DataStream::connect): every subtask of the function gets all
    /// records, and keeps in [broadcast state](crate::function::BroadcastState) what they say.
    pub fn broadcast_state(self) -> BroadcastStream<T> {
        BroadcastStream::new(self)
    }

    /// Partitions by a key made from the record. State and timers behind it belong to a key.
    ///
    /// The closure is called at both ends of the exchange; for string keys [`DataStream::key_by_ref`] saves making
    /// the string.
    pub fn key_by<K: Key>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyedStream<T, K> {
        self.keyed(Arc::new(OwnedSelector(key)))
    }

    /// Partitions by a key borrowed from the record, such as `|word: &String| word.as_str()`.
    pub fn key_by_ref<Q, F>(self, key: F) -> KeyedStream<T, Q::Owned>
    where
        Q: BorrowedKey<Owned: Key> + ?Sized + 'static,
        F: for<'a> Fn(&'a T) -> &'a Q + Send + Sync + 'static,
    {
        self.keyed(Arc::new(BorrowedSelector(key)))
    }

    fn keyed<K: Key>(self, key: Arc<dyn KeySelector<T, K>>) -> KeyedStream<T, K> {
        KeyedStream::new(self.graph, self.upstreams, key)
    }

    /// Gives records timestamps and the stream watermarks.
    pub fn assign_timestamps_and_watermarks(self, strategy: WatermarkStrategy<T>) -> DataStream<T> {
        self.then("timestamps", OperatorKind::Transform, WatermarkFactory(strategy))
    }

    /// Spreads records evenly over the subtasks of the next operator.
    pub fn rebalance(self) -> Self {
        self.partitioned(Partitioning::Rebalance)
    }

    /// Sends every record to every subtask of the next operator.
    pub fn broadcast(self) -> Self {
        self.partitioned(Partitioning::Broadcast)
    }

    /// Keeps records in subtasks of the same index; both sides need the same parallelism.
    pub fn forward(self) -> Self {
        self.partitioned(Partitioning::Forward)
    }

    fn partitioned(mut self, partitioning: Partitioning) -> Self {
        for upstream in &mut self.upstreams {
            upstream.partitioning = Some(partitioning);
        }
        self
    }

    /// Ends the stream in a sink.
    pub fn sink<S: Sink<Record = T>>(self, sink: S) -> DataStreamSink {
        let factory = NodeFactory::Operator(Arc::new(SinkFactory::new(sink)));
        let node = add_node(&self.graph, "sink", OperatorKind::Sink, self.inputs(), factory);
        DataStreamSink {
            graph: self.graph,
            upstreams: [Upstream { node, port: Port::Main, partitioning: None }],
        }
    }
}

/// Notes a mistake if two streams that meet are not of the same program.
pub(super) fn check_same_graph(operation: &str, one: &SharedGraph, other: &SharedGraph) {
    if !Rc::ptr_eq(one, other) {
        // Whichever of the two is run says so.
        for graph in [one, other] {
            let mistake = Error::config(format!("{operation} of streams of two environments"));
            graph.borrow_mut().mistakes.push(mistake.hint("begin both streams in the same environment"));
        }
    }
}

/// Declares an operator and returns its index.
pub(super) fn add_node(
    graph: &SharedGraph,
    name: &str,
    kind: OperatorKind,
    inputs: Vec<Input>,
    factory: NodeFactory,
) -> usize {
    let mut graph = graph.borrow_mut();
    graph.nodes.push(Node {
        name: name.to_owned(),
        uid: None,
        parallelism: None,
        max_parallelism: None,
        slot_sharing_group: None,
        kind,
        chain_to_previous: true,
        chain_to_next: true,
        inputs,
        factory,
    });
    graph.nodes.len() - 1
}
