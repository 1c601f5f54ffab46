//! A stream partitioned by key, and how keys are taken out of records.

use crate::error::Result;
use crate::function::{Data, KeyedOpenContext, KeyedProcessFunction};
use crate::graph::{Input, NodeFactory, OperatorFactory, OperatorKind, Partitioning};
use crate::operator::{KeyPart, named_panic};
use crate::stream::DataStream;
use crate::stream::connected_streams::Connect;
use crate::stream::data_stream::{SharedGraph, Upstream, add_node};
use crate::stream::factories::KeyedFactory;
use crate::task::TypedExchange;
use std::marker::PhantomData;
use std::sync::Arc;
use tidegate_state::{BorrowedKey, Key, KeyedBackend};

pub(crate) use crate::operator::KeyPart as KeySelector;

/// Makes a key from a record.
pub(crate) struct OwnedSelector<F>(pub(crate) F);

impl<T: 'static, K: Key, F: Fn(&T) -> K + Send + Sync + 'static> KeyPart<T, K> for OwnedSelector<F> {
    fn hash(&self, value: &T) -> u64 {
        (self.0)(value).hash64()
    }

    fn set_current(&self, value: &T, hash: u64, backend: &KeyedBackend<K>) -> Result<()> {
        backend.set_current_key((self.0)(value), hash)
    }
}

/// The factory of a keyed operator by itself, for tests of functions.
pub(crate) fn keyed_factory<K, T, U, P, B>(
    key: impl Fn(&T) -> K + Send + Sync + 'static,
    build: B,
) -> impl OperatorFactory
where
    K: Key,
    T: Data,
    U: Data,
    P: KeyedProcessFunction<K, T, U> + 'static,
    B: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
{
    KeyedFactory::<T, K, U, P, B>::new(Arc::new(OwnedSelector(key)), build)
}

/// Borrows a key from a record.
pub(crate) struct BorrowedSelector<F>(pub(crate) F);

impl<T, Q, F> KeyPart<T, Q::Owned> for BorrowedSelector<F>
where
    T: 'static,
    Q: BorrowedKey<Owned: Key> + ?Sized + 'static,
    F: for<'a> Fn(&'a T) -> &'a Q + Send + Sync + 'static,
{
    fn hash(&self, value: &T) -> u64 {
        (self.0)(value).hash64()
    }

    fn set_current(&self, value: &T, hash: u64, backend: &KeyedBackend<Q::Owned>) -> Result<()> {
        backend.set_current_key_ref((self.0)(value), hash)
    }
}

/// A stream of records of type `T`, partitioned by keys of type `K`.
pub struct KeyedStream<T, K> {
    pub(super) graph: SharedGraph,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) key: Arc<dyn KeySelector<T, K>>,
}

impl<T, K> std::fmt::Debug for KeyedStream<T, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedStream").finish_non_exhaustive()
    }
}

impl<T: Data, K: Key> KeyedStream<T, K> {
    pub(super) fn new(graph: SharedGraph, upstreams: Vec<Upstream>, key: Arc<dyn KeySelector<T, K>>) -> Self {
        Self { graph, upstreams, key }
    }

    /// Connects with another keyed stream, whose keys are of the same type, or with a
    /// [broadcast stream](DataStream::broadcast_state), whose records go to every subtask.
    pub fn connect<S: Connect<Self>>(self, other: S) -> S::Connected {
        other.connect_to(self)
    }

    /// Runs a [`KeyedProcessFunction`]. The closure builds it anew for every subtask and after every restart, and
    /// registers its state.
    ///
    /// ```
    /// use tidegate::prelude::*;
    ///
    /// struct Count { total: ValueState<u64> }
    ///
    /// impl KeyedProcessFunction<String, String, (String, u64)> for Count {
    ///     fn process(
    ///         &mut self, word: String, _: &mut KeyedContext<'_, String>, out: &mut Collector<'_, (String, u64)>,
    ///     ) -> Result<()> {
    ///         let n = self.total.update(|| 0, |n| { *n += 1; *n })?;
    ///         out.collect((word, n));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let words = ["to", "be", "to"].map(String::from).to_vec();
    /// let out = tidegate::testing::example(words, |words| {
    ///     words.key_by_ref(|w: &String| w.as_str()).process(|open| Ok(Count { total: open.value_state("total")? }))
    /// })?;
    /// assert_eq!(out, [("to".into(), 1), ("be".into(), 1), ("to".into(), 2)]);
    /// # Ok::<(), tidegate::error::Error>(())
    /// ```
    pub fn process<P, U, B>(self, build: B) -> DataStream<U>
    where
        P: KeyedProcessFunction<K, T, U> + 'static,
        U: Data,
        B: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
    {
        let inputs = self.upstreams.iter().map(|u| {
            let key = self.key.clone();
            Input {
                from: u.node,
                port: u.port.clone(),
                partitioning: Some(Partitioning::Hash),
                side: None,
                exchange: Arc::new(move |partitioning, reader| {
                    let (key, reader) = (key.clone(), reader.clone());
                    Arc::new(TypedExchange {
                        partitioning,
                        hash: move |value: &T| named_panic(&reader, || key.hash(value)),
                        record: PhantomData,
                    })
                }),
            }
        });
        let factory = NodeFactory::Operator(Arc::new(KeyedFactory::new(self.key.clone(), build)));
        let node = add_node(&self.graph, "keyed process", OperatorKind::Keyed, inputs.collect(), factory);
        DataStream::of_node(self.graph, node)
    }
}
