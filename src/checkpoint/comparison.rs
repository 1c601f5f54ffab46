//! The operators of a checkpoint beside those of a program: which fit, which do not, and the table that says so.
//!
//! Pure. Every operator of either side has one row with one verdict.

use crate::checkpoint::{Manifest, OperatorState};
use crate::error::Error;
use crate::graph::{JobGraph, OperatorInfo, OperatorKind};
use crate::id::OperatorUid;
use std::collections::BTreeMap;

/// What becomes of an operator's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The program's operator takes it.
    Matched,
    /// It does, with the stored number of key groups in place of the program's.
    Adopted,
    /// There is none.
    New,
    /// There is no operator, and no state either.
    Gone,
    /// No operator takes it; that may be allowed.
    LeftOver { allowed: bool },
    /// It has the splits of a source, and the program's operator is none; that may be allowed.
    NoSource { allowed: bool },
    /// The program insists on another number of key groups.
    OtherGroups,
    /// More subtasks than key groups.
    TooParallel { groups: u16 },
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Adopted => "matched, with the key groups of its state",
            Self::New => "new: starts empty",
            Self::Gone => "not in the program, without state",
            Self::LeftOver { allowed: false } => "LEFT OVER: not in the program",
            Self::LeftOver { allowed: true } => "left behind: not in the program",
            Self::NoSource { allowed: false } => "LEFT OVER: no source any more",
            Self::NoSource { allowed: true } => "splits left behind: no source any more",
            Self::OtherGroups => "INCOMPATIBLE: max parallelism",
            Self::TooParallel { .. } => "INCOMPATIBLE: parallelism",
        }
    }
}

#[derive(Debug)]
struct Row<'a> {
    verdict: Verdict,
    stored: Option<&'a OperatorState>,
    /// With its parallelism.
    program: Option<(u32, &'a OperatorInfo)>,
    uid: &'a OperatorUid,
    has_splits: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    manifest: &'a Manifest,
    /// Those of the program first, in its order.
    rows: Vec<Row<'a>>,
}

impl<'a> Comparison<'a> {
    /// Compares; `allowed`: state that no operator takes may be left behind.
    pub(super) fn of(manifest: &'a Manifest, graph: &'a JobGraph, allowed: bool) -> Self {
        let stored: BTreeMap<&OperatorUid, &OperatorState> =
            manifest.operators.iter().map(|o| (&o.uid, o)).collect();
        let has_splits = |uid: &OperatorUid| manifest.enumerators.iter().any(|e| e.operator == *uid);
        let mut rows = Vec::new();
        for (vertex, operator) in graph.operators() {
            let (uid, stored) = (&operator.uid, stored.get(&operator.uid).copied());
            let verdict = match stored {
                Some(state) => fit(state, vertex.parallelism, operator),
                None => Verdict::New,
            };
            let has_splits = has_splits(uid);
            let verdict = match verdict {
                Verdict::Matched | Verdict::Adopted | Verdict::New
                    if has_splits && operator.kind != OperatorKind::Source =>
                {
                    Verdict::NoSource { allowed }
                }
                verdict => verdict,
            };
            let program = Some((vertex.parallelism, operator));
            rows.push(Row { verdict, stored, program, uid, has_splits });
        }
        let in_program = |uid: &OperatorUid| graph.operators().any(|(_, o)| o.uid == *uid);
        let enumerators = manifest.enumerators.iter().map(|e| &e.operator);
        let gone = enumerators.filter(|uid| !stored.contains_key(uid)).chain(stored.keys().copied());
        for uid in gone.filter(|uid| !in_program(uid)) {
            let (stored, has_splits) = (stored.get(uid).copied(), has_splits(uid));
            let verdict = if has_splits || stored.is_some_and(OperatorState::has_state) {
                Verdict::LeftOver { allowed }
            } else {
                Verdict::Gone
            };
            rows.push(Row { verdict, stored, program: None, uid, has_splits });
        }
        Self { manifest, rows }
    }

