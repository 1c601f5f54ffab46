//! Reading `tidegate.yaml`: nested mappings and dotted keys alike, flattened to dotted keys.

use crate::config::load::Setting;
use crate::config::option::{find, find_or_refuse};
use crate::config::{Source, options};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// What a YAML file says, as far as a configuration can say anything.
#[derive(Debug)]
enum Node {
    Nothing,
    Scalar(String),
    List,
    Mapping(Vec<(Spanned<String>, Node)>),
}

/// The settings in `text`; `path` is for messages.
pub(super) fn parse(text: &str, path: &str) -> Result<Vec<Setting>> {
    let strict = serde_saphyr::options! {
        // Scalars arrive as they were written as far as that goes; duplicates are told apart by dotted key later.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let root: Node = serde_saphyr::from_str_with_options(text, strict).map_err(|e| broken(&e, path))?;
    let mut settings = Vec::new();
    match root {
        Node::Nothing => {}
        Node::Mapping(entries) => flatten("", entries, path, &mut settings)?,
        Node::Scalar(_) | Node::List => {
            let top = Source::File { path: path.to_owned(), line: 1, column: 1 };
            return Err(Error::config("this is not a mapping")
                .at(top)
                .hint("write lines such as 'parallelism: 4'"));
        }
    }
    Ok(settings)
}

fn flatten(
    prefix: &str,
    entries: Vec<(Spanned<String>, Node)>,
    path: &str,
    into: &mut Vec<Setting>,
) -> Result<()> {
    for (name, node) in entries {
        let at = name.referenced;
        let source = Source::File { path: path.to_owned(), line: at.line(), column: at.column() };
        let key = if prefix.is_empty() { name.value } else { format!("{prefix}.{}", name.value) };
        let group = format!("{key}.");
        let is_group = options().iter().any(|o| o.key().starts_with(&group));
        match node {
            Node::Mapping(entries) if is_group || find(&key).is_none() => {
                if !is_group && entries.is_empty() {
                    find_or_refuse(&key).map_err(|e| e.at(&source))?;
                }
                flatten(&key, entries, path, into)?;
            }
            // A group whose options are all commented out.
            Node::Nothing if is_group => {}
            Node::Scalar(text) if is_group => {
                let members: Vec<&str> =
                    options().iter().filter_map(|o| o.key().strip_prefix(&group)).collect();
                return Err(Error::config(format!("'{key}' is a group of options and cannot be '{text}'"))
                    .at(source)
                    .hint(format!("set one of its options: {}", members.join(", "))));
            }
            Node::Scalar(text) => {
                let option = find_or_refuse(&key).map_err(|e| e.at(&source))?;
                into.push(Setting { option, text, source });
            }
            Node::Nothing | Node::List | Node::Mapping(_) => {
                find_or_refuse(&key).map_err(|e| e.at(&source))?;
                return Err(Error::config(format!("'{key}' has no single value"))
                    .at(source)
                    .hint("give it one, or remove it to keep the default"));
            }
        }
    }
    Ok(())
}

fn broken(error: &serde_saphyr::Error, path: &str) -> Error {
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let broken = |message: &str| Error::config(format!("this is not YAML: {message}"));
    let Some(at) = error.location() else { return broken(&message).at(format!("file {path}")) };
    let (line, column) = (at.line(), at.column());
    let message = message.strip_suffix(&format!(" at line {line}, column {column}")).unwrap_or(&message);
    broken(message).at(Source::File { path: path.to_owned(), line, column })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options and their values")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    // With the point, so that 4.0 does not pass for a whole number.
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Vec<(String, String, String)> {
        let settings = parse(text, "t.yaml").unwrap();
        settings.into_iter().map(|s| (s.option.key().to_owned(), s.text, s.source.to_string())).collect()
    }

    fn refused(text: &str) -> String {
        parse(text, "t.yaml").unwrap_err().to_string()
    }

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let text = "parallelism: 4\ncheckpoint:\n  interval: 10s\n  max-concurrent: 2\nrestart.fixed-delay:\n  delay: 1s\n";
        let expected = [
            ("parallelism", "4", "file t.yaml:1:1"),
            ("checkpoint.interval", "10s", "file t.yaml:3:3"),
            ("checkpoint.max-concurrent", "2", "file t.yaml:4:3"),
            ("restart.fixed-delay.delay", "1s", "file t.yaml:6:3"),
        ];
        assert_eq!(flat(text), expected.map(|(k, v, s)| (k.to_owned(), v.to_owned(), s.to_owned())));
    }

    #[test]
    fn files_without_settings_are_fine() {
        for text in [
            "",
            "# all commented out\n",
            "---\n",
            "checkpoint:\n  # interval: 1s\n",
            "checkpoint: {}\n",
            "{}",
        ] {
            assert_eq!(flat(text), [], "{text:?}");
        }
    }

    #[test]
    fn scalars_arrive_as_written() {
        let one = |value: &str| flat(&format!("parallelism: {value}")).remove(0).1;
        for value in ["64KiB", "true", "4.0", "0755", "1_000", "no", "-3", "0.1", "s3://bucket/x"] {
            assert_eq!(one(value), value);
        }
        assert_eq!(one("'12'"), "12");
        assert_eq!(one("\"null\""), "null");
    }

    #[test]
    fn wrong_files_are_refused_with_line_and_column() {
        for (text, expected) in [
            ("a: [1\n", "file t.yaml:1:4: this is not YAML: unclosed bracket"),
            ("parallelism: 1\n  x: 2\n", "t.yaml:2:"),
            (
                "parallelism: 1\nparalelism: 2\n",
                "file t.yaml:2:1: there is no option 'paralelism' (did you mean 'parallelism'?)",
            ),
            (
                "checkpoint:\n  intervall: 2s\n",
                "t.yaml:2:3: there is no option 'checkpoint.intervall' (did you mean 'checkpoint.interval'?)",
            ),
            ("checkpiont: {interval: 2s}\n", "did you mean 'checkpoint.interval'?"),
            ("checkpiont: {}\n", "there is no option 'checkpiont'"),
            (
                "checkpoint: 5s\n",
                "'checkpoint' is a group of options and cannot be '5s' (set one of its options: dir, interval",
            ),
            ("parallelism:\n", "t.yaml:1:1: 'parallelism' has no single value"),
            ("parallelism: [1, 2]\n", "'parallelism' has no single value"),
            ("checkpoint: [1, 2]\n", "there is no option 'checkpoint'"),
            ("parallelism: {x: 1}\n", "'parallelism' has no single value"),
            ("- parallelism\n", "not a mapping"),
            ("parallelism: 1\n---\nparallelism: 2\n", "t.yaml:"),
        ] {
            let message = refused(text);
            assert!(message.contains(expected), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
