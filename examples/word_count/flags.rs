//! The command line: the example's own flags beside those of Tidegate.

use crate::show::{Rate, Show};
use std::path::Path;
use tidegate::config::{Action, Arguments};
use tidegate::prelude::*;

/// Time between two checkpoints if neither file nor flag says otherwise.
const INTERVAL_MS: u64 = 500;

/// An understood command line.
#[derive(Debug)]
pub(crate) struct Flags {
    pub(crate) env: Environment,
    pub(crate) show: Show,
}

impl Flags {
    pub(crate) fn parse() -> Result<Self> {
        let mut parsed = Arguments::new("word_count", "Counts the words of text files.")
            .option("input", "PATH", Some("data/kjv.txt"), "file, directory or glob pattern to read")
            .option("output", "DIR", Some("out/words"), "directory to write the counts to")
            .option("rate", "LINES", Some("0"), "lines per second of every reader; 0 for as fast as it goes")
            .switch("crash", "panic in user code on the way, and crash a taskmanager later")
            .parse_or_exit()?;
        parsed.config.checkpoint.interval_ms.get_or_insert(INTERVAL_MS);
        let show = Show {
            input: parsed.required("input")?.to_owned(),
            output: Path::new(parsed.required("output")?).to_owned(),
            rate: Rate(parsed.number("rate")?),
            crash: parsed.is_set("crash"),
            plan_only: parsed.action != Action::Run,
        };
        Ok(Self { env: Environment::from_parsed(&parsed), show })
    }
}
