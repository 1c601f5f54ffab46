//! The logical graph: what the stream API builds, one node per operator, with the typed factories that make them.

use crate::checkpoint::CrashPoints;
use crate::cluster::EnumeratorDriver;
use crate::error::{Error, Result};
use crate::function::{Data, SubtaskInfo};
use crate::graph::{OperatorKind, Partitioning};
use crate::id::{JobId, OperatorUid};
use crate::operator::{Discard, Fork, InputSide, Operator, RestoredState, SideOutputs};
use crate::task::{Exchange, Head};
use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_state::{BackendOptions, SnapshotSource};

/// Everything a program has declared so far.
#[derive(Default)]
pub(crate) struct LogicalGraph {
    pub(crate) nodes: Vec<Node>,
    /// Mistakes found while the program was built; the first is reported when it is run.
    pub(crate) mistakes: Vec<Error>,
}

/// One operator.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) parallelism: Option<u32>,
    pub(crate) max_parallelism: Option<u16>,
    /// That of the inputs, if absent.
    pub(crate) slot_sharing_group: Option<String>,
    pub(crate) kind: OperatorKind,
    /// May follow another operator in its chain.
    pub(crate) chain_to_previous: bool,
    /// May be followed by another operator in its chain.
    pub(crate) chain_to_next: bool,
    pub(crate) inputs: Vec<Input>,
    pub(crate) factory: NodeFactory,
}

/// An edge into a node.
#[derive(Clone)]
pub(crate) struct Input {
    pub(crate) from: usize,
    pub(crate) port: Port,
    /// `None`: forward between equal parallelism, otherwise rebalance.
    pub(crate) partitioning: Option<Partitioning>,
    /// Which input of the node it is, if that has two.
    pub(crate) side: Option<InputSide>,
    /// Makes the typed exchange for the partitioning decided upon and a reader of this name.
    pub(crate) exchange: Arc<ExchangeFactory>,
}

pub(crate) type ExchangeFactory = dyn Fn(Partitioning, &Arc<str>) -> Arc<dyn Exchange> + Send + Sync;

/// Which output of a node an edge starts at.
#[derive(Clone)]
pub(crate) enum Port {
    Main,
    Side { name: String, attach: Arc<dyn AttachSide> },
}

impl Port {
    pub(crate) fn side_name(&self) -> Option<&str> {
        match self {
            Self::Main => None,
            Self::Side { name, .. } => Some(name),
        }
    }
}

/// Connects the consumers of a side output, knowing its record type.
pub(crate) trait AttachSide: Send + Sync {
    /// The record type, for people; different types have different names.
    fn record_type(&self) -> &'static str;

    fn attach(&self, name: &str, consumers: Vec<Box<dyn Any>>, side_outputs: &mut SideOutputs) -> Result<()>;
}

/// How a node comes to life in a subtask.
#[derive(Clone)]
pub(crate) enum NodeFactory {
    Source(Arc<dyn SourceFactory>),
    Operator(Arc<dyn OperatorFactory>),
}

/// The already built operators behind one: each box holds a `Box<dyn Operator<T>>`.
pub(crate) struct ChildOperators {
    pub(crate) main: Vec<Box<dyn Any>>,
    pub(crate) side_outputs: SideOutputs,
}

/// What an operator is built from.
pub(crate) struct OperatorBuild<'a> {
    pub(crate) job: &'a JobId,
    pub(crate) uid: OperatorUid,
    pub(crate) subtask: SubtaskInfo,
    pub(crate) restored: RestoredState,
    pub(crate) keyed: Vec<Arc<dyn SnapshotSource>>,
    pub(crate) backend: &'a BackendOptions,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) crash_points: &'a CrashPoints,
}

/// Makes an operator. Returns a `Box<dyn Operator<I>>` in a box.
pub(crate) trait OperatorFactory: Send + Sync {
    /// Whether the operator can emit to side outputs.
    fn has_side_outputs(&self) -> bool {
        false
    }

    /// Whether it can have anything in a checkpoint: state, timers, commits, the event time it has reached.
    fn keeps_state(&self) -> bool {
        true
    }

    /// Whether what it does is seen only in the process that does it.
    fn is_of_one_process(&self) -> bool {
        false
    }

    fn build(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Any>>;
}

/// Makes both halves of a source.
pub(crate) trait SourceFactory: Send + Sync {
    fn is_replayable(&self) -> bool;
    fn enumerator(&self) -> Box<dyn EnumeratorDriver>;
    fn head(&self, build: OperatorBuild<'_>, children: ChildOperators) -> Result<Box<dyn Head>>;
}

/// One operator out of all the consumers of an output.
pub(crate) fn join_branches<T: Data>(branches: Vec<Box<dyn Any>>) -> Result<Box<dyn Operator<T>>> {
    let mut typed: Vec<Box<dyn Operator<T>>> = Vec::new();
    for branch in branches {
        let branch = branch
            .downcast::<Box<dyn Operator<T>>>()
            .map_err(|_| Error::bug("a consumer takes another record type than its producer makes"))?;
        typed.push(*branch);
    }
    Ok(match typed.len() {
        0 => Box::new(Discard),
        1 => match typed.pop() {
            Some(only) => only,
            None => Box::new(Discard),
        },
        _ => Box::new(Fork { branches: typed }),
    })
}
