//! `tidegate state ls|get|dump`.

use crate::arguments::{StateCommand, StateSelection};
use crate::table::{Table, size};
use crate::{Outcome, print};
use std::io::{BufWriter, ErrorKind as IoErrorKind, Write};
use std::ops::ControlFlow;
use tidegate::checkpoint::{OperatorSummary, StateQuery, StateReader, StateSummary};
use tidegate::error::{Error, Result};

pub(crate) fn run(command: StateCommand, json: bool) -> Result<Outcome> {
    match command {
        StateCommand::Ls { place } => {
            let operators = StateReader::open(&place, &[])?.operators()?;
            print(json, &operators, || list(&operators))?;
        }
        StateCommand::Get { place, key, selection } => {
            let found = records(&place, selection, Some(key.clone()))?;
            if found == 0 {
                return Err(Error::config(format!("nothing is kept under key {key:?}")).at(place));
            }
        }
        StateCommand::Dump { place, selection } => {
            records(&place, selection, None)?;
        }
    }
    Ok(Outcome::Fine)
}

fn list(operators: &[OperatorSummary]) -> String {
    let mut table = Table::new(&["operator", "state", "kind", "keys", ">rows", ">bytes", "codec", "values"]);
    for operator in operators {
        for state in &operator.states {
            table.row(vec![
                operator.uid.to_string(),
                state.name.clone(),
                state.kind.to_owned(),
                keys(operator, state),
                state.rows.to_string(),
                size(state.bytes),
                state.codec.clone().unwrap_or_default(),
                state.schema.clone().or_else(|| state.value_type.clone()).unwrap_or_default(),
            ]);
        }
    }
    if operators.iter().all(|o| o.states.is_empty()) { "no state\n".to_owned() } else { table.text() }
}

/// The types of what a row is found by.
fn keys(operator: &OperatorSummary, state: &StateSummary) -> String {
    let key = if state.is_keyed() { operator.key_type.as_ref() } else { None };
    let types = [key, state.namespace_type.as_ref(), state.map_key_type.as_ref()];
    types.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" / ")
}

/// Prints records as JSON lines, and returns how many.
fn records(place: &str, selection: StateSelection, key: Option<String>) -> Result<u64> {
    let reader = StateReader::open(place, &[])?;
    let query = StateQuery { operator: selection.operator, state: selection.state, key };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut found = 0;
    let flow = reader.read(&query, &mut |record| {
        found += 1;
        let line = serde_json::to_string(&record);
        let line = line.map_err(|e| Error::bug("cannot encode a record").with_source(e))? + "\n";
        wanted(out.write_all(line.as_bytes()))
    })?;
    if flow.is_continue() {
        wanted(out.flush()).map(drop)?;
    }
    Ok(found)
}

/// A reader that has seen enough, such as `head`, closes its end.
fn wanted(written: std::io::Result<()>) -> Result<ControlFlow<()>> {
    match written {
        Err(e) if e.kind() == IoErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        other => Ok(ControlFlow::Continue(other?)),
    }
}
