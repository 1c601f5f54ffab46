//! Putting the sources together: file, then flags, then code.

use crate::config::option::{ConfigOption, find_or_refuse};
use crate::config::{Config, Source, options, yaml};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The file that is read if no other is named and it exists in the working directory.
pub const DEFAULT_FILE: &str = "tidegate.yaml";

/// A value somebody has given to an option.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) option: &'static ConfigOption,
    pub(super) text: String,
    pub(super) source: Source,
}

impl Setting {
    /// Says where a value was wrong.
    fn blame(&self, error: Error) -> Error {
        let error = match &self.source {
            // The key is there already.
            Source::Flag(flag) if flag.ends_with(self.option.key) => error,
            _ if error.message().starts_with(self.option.key) => error,
            _ => error.at(self.option.key),
        };
        error.at(&self.source)
    }
}

impl Config {
    /// The defaults, changed by a YAML file, and checked.
    ///
    /// # Errors
    /// Config errors: the file cannot be read or says something wrong.
    pub fn from_file(path: &Path) -> Result<Self> {
        let config = Self::from_settings(read_file(path)?, Vec::new())?;
        config.validate()?;
        Ok(config)
    }

    /// Sets one option from text, as the file would.
    ///
    /// # Errors
    /// Config errors: no such option, no such value, or an option without meaning, like a parameter of a restart
    /// strategy that is not the one in force.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let option = find_or_refuse(key).map_err(|e| e.at(Source::Code))?;
        let setting = Setting { option, text: value.to_owned(), source: Source::Code };
        if !option.applies_to(self) {
            return Err(without_effect(&setting, self));
        }
        let mut changed = self.clone();
        setting.apply(&mut changed)?;
        *self = changed;
        Ok(())
    }

    /// The value of an option as it would be written; `None` if it is absent.
    ///
    /// # Errors
    /// A config error: no such option.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        Ok(find_or_refuse(key)?.get(self))
    }

    /// Where the value of an option comes from.
    ///
    /// # Errors
    /// A config error: no such option.
    pub fn source(&self, key: &str) -> Result<Source> {
        Ok(find_or_refuse(key)?.source(self))
    }

    /// Every option that was set, with its value and where that comes from: what to log when a job starts.
    pub fn settings(&self) -> Vec<(&'static str, String, Source)> {
        let set = options().iter().filter_map(|o| Some((o.key(), o.get(self)?, o.source(self))));
        set.filter(|(_, _, source)| *source != Source::Default).collect()
    }

    /// The defaults changed by the settings of a file and by flags, which win.
    pub(super) fn from_settings(file: Vec<Setting>, flags: Vec<Setting>) -> Result<Self> {
        let mut merged = BTreeMap::new();
        for setting in unique(file)?.into_iter().chain(unique(flags)?) {
            merged.insert(setting.option.key, setting);
        }
        let mut config = Self::default();
        for option in options() {
            let Some(setting) = merged.remove(option.key) else { continue };
            if option.applies_to(&config) {
                setting.apply(&mut config)?;
                continue;
            }
            // A file serves many runs: it may hold the parameters of a choice that this run does not make. They
            // must be right nevertheless.
            setting.apply(&mut option.config_that_has_it())?;
            let chosen = option.only_with.is_some_and(|(selector, _)| config.origins.has(selector));
            if !(chosen && matches!(setting.source, Source::File { .. })) {
                return Err(without_effect(&setting, &config));
            }
        }
        Ok(config)
    }
}

impl Setting {
    fn apply(&self, config: &mut Config) -> Result<()> {
        self.option.set(config, &self.text).map_err(|e| self.blame(e))?;
        let value = self.option.get(config);
        config.origins.record(self.option.key, self.source.clone(), value);
        Ok(())
    }
}

/// The settings of a file.
pub(super) fn read_file(path: &Path) -> Result<Vec<Setting>> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::config("cannot read the configuration file").with_source(e).at(&shown))?;
    yaml::parse(&text, &shown)
}

/// The settings of a file that need not exist.
pub(super) fn read_file_if_there(path: &Path) -> Result<Vec<Setting>> {
    match path.try_exists() {
        Ok(false) => Ok(Vec::new()),
        // One that cannot be looked at cannot be read either, and that is an error.
        Ok(true) | Err(_) => read_file(path),
    }
}

fn unique(settings: Vec<Setting>) -> Result<Vec<Setting>> {
    let mut first: BTreeMap<&str, &Source> = BTreeMap::new();
    for setting in &settings {
        if let Some(earlier) = first.insert(setting.option.key, &setting.source) {
            let twice =
                Error::config(format!("set a second time, after {earlier}")).hint("remove one of the two");
            return Err(setting.blame(twice));
        }
    }
    Ok(settings)
}

fn without_effect(setting: &Setting, config: &Config) -> Error {
    let Some((selector, needed)) = setting.option.only_with else {
        return Error::bug("the option needs no other");
    };
    let is = config.get(selector).ok().flatten();
    let is = is.map_or_else(|| "not set".to_owned(), |is| format!("'{is}'"));
    setting.blame(
        Error::config(format!("has no effect, because {selector} is {is}"))
            .hint(format!("set {selector} to '{needed}', or remove it")),
    )
}
