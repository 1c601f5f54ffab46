//! Looks into completed checkpoints: their state must be exactly what the records before their source positions make
//! of it, computed here without the engine, and every file that the job keeps must be whole.

use crate::connected::RULES;
use crate::put_out::PutOut;
use crate::workload::{Traced, Workload, record_line, total_line, window_end, window_line};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate::checkpoint::{
    CheckpointKind, FsckOptions, Manifest, Place, StateQuery, StateReader, StoredCheckpoint, check_directory,
    latest_completed, open_place,
};
use tidegate::connector::{GeneratorSplit, Part};
use tidegate::error::{Error, Result};
use tidegate_state::codec;

/// What one source had handed out at the cut.
struct Position<'a> {
    records: Vec<&'a Traced>,
    /// Event time that no watermark from here can have passed.
    bound: i64,
}

/// A checkpoint, opened.
struct Snapshot {
    manifest: Manifest,
    /// By operator and state.
    rows: BTreeMap<String, BTreeMap<String, Vec<Json>>>,
    /// By operator, of each subtask that had any.
    watermarks: BTreeMap<String, Vec<Option<i64>>>,
}

/// Looks into every checkpoint that a job has kept; returns how many there are.
///
/// # Errors
/// What `check` says of one of them, or what cannot be read.
pub fn check_kept(place: &Path, check: &dyn Fn(StoredCheckpoint) -> Result<()>) -> Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = place.to_string_lossy();
    let inspected = runtime.block_on(async {
        match open_place(&place, &[]).await? {
            Place::Job(job) => job.inspect().await,
            other => Err(Error::data(format!("{other:?} is no job"))),
        }
    })?;
    let checkpoints = inspected.checkpoints.len();
    for (id, stored) in inspected.checkpoints {
        check(stored?).map_err(|e| e.at(format!("checkpoint {id}")))?;
    }
    Ok(checkpoints)
}

/// What looking into checkpoints has found, one after the other.
pub type Seen = Arc<Mutex<Vec<Result<()>>>>;

/// What looks into the newest checkpoint of a job, and keeps what is wrong. For a jobmanager's crash point
/// `complete.before_notify`: at that moment nobody can delete anything of that checkpoint.
pub fn newest_watcher(
    place: String,
    check: impl Fn(StoredCheckpoint) -> Result<()> + Send + Sync + 'static,
) -> (impl Fn() + Send + Sync + 'static, Seen) {
    let found = Seen::default();
    let results = Arc::clone(&found);
    let look = move || {
        // On another thread: its calls block, and it has a runtime of its own.
        let result = std::thread::scope(|scope| {
            let look = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let stored = runtime.block_on(async { open_place(&place, &[]).await?.checkpoint().await })?;
                drop(runtime);
                let id = stored.manifest.checkpoint;
                check(stored).map_err(|e| e.at(format!("checkpoint {id}")))
            });
            look.join().unwrap_or_else(|_| Err(Error::bug("looking into a checkpoint has panicked")))
        });
        results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
    };
    (look, found)
}

/// Whether all was right that a watcher has looked into; returns how many there were.
///
/// # Errors
/// The first thing that was not.
pub fn all_right(found: &Mutex<Vec<Result<()>>>) -> Result<usize> {
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let checkpoints = found.len();
    found.into_iter().collect::<Result<Vec<()>>>().map(|_| checkpoints)
}

/// Checks a checkpoint of the program of the process lane, which counts the numbers below `records` by their last digits.
///
/// # Errors
/// What differs, or what cannot be read.
pub fn check_counting(stored: StoredCheckpoint, records: u64, keys: u64) -> Result<()> {
    let snapshot = Snapshot::open(stored)?;
    let is_read = snapshot.read("numbers")?;
    let mut counts = BTreeMap::new();
    (0..records).filter(|n| is_read(*n)).for_each(|n| *counts.entry(n % keys).or_default() += 1);
    same("total", &snapshot.numbers("count", "total")?, &counts)
}

