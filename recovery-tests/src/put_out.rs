//! What a program has put out up to a checkpoint, and where its file sink has that: published, or in parts that are staged
//! and published once the checkpoint is durable.

use crate::oracle;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use tidegate::connector::Part;
use tidegate::error::{Error, Result};

/// What there must be, and what the sink's state says of it.
pub(crate) struct PutOut {
    /// The lines that the model has put out, sorted.
    due: Vec<String>,
    /// The parts that the checkpoint is to publish.
    pending: Vec<Part>,
}

impl PutOut {
    pub(crate) fn new(mut due: Vec<String>, pending: Vec<Part>) -> Self {
        due.sort_unstable();
        Self { due, pending }
    }

    /// Every part is there, staged or published, and holds lines that are due, none of them twice.
    pub(crate) fn check_pending(&self) -> Result<()> {
        let due: BTreeSet<&str> = self.due.iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        for part in &self.pending {
            let (text, _) = read(part)?;
            for line in text.lines() {
                if !due.contains(line) {
                    return Err(Error::data(format!("not put out before the cut: {line}")).at(&part.staged));
                }
                if !seen.insert(line.to_owned()) {
                    return Err(Error::data(format!("pending twice: {line}")).at(&part.staged));
                }
            }
        }
        Ok(())
    }

    /// What is published in `output`, together with what is staged, is what is due.
    pub(crate) fn check_output(&self, output: &Path) -> Result<()> {
        let mut lines = oracle::published(output)?;
        for part in &self.pending {
            let (text, is_published) = read(part)?;
            if !is_published {
                lines.extend(text.lines().map(str::to_owned));
            }
        }
        lines.sort_unstable();
        match oracle::difference(&self.due, &lines) {
            Some(difference) => Err(Error::data(format!("published or pending: {difference}"))),
            None => Ok(()),
        }
    }
}

/// The content of a part, and whether it is published.
fn read(part: &Part) -> Result<(String, bool)> {
    // In this order: it is renamed from the one to the other.
    for (name, is_published) in [(&part.staged, false), (&part.published, true)] {
        let path: PathBuf = [&part.directory, name].iter().collect();
        match std::fs::read_to_string(&path) {
            Ok(text) if text.len() as u64 == part.length => return Ok((text, is_published)),
            Ok(text) => {
                let what = format!("{} bytes where the checkpoint has {}", text.len(), part.length);
                return Err(Error::data(what).at(path.display()));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::from(e).at(path.display())),
        }
    }
    Err(Error::data("a part is neither staged nor published").at(&part.published))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with what is published and a part that is staged.
    fn put_out(due: &[&str]) -> (tempfile::TempDir, PutOut) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(".staging")).unwrap();
        std::fs::write(directory.path().join("published"), "a\n").unwrap();
        std::fs::write(directory.path().join(".staging/0"), "b\nc\n").unwrap();
        let part = Part {
            directory: directory.path().to_string_lossy().into_owned(),
            staged: ".staging/0".into(),
            published: "part-0".into(),
            length: 4,
            crc32: 0,
        };
        let due = due.iter().map(|line| (*line).to_owned()).collect();
        (directory, PutOut::new(due, vec![part]))
    }

    #[track_caller]
    fn assert_says<T>(result: Result<T>, what: &str) {
        let said = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains(what), "{said:?}");
    }

    #[test]
    fn what_is_lost_put_out_twice_or_too_early_is_found() {
        let (directory, right) = put_out(&["c", "a", "b"]);
        right.check_pending().unwrap();
        right.check_output(directory.path()).unwrap();
        let (directory, lost) = put_out(&["a", "b", "c", "d"]);
        lost.check_pending().unwrap();
        assert_says(lost.check_output(directory.path()), "1 lost, such as [\"d\"]");
        let (directory, early) = put_out(&["b", "c"]);
        early.check_pending().unwrap();
        assert_says(early.check_output(directory.path()), "1 duplicated or wrong, such as [\"a\"]");
        let (_directory, wrong) = put_out(&["a", "b"]);
        assert_says(wrong.check_pending(), "not put out before the cut: c");
        let (_directory, mut twice) = put_out(&["a", "b", "c"]);
        twice.pending.push(twice.pending[0].clone());
        assert_says(twice.check_pending(), "pending twice: b");
    }

    #[test]
    fn a_part_counts_once_wherever_it_is_and_must_be_whole() {
        let (directory, right) = put_out(&["a", "b", "c"]);
        let (staged, published) = (directory.path().join(".staging/0"), directory.path().join("part-0"));
        std::fs::rename(&staged, &published).unwrap();
        right.check_pending().unwrap();
        right.check_output(directory.path()).unwrap();
        std::fs::write(&published, "b\n").unwrap();
        assert_says(right.check_pending(), "2 bytes where the checkpoint has 4");
        std::fs::remove_file(&published).unwrap();
        assert_says(right.check_pending(), "neither staged nor published");
    }
}
