//! Reads what a job has published and compares it with what it had to publish.

use std::collections::BTreeMap;
use std::path::Path;

/// All published lines below `output`, sorted. Hidden files are not published.
///
/// # Errors
/// The file system's.
pub fn published(output: &Path) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    if output.exists() {
        for entry in std::fs::read_dir(output)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with('.') && entry.file_type()?.is_file() {
                lines.extend(std::fs::read_to_string(entry.path())?.lines().map(str::to_owned));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// What differs, in words; `None` if nothing does. Lost and duplicated lines are told apart.
pub fn difference(expected: &[String], published: &[String]) -> Option<String> {
    if expected == published {
        return None;
    }
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    expected.iter().for_each(|line| *balance.entry(line).or_default() -= 1);
    published.iter().for_each(|line| *balance.entry(line).or_default() += 1);
    let some = |sign: i64| -> (usize, Vec<&str>) {
        let lines: Vec<&str> =
            balance.iter().filter(|(_, n)| n.signum() == sign).map(|(line, _)| *line).collect();
        (lines.len(), lines.into_iter().take(5).collect())
    };
    let ((lost, lost_lines), (extra, extra_lines)) = (some(-1), some(1));
    Some(format!(
        "{} lines expected, {} published; {lost} lost, such as {lost_lines:?}; {extra} duplicated or wrong, such as \
         {extra_lines:?}",
        expected.len(),
        published.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_duplication_are_seen() {
        let lines = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(difference(&lines(&["a", "b"]), &lines(&["a", "b"])), None);
        let said = difference(&lines(&["a", "b"]), &lines(&["b", "b"])).unwrap();
        assert!(
            said.contains("1 lost, such as [\"a\"]")
                && said.contains("1 duplicated or wrong, such as [\"b\"]"),
            "{said}"
        );
    }
}