/// Checks a checkpoint or savepoint of [`Workload::declare`]'s program: its state, and what its sink is to publish.
///
/// # Errors
/// What differs, or what cannot be read.
pub fn check_union(stored: StoredCheckpoint, workload: &Workload) -> Result<()> {
    check_union_state(&Snapshot::open(stored)?, workload).map(drop)
}

/// As [`check_union`]; if it is the newest checkpoint of its job, also that everything that was put out up to its cut is
/// published in `output` or about to be, and nothing that came later. All jobs that led to it must have published there.
///
/// # Errors
/// What differs, or what cannot be read.
pub fn check_union_and_output(stored: StoredCheckpoint, workload: &Workload, output: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let newest = runtime.block_on(latest_completed(&stored.job))?;
    drop(runtime);
    let is_newest = newest.is_some_and(|newest| newest.nonce == stored.manifest.nonce);
    let put_out = check_union_state(&Snapshot::open(stored)?, workload)?;
    if is_newest { put_out.check_output(output) } else { Ok(()) }
}

fn check_union_state(snapshot: &Snapshot, workload: &Workload) -> Result<PutOut> {
    let halves = [snapshot.position(workload, "even", 0)?, snapshot.position(workload, "odd", 1)?];
    let is_drained = snapshot.manifest.kind == CheckpointKind::Drain;
    let bounds = [0, 1].map(|half: usize| if is_drained { i64::MAX } else { halves[half].bound });
    let bound = bounds[0].min(bounds[1]);
    let (mut totals, mut next, mut offsets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut windows: BTreeMap<(u64, i64), u64> = BTreeMap::new();
    let processed = snapshot.processed_by("check", halves.map(|half| half.records))?;
    for record in processed.iter().flatten() {
        *totals.entry(record.key).or_insert(0) += 1;
        *next.entry((record.key, record.partition as i64)).or_insert(0) += 1;
        *windows.entry((record.key, window_end(record.offset as i64))).or_insert(0) += 1;
        offsets.entry(record.key).or_insert_with(BTreeSet::new).insert(record.offset);
    }
    same("total", &snapshot.numbers("check", "total")?, &totals)?;
    same("next", &snapshot.map("check", "next")?, &next)?;
    let open = snapshot.map("check", "windows")?;
    let timers = snapshot.timers("check")?;
    for ((key, end), count) in &windows {
        let found = open.get(&(*key, *end));
        let waits = timers.contains(&(*key, end - 1));
        // A window that has gone must have fired, and it cannot have before the watermark.
        let is_right =
            if found.is_some() || end - 1 > bound { found == Some(count) && waits } else { !waits };
        if !is_right {
            return Err(Error::data(format!(
                "window {end} of key {key}: {found:?} of {count} records, timer set: {waits}, bound {bound}"
            )));
        }
    }
    if let Some(extra) = open.keys().find(|window| !windows.contains_key(window)) {
        return Err(Error::data(format!("window {extra:?} has no records")));
    }
    let recent = snapshot.lists("check", "recent")?;
    for (key, all) in &offsets {
        let recent = recent.get(key).cloned().unwrap_or_default();
        if recent.len() != all.len().min(3) || !recent.iter().all(|offset| all.contains(offset)) {
            return Err(Error::data(format!("recent offsets of key {key}: {recent:?} of {all:?}")));
        }
    }
    let ended = bound == i64::MAX;
    if let Some(key) = totals.keys().find(|key| !ended && !timers.contains(&(**key, i64::MAX))) {
        return Err(Error::data(format!("key {key} has no timer for its end")));
    }
    snapshot.check_watermarks(&[("left-time", bounds[0]), ("right-time", bounds[1])], "check")?;
    let behind = snapshot.watermarks("check").flatten().min();
    if let Some((key, end)) = open.keys().find(|(_, end)| behind.is_some_and(|behind| *end - 1 <= behind)) {
        return Err(Error::data(format!(
            "window {end} of key {key} is there, and the watermark is {behind:?}"
        )));
    }
    let mut due: Vec<String> = processed.iter().flatten().map(|record| record_line(record)).collect();
    let fired = windows.iter().filter(|(window, _)| !open.contains_key(window));
    due.extend(fired.map(|((key, end), count)| window_line(*key, *end, *count)));
    let told = totals.iter().filter(|(key, _)| !timers.contains(&(**key, i64::MAX)));
    due.extend(told.map(|(key, total)| total_line(*key, *total)));
    let put_out = PutOut::new(due, snapshot.pending("sink")?);
    put_out.check_pending()?;
    Ok(put_out)
}

/// Checks a checkpoint or savepoint of the program of [`connected`](crate::connected).
///
/// # Errors
/// What differs, or what cannot be read.
pub fn check_connected(stored: StoredCheckpoint, workload: &Workload) -> Result<()> {
    let snapshot = Snapshot::open(stored)?;
    let halves = [snapshot.position(workload, "even", 0)?, snapshot.position(workload, "odd", 1)?];
    let has_ended = halves[1].bound == i64::MAX;
    let [even, odd] = halves.map(|half| half.records);
    let count = |records: &[&Traced]| {
        records.iter().fold(BTreeMap::new(), |mut counts: BTreeMap<u64, u64>, record| {
            *counts.entry(record.key).or_default() += 1;
            counts
        })
    };
    let [pairs_even, pairs_odd] = snapshot.processed_by("pairs", [even.clone(), odd.clone()])?;
    same("even", &snapshot.numbers("pairs", "even")?, &count(&pairs_even))?;
    same("odd", &snapshot.numbers("pairs", "odd")?, &count(&pairs_odd))?;
    let [ruled_even, _] = snapshot.processed_by("ruled", [even, Vec::new()])?;
    let [held_odd, _] = snapshot.processed_by("held", [odd, Vec::new()])?;
    let mut ruled = snapshot.numbers("ruled", "open")?;
    for (key, settled) in snapshot.numbers("ruled", "settled")? {
        *ruled.entry(key).or_default() += settled;
    }
    same("open and settled", &ruled, &count(&ruled_even))?;
    let held: BTreeSet<u64> = snapshot.list("held", "held")?.into_iter().collect();
    let all: BTreeSet<u64> = held_odd.iter().map(|record| record.offset).collect();
    // When its streams have ended, it is put out: by some subtasks, while records are in flight to others.
    if held != all && !(has_ended && held.is_subset(&all)) {
        return Err(Error::data(format!("held are {} offsets, {} were handed out", held.len(), all.len())));
    }
    // Every subtask has all rules there were, in their order.
    for operator in ["ruled", "held"] {
        let rules: BTreeSet<u64> = snapshot.list(operator, "rules")?.into_iter().collect();
        if rules.len() as u64 > RULES || rules.last().is_some_and(|last| last + 1 != rules.len() as u64) {
            return Err(Error::data(format!("rules of {operator}: {rules:?}")));
        }
    }
    Ok(())
}

fn same<K: Ord + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, u64>,
    due: &BTreeMap<K, u64>,
) -> Result<()> {
    let differs = |key: &&K| found.get(key) != due.get(key);
    match found.keys().chain(due.keys()).find(differs) {
        None => Ok(()),
        Some(key) => Err(Error::data(format!(
            "{what} of {key:?}: found {:?}, the records make {:?}",
            found.get(key),
            due.get(key)
        ))),
    }
}

