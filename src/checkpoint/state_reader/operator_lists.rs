//! The lists and broadcast states of an operator: elements in the codec of operator state, read by the schema that is
//! stored with them.

use super::StateSummary;
use crate::error::{Error, Result};
use crate::function::{Redistribution, StoredList};
use tidegate_state::schema::Schema;
use tidegate_state::{Codec, KeyType, Part};

/// One operator state of one old subtask.
#[derive(Debug)]
pub(super) struct OperatorList {
    pub(super) name: String,
    list: StoredList,
    schema: Option<Schema>,
    /// The type of a broadcast state's keys, and its name.
    key_type: Option<(KeyType, String)>,
}

impl OperatorList {
    pub(super) fn new(name: String, list: StoredList) -> Result<Self> {
        let schema = (!list.schema.is_empty()).then(|| Schema::parse(&list.schema)).transpose();
        let schema = schema.map_err(|e| e.at(format!("operator state '{name}'")))?;
        let is_broadcast = list.redistribution == Redistribution::Broadcast;
        let key_type = if is_broadcast { key_type(&list.element) } else { None };
        Ok(Self { name, list, schema, key_type })
    }

    /// The elements: a broadcast state's key, as far as it can be read, and the value.
    pub(super) fn elements(&self) -> impl Iterator<Item = Result<(Option<Part>, Part)>> {
        self.list
            .elements
            .iter()
            .map(|bytes| self.element(bytes).map_err(|e| e.at(format!("operator state '{}'", self.name))))
    }

    fn element(&self, mut bytes: &[u8]) -> Result<(Option<Part>, Part)> {
        let raw = |bytes: &[u8]| Part::Raw { type_name: self.list.element.clone(), bytes: bytes.to_vec() };
        let is_broadcast = self.list.redistribution == Redistribution::Broadcast;
        let key = match &self.key_type {
            Some((key_type, _)) => Some(Part::Value(key_type.decode_ordered(&mut bytes)?)),
            // Where the key ends nobody knows.
            None if is_broadcast => return Ok((None, raw(bytes))),
            None => None,
        };
        let Some(schema) = &self.schema else { return Ok((key, raw(bytes))) };
        match Part::read(schema, Codec::Bincode, &self.list.element, bytes) {
            Ok(value) => Ok((key, value)),
            Err(e) => Err(Error::data("an element is not what its schema says").with_source(e)),
        }
    }

    /// Adds the list to what other subtasks have of it.
    pub(super) fn add_to(&self, summary: Option<StateSummary>) -> StateSummary {
        let mut summary = summary.unwrap_or_else(|| StateSummary {
            name: self.name.clone(),
            kind: match self.list.redistribution {
                Redistribution::Split => "operator-list",
                Redistribution::Union => "union-list",
                Redistribution::Broadcast => "broadcast",
            },
            codec: Some(Codec::Bincode.to_string()),
            ttl: None,
            namespace_type: None,
            map_key_type: self.key_type.as_ref().map(|(_, name)| name.clone()),
            value_type: Some(self.list.element.clone()),
            schema: self.schema.as_ref().map(Schema::to_string),
            rows: 0,
            bytes: 0,
        });
        summary.rows += self.list.elements.len() as u64;
        summary.bytes += self.list.elements.iter().map(|element| element.len() as u64).sum::<u64>();
        summary
    }
}

/// The first of a pair of types, if it is one of a key that comes with Tidegate.
fn key_type(pair: &str) -> Option<(KeyType, String)> {
    let inner = pair.strip_prefix('(')?;
    inner.match_indices(", ").find_map(|(end, _)| {
        let name = inner.get(..end)?;
        Some((KeyType::parse(name)?, name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(redistribution: Redistribution, element: &str, schema: &str, bytes: &[u8]) -> OperatorList {
        let (element, schema) = (element.to_owned(), schema.to_owned());
        let list = StoredList { redistribution, element, schema, elements: vec![bytes.to_vec()] };
        OperatorList::new("l".into(), list).unwrap()
    }

    fn read(list: &OperatorList) -> Result<String> {
        let element = list.elements().next().unwrap()?;
        Ok(serde_json::to_string(&element).unwrap())
    }

    #[test]
    fn elements_are_read_by_their_schema_and_shown_as_bytes_without_one() {
        let union = list(Redistribution::Union, "Step", "struct Step { n: u8 }", &[7]);
        assert_eq!(read(&union).unwrap(), r#"[null,{"n":7}]"#);
        let splits = list(Redistribution::Split, "Step", "", &[7]);
        assert_eq!(read(&splits).unwrap(), r#"[null,{"type":"Step","hex":"07"}]"#);
        let e = read(&list(Redistribution::Split, "Step", "struct Step { n: u8 }", &[7, 7])).unwrap_err();
        assert!(e.to_string().contains("operator state 'l'"), "{e}");
    }

    #[test]
    fn the_key_of_a_broadcast_state_is_read_if_its_type_is_known() {
        let rules = list(Redistribution::Broadcast, "((u8, String), Rule)", "u16", &[1, b'k', 0, 1, 9]);
        assert_eq!(read(&rules).unwrap(), r#"[[1,"k"],9]"#);
        assert_eq!(rules.add_to(None).map_key_type.as_deref(), Some("(u8, String)"));
        let unknown = list(Redistribution::Broadcast, "(Own, u16)", "u16", &[1, 9]);
        assert_eq!(read(&unknown).unwrap(), r#"[null,{"type":"(Own, u16)","hex":"0109"}]"#);
    }
}
