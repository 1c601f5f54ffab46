//! Writes down what is in flight to a gate.

use crate::error::{Error, Result};
use crate::function::Data;
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::in_flight::{ChannelName, InFlight, InFlightElement, put_head};
use tidegate_state::schema::Schema;
use tidegate_state::{codec, short_type_name};

/// Collects what is in flight to one gate.
#[derive(Debug, Default)]
pub(crate) struct InFlightCollector {
    /// Per channel.
    elements: Vec<Vec<u8>>,
    /// What cannot be written down fails the checkpoint, not the task.
    failure: Option<Error>,
}

impl InFlightCollector {
    pub(crate) fn new(channels: usize) -> Self {
        Self { elements: vec![Vec::new(); channels], failure: None }
    }

    /// Takes an element of a channel. Idleness and the end of a channel are not kept: a sender that is restored says so
    /// again if it is so, and would not take it back if it is not.
    pub(crate) fn add<T: Data>(&mut self, channel: usize, element: &Element<T>) {
        let Some(out) = self.elements.get_mut(channel).filter(|_| self.failure.is_none()) else { return };
        match element {
            Element::Batch(batch) => {
                if let Err(e) = put_batch(batch, out) {
                    self.failure = Some(e);
                }
            }
            Element::Watermark(watermark) => InFlightElement::Watermark(*watermark).put(out),
            Element::Idle(_) | Element::End | Element::Barrier(_) => {}
        }
    }

    /// Everything collected. `schema` is that of `T`, found out if there is none and it is needed.
    ///
    /// # Errors
    /// If records cannot be written down, or could not be read back.
    pub(crate) fn finish<T: Data>(
        self,
        names: &[ChannelName],
        schema: &mut Option<String>,
    ) -> Result<InFlight> {
        if let Some(e) = self.failure {
            return Err(e);
        }
        let collected = names.iter().zip(self.elements).filter(|(_, elements)| !elements.is_empty());
        let channels: Vec<_> = collected.map(|(name, elements)| name.with(elements)).collect();
        if channels.is_empty() {
            return Ok(InFlight::default());
        }
        let schema = match schema {
            Some(schema) => schema,
            None => schema.insert(Schema::of::<T>().map_err(|e| e.at("records in flight"))?.to_string()),
        };
        Ok(InFlight { record: short_type_name::<T>(), schema: schema.clone(), channels })
    }
}

fn put_batch<T: Data>(batch: &Batch<T>, out: &mut Vec<u8>) -> Result<()> {
    batch.each(|value, timestamp, hash| {
        put_head(timestamp, hash, out);
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        codec::encode(value, out)?;
        // Values are limited to less than that.
        let length = (out.len() - at - 4) as u32;
        if let Some(place) = out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    })
}
