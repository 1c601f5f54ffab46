//! Runs a keyed function with and without restores in between: what it puts out must not depend on them.

use crate::checkpoint::{Barrier, CheckpointKind, CrashPoints};
use crate::error::{Error, Result};
use crate::function::{
    Data, Emit, KeyedOpenContext, KeyedProcessFunction, MAX_WATERMARK, SubtaskInfo, Timestamp,
};
use crate::graph::{ChildOperators, OperatorBuild, OperatorFactory, RestoredOperator};
use crate::id::{Attempt, CheckpointId, JobId, OperatorUid};
use crate::operator::{ChainSnapshot, Control, Operator, RestoredState, SideOutputs};
use crate::stream::keyed_factory;
use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use tidegate_state::{BackendOptions, InMemoryFiles, Key};

/// Checks that a keyed function keeps everything in its state: runs it over `input` undisturbed, and with its state
/// saved and the function built anew after every record, and compares what comes out.
///
/// Each record comes with its time in milliseconds, which is its timestamp and the processing time at which it arrives;
/// behind it the watermark rises to that time, so that timers fire between records. At the end the watermark rises to
/// its maximum. Returns the output. Side outputs are not looked at.
///
/// ```
/// use tidegate::prelude::*;
///
/// struct Count { total: ValueState<u64> }
///
/// impl KeyedProcessFunction<String, String, u64> for Count {
///     fn process(&mut self, _: String, _: &mut KeyedContext<'_, String>, out: &mut Collector<'_, u64>) -> Result<()> {
///         out.collect(self.total.update(|| 0, |n| { *n += 1; *n })?);
///         Ok(())
///     }
/// }
///
/// let words = ["to", "be", "to"].map(|word| (word.to_string(), 0)).to_vec();
/// let out = tidegate::testing::verify_keyed(words, String::clone, |open| {
///     Ok(Count { total: open.value_state("total")? })
/// })?;
/// assert_eq!(out, [1, 1, 2]);
/// # Ok::<(), tidegate::error::Error>(())
/// ```
///
/// # Errors
/// What the function reports, or a config error that shows the first difference.
pub fn verify_keyed<K, T, U, P, B>(
    input: Vec<(T, Timestamp)>,
    key: impl Fn(&T) -> K + Send + Sync + 'static,
    build: B,
) -> Result<Vec<U>>
where
    K: Key,
    T: Data,
    U: Data + PartialEq + Debug,
    P: KeyedProcessFunction<K, T, U> + 'static,
    B: for<'a, 'b> Fn(&'a mut KeyedOpenContext<'b, K>) -> Result<P> + Send + Sync + 'static,
{
    let factory = keyed_factory(key, build);
    let plain = run::<T, U>(&factory, &input, false)?;
    let restored = run::<T, U>(&factory, &input, true)?;
    let length = plain.len().max(restored.len());
    match (0..length).find(|index| plain.get(*index) != restored.get(*index)) {
        None => Ok(plain),
        Some(index) => Err(Error::config(format!(
            "output {index} is {:?}, and {:?} if the function is restored after every record",
            plain.get(index),
            restored.get(index)
        ))
        .hint("keep what has to last in state: fields of the function are lost at a restore")),
    }
}

/// Collects what comes out.
struct Output<U>(Rc<RefCell<Vec<U>>>);

impl<U> Emit<U> for Output<U> {
    fn emit(&mut self, value: U, _timestamp: Timestamp) -> Result<()> {
        self.0.borrow_mut().push(value);
        Ok(())
    }
}

impl<U> Operator<U> for Output<U> {
    fn watermark(&mut self, _watermark: Timestamp) -> Result<()> {
        Ok(())
    }

    fn control(&mut self, _control: &mut Control<'_>) -> Result<()> {
        Ok(())
    }
}

fn run<T: Data, U: Data>(
    factory: &impl OperatorFactory,
    input: &[(T, Timestamp)],
    restore: bool,
) -> Result<Vec<U>> {
    let output = Rc::default();
    let mut operator = start::<T, U>(factory, RestoredOperator::default(), &output)?;
    for (value, time) in input {
        set_clock(&mut operator, *time)?;
        operator.emit(value.clone(), *time)?;
        if restore {
            operator = start(factory, save(operator)?, &output)?;
            set_clock(&mut operator, *time)?;
        }
        operator.watermark(*time)?;
    }
    operator.watermark(MAX_WATERMARK)?;
    operator.control(&mut Control::EndOfInput)?;
    drop(operator);
    Ok(output.take())
}

fn start<T: Data, U: Data>(
    factory: &impl OperatorFactory,
    restored: RestoredOperator,
    output: &Rc<RefCell<Vec<U>>>,
) -> Result<Box<dyn Operator<T>>> {
    let next: Box<dyn Operator<U>> = Box::new(Output(output.clone()));
    let children = ChildOperators { main: vec![Box::new(next)], side_outputs: SideOutputs::default() };
    let operator: OperatorUid = OperatorUid("verified".into());
    let subtask = SubtaskInfo {
        operator: operator.as_str().into(),
        index: 0,
        parallelism: 1,
        max_parallelism: 128,
        attempt: Attempt(1),
    };
    let build = OperatorBuild {
        job: &JobId::from("verify".to_owned()),
        uid: operator,
        subtask,
        restored: restored.state,
        keyed: restored.keyed,
        backend: &BackendOptions::Memory,
        local_dir: None,
        crash_points: &CrashPoints::none(),
    };
    let built = factory.build(build, children)?.downcast::<Box<dyn Operator<T>>>();
    built.map(|operator| *operator).map_err(|_| Error::bug("the operator takes another record type"))
}

fn set_clock<T>(operator: &mut Box<dyn Operator<T>>, now_ms: i64) -> Result<()> {
    operator.control(&mut Control::Time { now_ms, next_ms: &mut None })
}

/// The state of an operator, by way of the bytes of a snapshot.
fn save<T>(mut operator: Box<dyn Operator<T>>) -> Result<RestoredOperator> {
    let barrier = Barrier::new(CheckpointId(1), CheckpointKind::Periodic, 0);
    let mut snapshot = ChainSnapshot::default();
    operator.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot })?;
    let mut restored = RestoredOperator::default();
    for mut saved in snapshot.operators {
        restored.state = RestoredState::deal(vec![saved.encode_state()?], 0, 1);
        if let Some(keyed) = saved.keyed {
            let files = InMemoryFiles::new();
            restored.keyed.push(files.source(&files.store(1, keyed)?, None));
        }
    }
    Ok(restored)
}
