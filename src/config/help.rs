//! Documentation made from the registry: `--help` and the reference.

use crate::config::arguments::{Arguments, OwnFlag};
use crate::config::{ConfigOption, DEFAULT_FILE, options};
use std::fmt::Write;

/// What is before the table in the reference.
const INTRODUCTION: &str = "# Configuration

<!-- Generated from the registry in src/config/registry.rs by the test `the_reference_is_up_to_date`; do not edit. -->

Options come from three sources; later ones win:

1. a YAML file: `tidegate.yaml` in the working directory if there is one, or the file named with `--config PATH`;
2. the command line: `--<key> VALUE`, `--<key>=VALUE` or `-D <key>=VALUE`;
3. the program: fields of `Config`.

In the file, nested mappings and dotted keys mean the same. Unknown keys, a second value for the same key and flags
without effect are errors. A file may hold parameters of a choice that the run does not make, such as
`restart.fixed-delay.delay` when a flag sets `restart.strategy` to another strategy.

Durations are whole numbers with a unit: `ms`, `s`, `min`, `h`, `d`. So are sizes: `B`, `KiB`, `MiB`, `GiB`, `TiB`.
";

/// The reference of all options in Markdown: the text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| Key | Type | Default | What it does |\n|---|---|---|---|\n");
    for option in options() {
        let kind = option.type_name().replace('|', "\\|");
        let default = match option.default_value() {
            Some(value) => format!("`{value}`"),
            None => option.absent.to_owned(),
        };
        let alias = option.alias().map(|alias| format!(" (also `--{alias}`)")).unwrap_or_default();
        let only =
            option.only_with.map(|(key, value)| format!("; with `{key}: {value}`")).unwrap_or_default();
        // Writing to a String cannot fail, here and below.
        _ = writeln!(text, "| `{}` | {kind} | {default} | {}{alias}{only} |", option.key(), option.doc());
    }
    text.push_str(
        "\nFlags that are no options of the configuration:\n\n| Flag | What it does |\n|---|---|\n",
    );
    for (flag, doc) in pure_flags() {
        _ = writeln!(text, "| `{}` | {doc} |", flag.replace('|', "\\|"));
    }
    text
}

/// The text of `--help`.
pub(super) fn help(program: &Arguments) -> String {
    let mut text = format!("{}\n\nUsage: {} [flags]\n", program.about, program.name);
    let own: Vec<_> = program.own.iter().map(own_row).collect();
    section(&mut text, &format!("Flags of {}", program.name), &own);
    let (common, rest): (Vec<_>, Vec<_>) = options().iter().partition(|o| o.common);
    let mut most_used: Vec<_> = common.into_iter().map(row).collect();
    most_used.extend(pure_flags().map(|(flag, doc)| (flag.to_owned(), doc)));
    section(&mut text, "Flags of Tidegate, most used", &most_used);
    section(&mut text, "All others", &rest.into_iter().map(row).collect::<Vec<_>>());
    _ = write!(
        text,
        "\nKeys can be set as --key VALUE, --key=VALUE or -D key=VALUE, or in {DEFAULT_FILE}; flags win.\n\
         Durations are written as 500ms, 10s, 5min, 1h; sizes as 64KiB, 32MiB.\n"
    );
    text
}

fn pure_flags() -> [(&'static str, String); 3] {
    [
        ("--config PATH", format!("Read this file instead of {DEFAULT_FILE}; it must exist")),
        ("--plan text|json|dot", "Print the execution plan and leave".to_owned()),
        ("--help", "Print this and leave".to_owned()),
    ]
}

fn own_row(flag: &OwnFlag) -> (String, String) {
    match &flag.value {
        None => (format!("--{}", flag.name), flag.doc.clone()),
        Some(value) => {
            let default = match &value.default {
                Some(default) => format!(" [{default}]"),
                None => String::new(),
            };
            (format!("--{} {}", flag.name, value.name), format!("{}{default}", flag.doc))
        }
    }
}

fn row(option: &ConfigOption) -> (String, String) {
    let flag =
        format!("--{} {}", option.alias().unwrap_or(option.key()), option.type_name().replace(' ', "-"));
    let key = option.alias().map(|_| format!("; key {}", option.key())).unwrap_or_default();
    (flag, format!("{}{key} [{}]", option.doc(), option.default_text()))
}

fn section(text: &mut String, title: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    _ = write!(text, "\n{title}:\n");
    // Long flags have their description on the next line.
    let width = rows.iter().map(|(flag, _)| flag.len()).filter(|w| *w <= 40).max().unwrap_or(0);
    for (flag, doc) in rows {
        if flag.len() > width {
            _ = write!(text, "  {flag}\n  {:width$}  {doc}\n", "");
        } else {
            _ = writeln!(text, "  {flag:width$}  {doc}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
    }

    #[test]
    fn the_reference_is_up_to_date() {
        if std::env::var_os("TIDEGATE_WRITE_REFERENCE").is_some() {
            std::fs::write(path(), reference_markdown()).unwrap();
        }
        let there = std::fs::read_to_string(path()).unwrap();
        assert!(
            there == reference_markdown(),
            "docs/configuration.md is stale: run this test with TIDEGATE_WRITE_REFERENCE=1"
        );
    }

    #[test]
    fn help_shows_the_programs_flags_then_the_most_used_then_all() {
        let program = Arguments::new("word_count", "Counts words.")
            .option("input", "FILE", Some("data/x.txt"), "text to read")
            .switch("slow", "take your time");
        let text = help(&program);
        let position = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in\n{text}"));
        assert!(text.starts_with("Counts words.\n\nUsage: word_count [flags]\n"));
        let order = [
            "--input FILE  text to read [data/x.txt]",
            "--slow        take your time",
            "--parallelism number",
            "--restore path-or-URL",
            "--config PATH",
            "--checkpoint.timeout duration",
        ];
        assert!(order.map(position).is_sorted(), "{text}");
        for option in options() {
            assert!(text.contains(option.key()), "{} is missing", option.key());
        }
    }
}
