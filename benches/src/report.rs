//! Results: as one line from the process that ran, and as a table of medians in the end.

use crate::case::{Case, Contender};
use crate::engine::EngineRun;
use crate::measure::{Measured, peak_rss_mb};
use std::collections::BTreeMap;

/// What is known of one run, or the medians of several. Absent: not measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(BTreeMap<String, f64>);

impl Outcome {
    pub(crate) fn of(measured: Measured) -> Self {
        let mut outcome = Self::default();
        outcome.set("records", measured.records as f64);
        outcome.set("seconds", measured.seconds);
        outcome.set("rps", measured.rate());
        outcome.set("stall_ms", measured.stall_ms);
        outcome.set("rss_mb", peak_rss_mb() as f64);
        outcome
    }

    pub(crate) fn of_engine(run: &EngineRun, periodic: bool) -> Self {
        let mut outcome = Self::of(run.measured);
        // The last one is the final checkpoint, which is taken in any case and behind the last record.
        let checkpoints = &run.checkpoints[..run.checkpoints.len().saturating_sub(1)];
        if periodic {
            outcome.set("checkpoints", checkpoints.len() as f64);
        }
        let column = |value: fn(&tidegate::checkpoint::CompletedCheckpoint) -> u64| -> Vec<f64> {
            checkpoints.iter().map(|checkpoint| value(checkpoint) as f64).collect()
        };
        if let Some(ms) = median(column(|c| c.duration_ms)) {
            outcome.set("ck_ms", ms);
            outcome.set("ck_max_ms", column(|c| c.duration_ms).into_iter().fold(0.0, f64::max));
            outcome.set("ck_mb", median(column(|c| c.state_bytes)).unwrap_or(0.0) / 1e6);
            outcome.set("sync_ms", median(column(|c| c.timings.sync_us)).unwrap_or(0.0) / 1e3);
            outcome.set("align_ms", median(column(|c| c.timings.alignment_us)).unwrap_or(0.0) / 1e3);
        }
        outcome
    }

    fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// As one line.
    pub(crate) fn line(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value:.3}")).collect();
        format!("RESULT {}", words.join(" "))
    }

    /// From output that has such a line in it.
    pub(crate) fn parse(output: &str) -> Option<Self> {
        let line = output.lines().rev().find_map(|line| line.strip_prefix("RESULT "))?;
        let words = line.split_whitespace().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Some(Self(words.collect()))
    }

    fn median_of(runs: &[Self]) -> Self {
        let names: std::collections::BTreeSet<&String> = runs.iter().flat_map(|run| run.0.keys()).collect();
        let column = |name: &String| median(runs.iter().filter_map(|run| run.get(name)).collect());
        Self(names.into_iter().filter_map(|name| Some((name.clone(), column(name)?))).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// All runs so far.
#[derive(Default)]
pub(crate) struct Report {
    cases: Vec<(Case, BTreeMap<Contender, Vec<Outcome>>)>,
}

impl Report {
    pub(crate) fn add(&mut self, case: &Case, contender: Contender, outcome: Outcome) {
        let name = case.to_string();
        let index = self.cases.iter().position(|(c, _)| c.to_string() == name).unwrap_or_else(|| {
            self.cases.push((case.clone(), BTreeMap::new()));
            self.cases.len() - 1
        });
        self.cases[index].1.entry(contender).or_default().push(outcome);
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from(
            "| job | records/s | hand loop | tuned loop | Flink G1 (warm) | Flink parallel GC (warm) | of hand loop \
             | of tuned | x Flink | x Flink warm | stall ms (Flink) | checkpoints | duration, longest ms | freeze ms \
             | MB each | peak RSS MB (Flink) |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (case, runs) in &self.cases {
            let of =
                |contender| runs.get(&contender).map(|runs| Outcome::median_of(runs)).unwrap_or_default();
            let ours = of(Contender::Tidegate);
            let (hand, tuned) = (of(Contender::Hand), of(Contender::Tuned));
            let flinks = [of(Contender::FlinkG1), of(Contender::FlinkParallel)];
            let rate = |outcome: &Outcome| outcome.get("rps");
            let best = |name: &str| flinks.iter().filter_map(|f| f.get(name)).reduce(f64::max);
            let least = |name: &str| flinks.iter().filter_map(|f| f.get(name)).reduce(f64::min);
            let ratio = |of: Option<f64>| Some(rate(&ours)? / of?);
            let flink_cell = |f: &Outcome| match (rate(f), f.get("warm_rps")) {
                (Some(rate), Some(warm)) => format!("{} ({})", millions(rate), millions(warm)),
                _ => "–".to_owned(),
            };
            let cells = [
                case.to_string(),
                rate(&ours).map_or("–".into(), millions),
                rate(&hand).map_or("–".into(), millions),
                rate(&tuned).map_or("–".into(), millions),
                flink_cell(&flinks[0]),
                flink_cell(&flinks[1]),
                number(ratio(rate(&hand)).map(|r| r * 100.0), 0, " %"),
                number(ratio(rate(&tuned)).map(|r| r * 100.0), 0, " %"),
                number(ratio(best("rps")), 1, "x"),
                number(ratio(best("warm_rps")), 1, "x"),
                format!("{} ({})", number(ours.get("stall_ms"), 0, ""), number(least("stall_ms"), 0, "")),
                number(ours.get("checkpoints"), 0, ""),
                format!("{}, {}", number(ours.get("ck_ms"), 0, ""), number(ours.get("ck_max_ms"), 0, "")),
                number(ours.get("sync_ms"), 2, ""),
                number(ours.get("ck_mb"), 1, ""),
                format!("{} ({})", number(ours.get("rss_mb"), 0, ""), number(least("rss_mb"), 0, "")),
            ];
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        out
    }
}

fn millions(rate: f64) -> String {
    format!("{:.2} M", rate / 1e6)
}

fn number(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}
