//! What a job has published: the sums of its committed output files.

use crate::screen::grouped;
use std::path::Path;
use tidegate::id::JobId;
use tidegate::prelude::*;

/// Prints the ten most frequent words from the files that `job` has published in `output`.
pub(crate) fn print(output: &Path, job: &JobId) -> Result<()> {
    let mut counts = Vec::new();
    let mut files = 0;
    for entry in std::fs::read_dir(output)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with(&format!("part-{job}.")) {
            continue;
        }
        files += 1;
        for row in std::fs::read_to_string(&path)?.lines() {
            let parsed =
                row.split_once(',').and_then(|(word, count)| Some((word.to_owned(), count.parse().ok()?)));
            counts.push(
                parsed.ok_or_else(|| Error::data(format!("unexpected row {row:?} in {}", path.display())))?,
            );
        }
    }
    counts.sort_by(|a: &(String, u64), b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    println!(
        "\n{} words, {} different ones, in {files} files in {}",
        grouped(total),
        grouped(counts.len() as u64),
        output.display()
    );
    for (word, count) in counts.iter().take(10) {
        println!("{:>10}  {word}", grouped(*count));
    }
    Ok(())
}
