//! The operator around a keyed broadcast process function: a keyed operator that takes broadcast records in between.

use crate::error::Result;
use crate::function::{Data, Emit, KeyedBroadcastProcessFunction, Timestamp};
use crate::operator::keyed::AHEAD;
use crate::operator::{Batch, Control, Either, ElementSteps, KeyPart, KeyedOperator, Operator};
use tidegate_state::Key;

/// Runs a [`KeyedBroadcastProcessFunction`].
pub(crate) struct KeyedBroadcastOperator<K: Key, S: ?Sized, P, I, B, O> {
    pub(crate) elements: KeyedOperator<K, S, ElementSteps<P, B>, I, O>,
}

impl<K, S, P, I, B, O> KeyedBroadcastOperator<K, S, P, I, B, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedBroadcastProcessFunction<K, I, B, O>,
    I: Data,
{
    fn broadcast(&mut self, value: B, timestamp: Timestamp) -> Result<()> {
        self.elements.between_keys(timestamp, |steps, context, out| {
            steps.function.process_broadcast(value, context, out)
        })
    }
}

impl<K, S, P, I, B, O> Emit<Either<I, B>> for KeyedBroadcastOperator<K, S, P, I, B, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedBroadcastProcessFunction<K, I, B, O>,
    I: Data,
{
    fn emit(&mut self, value: Either<I, B>, timestamp: Timestamp) -> Result<()> {
        match value {
            Either::First(value) => self.elements.emit(value, timestamp),
            Either::Second(value) => self.broadcast(value, timestamp),
        }
    }

    #[inline]
    fn emit_hashed(&mut self, value: Either<I, B>, timestamp: Timestamp, hash: u64) -> Result<()> {
        match value {
            Either::First(value) => self.elements.emit_hashed(value, timestamp, hash),
            Either::Second(value) => self.broadcast(value, timestamp),
        }
    }
}

impl<K, S, P, I, B, O> Operator<Either<I, B>> for KeyedBroadcastOperator<K, S, P, I, B, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedBroadcastProcessFunction<K, I, B, O>,
    I: Data,
{
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.elements.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.elements.control(control)
    }

    /// A batch holds the records of one input, since it comes through one channel. Only those of the keyed one are
    /// hashed.
    fn batch(&mut self, batch: &mut Batch<Either<I, B>>) -> Result<()> {
        if !batch.is_hashed() {
            return batch.drain_each(|value, timestamp, _| self.emit(value, timestamp));
        }
        let records = batch.len();
        batch.drain_few(
            AHEAD,
            self,
            |this, records, hashes| {
                let element = |index| match records.get(index) {
                    Some(Either::First(element)) => Some(element),
                    _ => None,
                };
                this.elements.prefetch(element, hashes)
            },
            |this, value, timestamp, hash| this.emit_hashed(value, timestamp, hash),
        )?;
        self.elements.keep_house(records).map(drop)
    }
}
