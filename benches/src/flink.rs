//! The same jobs on Apache Flink, if the directory named by `FLINK_PEER` has them and Java is there.

use crate::case::{Backend, Case, Contender, Work};
use crate::report::Outcome;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The scripts that run Flink's side.
pub(crate) struct Flink {
    scripts: PathBuf,
}

impl Flink {
    /// `Err` says in one line why Flink is left out.
    pub(crate) fn find() -> Result<Self, String> {
        let Some(scripts) = std::env::var_os("FLINK_PEER").map(PathBuf::from) else {
            return Err("FLINK_PEER does not name the directory of the Flink jobs".into());
        };
        if !scripts.join("env.sh").is_file() {
            return Err(format!("{} has no env.sh", scripts.display()));
        }
        let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !java.is_ok_and(|status| status.success()) {
            return Err("there is no Java".into());
        }
        let ready = ". ./env.sh && test -e \"$BENCH/bench.jar\"";
        let built = Command::new("bash").args(["-c", ready]).current_dir(&scripts).status();
        if !built.is_ok_and(|status| status.success()) {
            return Err(format!("Flink is not set up: run {}/setup.sh first", scripts.display()));
        }
        Ok(Self { scripts })
    }

    /// One run in a JVM of its own.
    pub(crate) fn run(&self, contender: Contender, case: &Case) -> Option<Outcome> {
        let backend = match case.backend {
            Backend::Memory => "hashmap",
            Backend::RocksDb => "rocksdb",
        };
        let checkpoints = case.checkpoint_ms.map_or("off".to_owned(), |ms| format!("{ms} ms"));
        let mut words: Vec<String> = Vec::new();
        match &case.work {
            Work::WordCount { text } => {
                let files = std::fs::read_dir(text).ok()?.count();
                // RocksDB is so much slower there that a quarter of the text does.
                let files = if case.backend == Backend::RocksDb { files.div_ceil(4) } else { files };
                words.extend(["WordCount".into(), "--text".into(), text.display().to_string()]);
                words.extend(["--files".into(), files.to_string()]);
            }
            Work::Keyed { kind, keys, records } => {
                let records = if case.backend == Backend::RocksDb { records / 10 } else { *records };
                words.extend(["KeyedState", "--state", kind.name(), "--keys"].map(String::from));
                words.extend([keys.to_string(), "--prefill".into(), keys.to_string()]);
                words.extend(["--n".into(), records.to_string()]);
            }
        }
        words.extend(["--name".into(), "peer".into(), "--backend".into(), backend.into()]);
        words.extend(["--p".into(), case.parallelism.to_string(), "--ckpt".into(), checkpoints]);
        let collector = if contender == Contender::FlinkParallel { "Parallel" } else { "G1" };
        let output = Command::new("bash")
            .args(["-c", ". ./env.sh && jv \"$@\"", "bash"])
            .args(&words)
            .current_dir(&self.scripts)
            .env("GC", collector)
            // It waits for a quiet machine and repeats noisy runs; here both sides share what noise there is.
            .env("QUIET_WAIT", "0")
            .env("FOREIGN", "2")
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let outcome = Outcome::parse(&String::from_utf8_lossy(&output.stdout));
        if outcome.is_none() {
            eprintln!("no result from Flink: {}", String::from_utf8_lossy(&output.stdout).trim());
        }
        outcome
    }
}