    /// Operators that take over the stored number of key groups.
    pub(super) fn adopted(&self) -> BTreeMap<OperatorUid, u16> {
        let adopts = |r: &&Row<'_>| r.program.is_some_and(|(_, o)| !o.max_parallelism_is_explicit);
        let groups = |r: &Row<'_>| {
            let groups = r.stored?.max_parallelism;
            (r.program?.1.max_parallelism != groups).then(|| (r.uid.clone(), groups))
        };
        self.rows.iter().filter(adopts).filter_map(groups).collect()
    }

    /// Why the program cannot start from the checkpoint, if it cannot.
    pub(super) fn refusal(&self) -> Option<Error> {
        let (mut reasons, mut hints): (Vec<String>, Vec<String>) = Default::default();
        let mut give = |reason: String, hint: String| {
            reasons.push(reason);
            hints.push(hint);
        };
        let left = |r: &Row<'_>| {
            matches!(r.verdict, Verdict::LeftOver { allowed: false } | Verdict::NoSource { allowed: false })
        };
        if self.rows.iter().any(left) {
            give(
                "the checkpoint holds state that no operator of the program takes".to_owned(),
                "give the operators the uids of their state, or leave it behind with \
                 --allow-non-restored-state"
                    .to_owned(),
            );
        }
        for row in &self.rows {
            let (Some(stored), Some((parallelism, operator))) = (row.stored, row.program) else { continue };
            let (uid, name, groups) = (row.uid, &operator.name, stored.max_parallelism);
            match row.verdict {
                Verdict::OtherGroups => give(
                    format!(
                        "operator {uid} ({name}): its state has {groups} key groups, the program asks for {}",
                        operator.max_parallelism
                    ),
                    format!("set its max parallelism to {groups} or leave it unset"),
                ),
                Verdict::TooParallel { groups } => give(
                    format!(
                        "operator {uid} ({name}): parallelism {parallelism} exceeds the {groups} key groups \
                         of its state"
                    ),
                    format!("run it with at most {groups} subtasks"),
                ),
                _ => {}
            }
        }
        if reasons.is_empty() {
            return None;
        }
        let text = format!("{}\n{}", reasons.join("; "), self.table());
        Some(Error::config(text).hint(hints.join("; ")))
    }

    /// What a person should know although the program can start from the checkpoint.
    pub(super) fn warning(&self) -> Option<String> {
        let news = |r: &Row<'_>| match r.verdict {
            Verdict::New => {
                Some(format!("operator {} has no state in the checkpoint and starts empty", r.called()))
            }
            Verdict::LeftOver { .. } => Some(format!("state of {} is left behind", r.called())),
            Verdict::NoSource { .. } => Some(format!("splits of {} are left behind", r.called())),
            _ => None,
        };
        let news: Vec<String> = self.rows.iter().filter_map(news).collect();
        let Manifest { checkpoint, job, .. } = self.manifest;
        (!news.is_empty())
            .then(|| format!("checkpoint {checkpoint} of job {job}: {}\n{}", news.join("; "), self.table()))
    }

    /// One line per operator, indented; ends with a line feed.
    fn table(&self) -> String {
        let header = ["verdict", "uid", "name", "subtasks", "key groups", "states"].map(str::to_owned);
        let lines: Vec<[String; 6]> =
            std::iter::once(header).chain(self.rows.iter().map(Row::cells)).collect();
        let width =
            |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("  {cell:<width$}"));
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        text
    }
}

/// Whether an operator of the program can take this state.
fn fit(state: &OperatorState, parallelism: u32, operator: &OperatorInfo) -> Verdict {
    let (stored, asked) = (state.max_parallelism, operator.max_parallelism);
    let explicit = operator.max_parallelism_is_explicit;
    if stored != asked && explicit && state.has_state() {
        return Verdict::OtherGroups;
    }
    let groups = if explicit { asked } else { stored };
    if parallelism > u32::from(groups) {
        return Verdict::TooParallel { groups };
    }
    if groups == asked { Verdict::Matched } else { Verdict::Adopted }
}

impl Row<'_> {
    fn name(&self) -> &str {
        let program = self.program.map(|(_, o)| o.name.as_str());
        program.or(self.stored.map(|s| s.name.as_str())).unwrap_or_default()
    }

    fn called(&self) -> String {
        format!("{} ({})", self.uid, self.name())
    }

    fn cells(&self) -> [String; 6] {
        let both = |stored: Option<u32>, program: Option<u32>| match (stored, program) {
            (Some(stored), Some(program)) if stored != program => format!("{stored} -> {program}"),
            (one, other) => one.or(other).map(|n| n.to_string()).unwrap_or_default(),
        };
        let derived = self.program.is_some_and(|(_, o)| !o.uid_is_explicit);
        [
            self.verdict.text().to_owned(),
            format!("{}{}", self.uid, if derived { " (derived)" } else { "" }),
            self.name().to_owned(),
            both(self.stored.map(|s| s.parallelism), self.program.map(|(parallelism, _)| parallelism)),
            both(
                self.stored.map(|s| s.max_parallelism.into()),
                self.program.map(|(_, o)| match self.verdict {
                    Verdict::Adopted => self.stored.map_or(o.max_parallelism, |s| s.max_parallelism).into(),
                    _ => o.max_parallelism.into(),
                }),
            ),
            self.states(),
        ]
    }

    /// What the checkpoint has of the operator.
    fn states(&self) -> String {
        let subtasks = || self.stored.iter().flat_map(|s| &s.subtasks);
        let mut names: Vec<&str> = subtasks().flat_map(|s| &s.states).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let mut parts = vec![names.join(", ")];
        let files = subtasks().map(|s| s.files.len()).sum::<usize>();
        if names.is_empty() && files > 0 {
            parts = vec![format!("{files} files")];
        }
        if self.has_splits {
            parts.push("splits not handed out".to_owned());
        }
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }
}