impl Snapshot {
    /// Opens it and checks that all files that the job keeps are whole.
    fn open(stored: StoredCheckpoint) -> Result<Self> {
        let options = FsckOptions { now_ms: 0, grace_ms: u64::MAX };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let check = runtime.block_on(check_directory(&stored.job, options))?;
        if let Some(problem) = check.problems.first() {
            return Err(Error::data(problem.what.clone()).at("fsck"));
        }
        let reader = StateReader::of(stored)?;
        let mut rows: BTreeMap<String, BTreeMap<String, Vec<Json>>> = BTreeMap::new();
        _ = reader.read(&StateQuery::default(), &mut |record| {
            let row = serde_json::to_value(&record).map_err(|e| Error::data(e.to_string()))?;
            let states = rows.entry(record.operator.as_str().to_owned()).or_default();
            states.entry(record.state.to_owned()).or_default().push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        let manifest = reader.manifest().clone();
        let mut watermarks = BTreeMap::new();
        for operator in &manifest.operators {
            watermarks.insert(operator.uid.to_string(), reader.watermarks(operator)?);
        }
        Ok(Self { manifest, rows, watermarks })
    }

    /// The event time that the subtasks of an operator had reached.
    fn watermarks(&self, operator: &str) -> impl Iterator<Item = Option<i64>> {
        self.watermarks.get(operator).into_iter().flatten().copied()
    }

    /// No watermark is ahead of the records that were handed out, and none of those who follow is ahead of its inputs'.
    fn check_watermarks(&self, makers: &[(&str, i64)], follower: &str) -> Result<()> {
        let ahead = |operator: &str, found: i64, bound: i64| {
            Err(Error::data(format!("the watermark of {operator} is {found}, which is ahead of {bound}")))
        };
        let mut lowest = Some(i64::MAX);
        for (maker, bound) in makers {
            for watermark in self.watermarks(maker) {
                match watermark {
                    // It says that nothing at it or below it will come; that of a reader without splits is the end.
                    Some(found) if found != i64::MAX && found >= *bound => {
                        return ahead(maker, found, *bound);
                    }
                    found => lowest = lowest.zip(found).map(|(lowest, found)| lowest.min(found)),
                }
            }
        }
        let lowest = lowest.unwrap_or(i64::MAX);
        match self.watermarks(follower).flatten().find(|found| *found > lowest) {
            Some(found) => ahead(follower, found, lowest),
            None => Ok(()),
        }
    }

    /// What a file sink is to publish once the checkpoint is durable.
    fn pending(&self, operator: &str) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        self.rows(operator, "pending", &mut |row| {
            let hex = row["value"]["hex"].as_str();
            let hex = hex.ok_or_else(|| Error::data(format!("not a part: {row}")))?;
            parts.push(codec::decode(&unhex(hex)?)?);
            Ok(())
        })?;
        Ok(parts)
    }

    /// Which records a source had handed out, by their index: all but what its readers have left, and what was not handed
    /// out to any.
    fn read(&self, uid: &str) -> Result<impl Fn(u64) -> bool + use<>> {
        let (mut read, mut step) = (BTreeMap::new(), None);
        let mut left = |split: GeneratorSplit| {
            step = Some(split.step);
            let next = split.next.unwrap_or(u64::MAX);
            read.insert(next % split.step, next);
        };
        self.rows(uid, "splits", &mut |row| {
            let split: GeneratorSplit = match row["value"]["hex"].as_str() {
                Some(hex) => codec::decode(&unhex(hex)?)?,
                None => {
                    serde_json::from_value(row["value"].clone()).map_err(|e| Error::data(e.to_string()))?
                }
            };
            left(split);
            Ok(())
        })?;
        if let Some(enumerator) = self.manifest.enumerators.iter().find(|e| e.operator.as_str() == uid) {
            let waiting: Vec<(u32, GeneratorSplit)> = codec::decode(&enumerator.state)?;
            waiting.into_iter().for_each(|(_, split)| left(split));
        }
        Ok(move |index: u64| match step {
            Some(step) => read.get(&(index % step)).is_none_or(|next| index < *next),
            None => true,
        })
    }

    /// How far a source had come.
    fn position<'a>(&self, workload: &'a Workload, uid: &str, half: u64) -> Result<Position<'a>> {
        let is_read = self.read(uid)?;
        let all = workload.input.iter().filter(|record| record.partition % 2 == half);
        let indexed: Vec<_> = (0..).zip(all).collect();
        let records: Vec<_> =
            indexed.iter().filter(|(index, _)| is_read(*index)).map(|(_, record)| *record).collect();
        let bound = match records.len() == indexed.len() {
            true => i64::MAX,
            false => records.iter().map(|record| record.offset as i64).max().unwrap_or(i64::MIN),
        };
        Ok(Position { records, bound })
    }

    /// The records that an operator has processed, of those that sources had handed out: all that were not in flight to it.
    fn processed_by<'a, const N: usize>(
        &self,
        operator: &str,
        handed_out: [Vec<&'a Traced>; N],
    ) -> Result<[Vec<&'a Traced>; N]> {
        let mut in_flight = BTreeSet::new();
        self.rows(operator, "in-flight", &mut |row| {
            let offset = offset_in(&row["value"]);
            let offset = offset.ok_or_else(|| Error::data(format!("not a record: {row}")))?;
            match in_flight.insert(offset) {
                true => Ok(()),
                false => Err(Error::data(format!("offset {offset} is in flight to {operator} twice"))),
            }
        })?;
        let processed = handed_out.map(|mut records| {
            records.retain(|record| !in_flight.remove(&record.offset));
            records
        });
        match in_flight.first() {
            Some(offset) => {
                Err(Error::data(format!("offset {offset} is in flight to {operator} and was not handed out")))
            }
            None => Ok(processed),
        }
    }

    /// Visits the rows of a state, as JSON; a state that is not there has none.
    fn rows(&self, operator: &str, state: &str, visit: &mut dyn FnMut(&Json) -> Result<()>) -> Result<()> {
        self.rows.get(operator).and_then(|states| states.get(state)).into_iter().flatten().try_for_each(visit)
    }

    fn numbers(&self, operator: &str, state: &str) -> Result<BTreeMap<u64, u64>> {
        let mut numbers = BTreeMap::new();
        self.rows(operator, state, &mut |row| {
            numbers.insert(number(&row["key"])?, number(&row["value"])?);
            Ok(())
        })?;
        Ok(numbers)
    }

    fn map(&self, operator: &str, state: &str) -> Result<BTreeMap<(u64, i64), u64>> {
        let mut entries = BTreeMap::new();
        self.rows(operator, state, &mut |row| {
            entries.insert((number(&row["key"])?, signed(&row["map_key"])?), number(&row["value"])?);
            Ok(())
        })?;
        Ok(entries)
    }

    fn lists(&self, operator: &str, state: &str) -> Result<BTreeMap<u64, Vec<u64>>> {
        let mut lists = BTreeMap::new();
        self.rows(operator, state, &mut |row| {
            let elements = row["value"].as_array().map(Vec::as_slice).unwrap_or_default();
            lists.insert(number(&row["key"])?, elements.iter().map(number).collect::<Result<_>>()?);
            Ok(())
        })?;
        Ok(lists)
    }

    /// An operator state.
    fn list(&self, operator: &str, state: &str) -> Result<Vec<u64>> {
        let mut list = Vec::new();
        self.rows(operator, state, &mut |row| {
            let field = if row["map_key"].is_null() { "value" } else { "map_key" };
            let value = match row[field]["hex"].as_str() {
                Some(hex) => codec::decode(&unhex(hex)?)?,
                None => number(&row[field])?,
            };
            list.push(value);
            Ok(())
        })?;
        Ok(list)
    }

    fn timers(&self, operator: &str) -> Result<BTreeSet<(u64, i64)>> {
        let mut timers = BTreeSet::new();
        self.rows(operator, "timer/event", &mut |row| {
            timers.insert((number(&row["key"])?, signed(&row["time"])?));
            Ok(())
        })?;
        Ok(timers)
    }
}

/// The offset of a record, however it is wrapped.
fn offset_in(json: &Json) -> Option<u64> {
    let fields = json.as_object()?;
    fields.get("offset").and_then(Json::as_u64).or_else(|| fields.values().find_map(offset_in))
}

fn number(json: &Json) -> Result<u64> {
    json.as_u64().ok_or_else(|| Error::data(format!("not a number: {json}")))
}

fn signed(json: &Json) -> Result<i64> {
    json.as_i64().ok_or_else(|| Error::data(format!("not a number: {json}")))
}

fn unhex(hex: &str) -> Result<Vec<u8>> {
    let byte = |at| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes.ok_or_else(|| Error::data(format!("not hex: {hex}")))
}
