//! One option: its entry in the registry and how a value gets from text into the field behind it and back.

use crate::config::nearest::did_you_mean;
use crate::config::{Config, Source, options, units};
use crate::error::{Error, Result};
use std::fmt;

/// An option: what there is to know about one key.
#[derive(Clone, Copy)]
pub struct ConfigOption {
    pub(super) key: &'static str,
    /// A shorter flag.
    pub(super) alias: Option<&'static str>,
    /// One line, no full stop.
    pub(super) doc: &'static str,
    /// What the absence of a value means, for options that may be absent.
    pub(super) absent: &'static str,
    /// Whether `--help` shows it among the most used.
    pub(super) common: bool,
    /// The option is meaningless unless this other one has this value.
    pub(super) only_with: Option<(&'static str, &'static str)>,
    pub(super) field: Field,
}

/// How to set and get one field.
pub(super) struct Access<T: 'static> {
    pub(super) set: fn(&mut Config, T),
    pub(super) get: fn(&Config) -> Option<T>,
}

impl<T> Clone for Access<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Access<T> {}

/// The field behind an option, by type, with the least and the greatest value.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Number(Access<u64>, u64, u64),
    /// In milliseconds.
    Duration(Access<u64>, u64),
    /// In bytes.
    Size(Access<u64>, u64),
    Decimal(Access<f64>, f64, f64),
    Switch(Access<bool>),
    /// With the name of the type for people.
    Text(Access<String>, &'static str),
    Choice(Access<&'static str>, &'static [&'static str]),
}

impl ConfigOption {
    /// The key, as in the file and, behind `--`, on the command line.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// A shorter flag for the same option, without `--`.
    pub fn alias(&self) -> Option<&'static str> {
        self.alias
    }

    /// What the option does, in one line.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// The type of the value, for people; choices are listed.
    pub fn type_name(&self) -> String {
        match &self.field {
            Field::Number(..) => "number".to_owned(),
            Field::Duration(..) => "duration".to_owned(),
            Field::Size(..) => "size".to_owned(),
            Field::Decimal(..) => "decimal".to_owned(),
            Field::Switch(_) => "true|false".to_owned(),
            Field::Text(_, name) => (*name).to_owned(),
            Field::Choice(_, allowed) => allowed.join("|"),
        }
    }

    /// The default as it would be written, if there is one.
    pub fn default_value(&self) -> Option<String> {
        self.get(&self.config_that_has_it())
    }

    /// The default, or what the absence of a value means.
    pub fn default_text(&self) -> String {
        self.default_value().unwrap_or_else(|| self.absent.to_owned())
    }

    /// The value in `config`, as it would be written; `None` if it is absent or without meaning there.
    pub fn get(&self, config: &Config) -> Option<String> {
        match &self.field {
            Field::Number(field, ..) => (field.get)(config).map(|v| v.to_string()),
            Field::Duration(field, _) => (field.get)(config).map(units::show_duration),
            Field::Size(field, _) => (field.get)(config).map(units::show_size),
            Field::Decimal(field, ..) => (field.get)(config).map(|v| v.to_string()),
            Field::Switch(field) => (field.get)(config).map(|v| v.to_string()),
            Field::Text(field, _) => (field.get)(config),
            Field::Choice(field, _) => (field.get)(config).map(str::to_owned),
        }
    }

    /// Writes `text` into `config` if it is a value of this option's type and range.
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<()> {
        let text = text.trim();
        match &self.field {
            Field::Number(field, ..) => (field.set)(config, self.number(text)?),
            Field::Duration(field, _) => (field.set)(config, units::parse_duration(text)?),
            Field::Size(field, _) => (field.set)(config, units::parse_size(text)?),
            Field::Decimal(field, ..) => {
                let value = text.parse().map_err(|_| {
                    Error::config(format!("'{text}' is not a number"))
                        .hint("write it with a point, as in 1.5")
                })?;
                (field.set)(config, value);
            }
            Field::Switch(field) => match text {
                "true" => (field.set)(config, true),
                "false" => (field.set)(config, false),
                _ => return Err(Error::config(format!("'{text}' is neither true nor false"))),
            },
            Field::Text(field, name) => {
                if text.is_empty() {
                    return Err(Error::config(format!("the {name} is empty")).hint("leave the option out"));
                }
                (field.set)(config, text.to_owned());
            }
            Field::Choice(field, allowed) => {
                let Some(choice) = allowed.iter().find(|choice| **choice == text) else {
                    let hint = format!("allowed are {}", allowed.join(", "));
                    return Err(Error::config(format!("'{text}' is not one of the choices")).hint(hint));
                };
                (field.set)(config, choice);
            }
        }
        self.check_range(config)
    }

    /// Refuses a value out of range, whoever has set it.
    pub(super) fn check_range(&self, config: &Config) -> Result<()> {
        let low =
            |least: String| Err(Error::config(format!("{} must be at least {least}", self.shown(config))));
        let high =
            |most: String| Err(Error::config(format!("{} must be at most {most}", self.shown(config))));
        match &self.field {
            Field::Number(field, least, most) => match (field.get)(config) {
                Some(v) if v < *least => low(least.to_string()),
                Some(v) if v > *most => high(most.to_string()),
                _ => Ok(()),
            },
            Field::Duration(field, least) => match (field.get)(config) {
                Some(v) if v < *least => low(units::show_duration(*least)),
                _ => Ok(()),
            },
            Field::Size(field, least) => match (field.get)(config) {
                Some(v) if v < *least => low(units::show_size(*least)),
                _ => Ok(()),
            },
            Field::Decimal(field, least, most) => match (field.get)(config) {
                Some(v) if v.is_nan() || v < *least => low(format!("{least:?}")),
                Some(v) if v > *most || v.is_infinite() => high(format!("{most:?}")),
                _ => Ok(()),
            },
            Field::Switch(_) | Field::Text(..) | Field::Choice(..) => Ok(()),
        }
    }

    /// `key = value`.
    pub(super) fn shown(&self, config: &Config) -> String {
        format!("{} = {}", self.key, self.get(config).unwrap_or_else(|| self.absent.to_owned()))
    }

    /// The source of the value in `config`.
    pub(super) fn source(&self, config: &Config) -> Source {
        config.origins.source(self.key, self.get(config).as_deref(), self.default_value().as_deref())
    }

    /// Whether the option has a meaning in `config`.
    pub(super) fn applies_to(&self, config: &Config) -> bool {
        match self.only_with {
            Some((key, value)) => find(key).and_then(|o| o.get(config)).as_deref() == Some(value),
            None => true,
        }
    }

    /// The defaults, changed so that this option has a meaning.
    pub(super) fn config_that_has_it(&self) -> Config {
        let mut config = Config::default();
        if let Some((key, value)) = self.only_with
            && let Some(selector) = find(key)
        {
            // Cannot fail: a test sets every selector in the registry.
            _ = selector.set(&mut config, value);
        }
        config
    }

    fn number(&self, text: &str) -> Result<u64> {
        let Field::Number(_, least, most) = &self.field else {
            return Err(Error::bug("the option is no number"));
        };
        let range = format!("write a whole number between {least} and {most}");
        match text.parse::<u64>() {
            Ok(v) if v < *least => Err(Error::config(format!("{} = {v} must be at least {least}", self.key))),
            Ok(v) if v > *most => Err(Error::config(format!("{} = {v} must be at most {most}", self.key))),
            Ok(v) => Ok(v),
            Err(_) => Err(Error::config(format!("'{text}' is not a whole number in range")).hint(range)),
        }
    }
}

impl fmt::Debug for ConfigOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigOption").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The option with this key.
pub(super) fn find(key: &str) -> Option<&'static ConfigOption> {
    options().iter().find(|option| option.key == key)
}

/// The option with this key, or an error that names the closest one.
pub(super) fn find_or_refuse(key: &str) -> Result<&'static ConfigOption> {
    find(key).ok_or_else(|| {
        Error::config(format!("there is no option '{key}'")).hint(did_you_mean(
            "",
            key,
            options().iter().map(|o| o.key),
        ))
    })
}
