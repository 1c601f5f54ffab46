//! The records in flight to an old subtask, read by the schema that is stored with them. They are shown as a state of the
//! operator that had not processed them.

use super::StateSummary;
use crate::error::{Error, Result};
use crate::task::{InFlight, InFlightElement};
use tidegate_state::schema::Schema;
use tidegate_state::{Codec, Part};

/// What they are called.
pub(super) const IN_FLIGHT: &str = "in-flight";

#[derive(Debug)]
pub(super) struct InFlightRecords {
    in_flight: InFlight,
    schema: Schema,
}

impl InFlightRecords {
    pub(super) fn new(in_flight: InFlight) -> Result<Self> {
        let schema = Schema::parse(&in_flight.schema).map_err(|e| e.at("records in flight"))?;
        Ok(Self { in_flight, schema })
    }

    /// The encoded records, channel by channel, in order.
    fn encoded(&self) -> impl Iterator<Item = Result<&[u8]>> {
        let elements = self.in_flight.channels.iter().flat_map(|channel| channel.elements());
        elements.filter_map(|element| match element {
            Ok(InFlightElement::Record { value, .. }) => Some(Ok(value)),
            Ok(InFlightElement::Watermark(_)) => None,
            Err(e) => Some(Err(e)),
        })
    }

    pub(super) fn values(&self) -> impl Iterator<Item = Result<Part>> {
        self.encoded().map(|bytes| {
            Part::read(&self.schema, Codec::Bincode, &self.in_flight.record, bytes?)
                .map_err(|e| Error::data("a record in flight is not what its schema says").with_source(e))
        })
    }

    /// Adds them to what was in flight to other subtasks.
    pub(super) fn add_to(&self, summary: Option<StateSummary>) -> Result<StateSummary> {
        let mut summary = summary.unwrap_or_else(|| StateSummary {
            name: IN_FLIGHT.to_owned(),
            kind: IN_FLIGHT,
            codec: Some(Codec::Bincode.to_string()),
            ttl: None,
            namespace_type: None,
            map_key_type: None,
            value_type: Some(self.in_flight.record.clone()),
            schema: Some(self.schema.to_string()),
            rows: 0,
            bytes: 0,
        });
        for bytes in self.encoded() {
            summary.rows += 1;
            summary.bytes += bytes?.len() as u64;
        }
        Ok(summary)
    }
}
