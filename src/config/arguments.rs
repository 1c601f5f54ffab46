//! The command line: the program's own flags and Tidegate's in one parser.

use crate::config::help::help;
use crate::config::load::{Setting, read_file, read_file_if_there};
use crate::config::nearest::did_you_mean;
use crate::config::option::{ConfigOption, Field, find_or_refuse};
use crate::config::{Action, Config, DEFAULT_FILE, Parsed, PlanFormat, Source, options};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Tidegate's flags that are no options of the configuration.
const PURE_FLAGS: [&str; 3] = ["config", "plan", "help"];

/// Declares a program's command line and parses it.
///
/// ```
/// use tidegate::config::{Action, Arguments};
///
/// let line = ["word_count", "--input", "a.txt", "--checkpoint.interval", "10s"].map(Into::into);
/// let args = Arguments::new("word_count", "Counts words.")
///     .option("input", "FILE", Some("data/x.txt"), "text to read")
///     .switch("slow", "wait between lines")
///     .parse(line)?;
/// assert_eq!(args.action, Action::Run);
/// assert_eq!(args.value("input"), Some("a.txt"));
/// assert_eq!(args.config.checkpoint.interval_ms, Some(10_000));
/// # Ok::<(), tidegate::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Arguments {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) own: Vec<OwnFlag>,
}

/// A flag of the program itself.
#[derive(Clone, Debug)]
pub(super) struct OwnFlag {
    pub(super) name: String,
    pub(super) doc: String,
    /// Absent for a switch.
    pub(super) value: Option<OwnValue>,
}

/// The value of a program's own flag.
#[derive(Clone, Debug)]
pub(super) struct OwnValue {
    pub(super) name: String,
    pub(super) default: Option<String>,
}

impl Arguments {
    /// The command line of a program without flags of its own. Name and purpose are for `--help`.
    pub fn new(name: &str, about: &str) -> Self {
        Self { name: name.to_owned(), about: about.to_owned(), own: Vec::new() }
    }

    /// Declares `--name VALUE`. The `value_name` and `doc` are for `--help`.
    #[must_use]
    pub fn option(mut self, name: &str, value_name: &str, default: Option<&str>, doc: &str) -> Self {
        let value = OwnValue { name: value_name.to_owned(), default: default.map(str::to_owned) };
        self.own.push(OwnFlag { name: name.to_owned(), doc: doc.to_owned(), value: Some(value) });
        self
    }

    /// Declares `--name` without a value.
    #[must_use]
    pub fn switch(mut self, name: &str, doc: &str) -> Self {
        self.own.push(OwnFlag { name: name.to_owned(), doc: doc.to_owned(), value: None });
        self
    }

    /// Parses a command line whose first word is the program, and the file it names or `tidegate.yaml`.
    ///
    /// # Errors
    /// Config errors: what the command line or the file got wrong.
    pub fn parse(&self, line: impl IntoIterator<Item = OsString>) -> Result<Parsed> {
        self.parse_with(line, Path::new(DEFAULT_FILE))
    }

    /// Parses the command line of this process; prints the help and exits with 0 if that is what was asked for.
    ///
    /// # Errors
    /// As [`Arguments::parse`].
    pub fn parse_or_exit(&self) -> Result<Parsed> {
        let parsed = self.parse(std::env::args_os())?;
        if let Action::Help(text) = &parsed.action {
            print!("{text}");
            std::process::exit(0);
        }
        Ok(parsed)
    }

    /// As [`Arguments::parse`], with another file in the place of `tidegate.yaml`.
    pub(super) fn parse_with(
        &self,
        line: impl IntoIterator<Item = OsString>,
        default_file: &Path,
    ) -> Result<Parsed> {
        self.check_declarations()?;
        let text = |word: OsString| {
            word.into_string().map_err(|w| Error::config(format!("the argument {w:?} is not valid UTF-8")))
        };
        let words: Vec<String> = line.into_iter().skip(1).map(text).collect::<Result<_>>()?;
        if words.iter().any(|word| word == "--help" || word == "-h") {
            let line = Line::new(self);
            return Ok(line.into_parsed(Config::default(), Action::Help(help(self))));
        }
        let mut line = Line::new(self);
        line.read(words)?;
        let file = match &line.config_file {
            Some(path) => read_file(path).map_err(|e| e.at("flag --config"))?,
            None => read_file_if_there(default_file)?,
        };
        let config = Config::from_settings(file, std::mem::take(&mut line.settings))?;
        config.validate()?;
        let action = line.plan.map_or(Action::Run, Action::PrintPlan);
        Ok(line.into_parsed(config, action))
    }

    fn check_declarations(&self) -> Result<()> {
        for (index, flag) in self.own.iter().enumerate() {
            let name = flag.name.as_str();
            let twice = self.own.iter().take(index).any(|earlier| earlier.name == name);
            let taken = PURE_FLAGS.contains(&name) || find_flag(name).is_some();
            if twice || taken || name.is_empty() || name.starts_with('-') || name.contains(['=', ' ']) {
                let why = match (taken, twice) {
                    (true, _) => "a flag of Tidegate",
                    (_, true) => "declared twice",
                    _ => "no name for a flag",
                };
                return Err(Error::config(format!("the program declares '--{name}', which is {why}"))
                    .hint("give the program's flag another name"));
            }
        }
        Ok(())
    }
}

/// An option by key or alias.
fn find_flag(name: &str) -> Option<&'static ConfigOption> {
    options().iter().find(|o| o.key() == name || o.alias() == Some(name))
}

/// A command line while it is read.
struct Line<'a> {
    program: &'a Arguments,
    settings: Vec<Setting>,
    /// What the program's own flags got.
    own: BTreeMap<&'a str, Option<String>>,
    config_file: Option<PathBuf>,
    plan: Option<PlanFormat>,
}

impl<'a> Line<'a> {
    fn new(program: &'a Arguments) -> Self {
        Self { program, settings: Vec::new(), own: BTreeMap::new(), config_file: None, plan: None }
    }

    fn read(&mut self, words: Vec<String>) -> Result<()> {
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if let Some(rest) = word.strip_prefix("-D") {
                let pair = if rest.is_empty() { words.next().unwrap_or_default() } else { rest.to_owned() };
                self.dynamic(&pair)?;
                continue;
            }
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                return Err(Error::config(format!("the argument '{word}' is not a flag"))
                    .hint("flags begin with --, and a value follows its flag"));
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let value = match (inline, self.takes_value(name)?) {
                (Some(_), Takes::Nothing) => {
                    return Err(Error::config("it takes no value").at(format!("flag --{name}")));
                }
                (None, Takes::Nothing) => String::new(),
                (Some(value), _) => value,
                (None, Takes::Truth) => {
                    words.next_if(|w| w == "true" || w == "false").unwrap_or_else(|| "true".to_owned())
                }
                (None, Takes::Value) => words.next_if(|next| !next.starts_with("--")).ok_or_else(|| {
                    Error::config("its value is missing")
                        .at(format!("flag --{name}"))
                        .hint(format!("write --{name} VALUE, or --{name}=VALUE if the value begins with --"))
                })?,
            };
            self.flag(name, value).map_err(|e| e.at(format!("flag --{name}")))?;
        }
        Ok(())
    }

    fn takes_value(&self, name: &str) -> Result<Takes> {
        if let Some(own) = self.program.own.iter().find(|own| own.name == name) {
            return Ok(if own.value.is_some() { Takes::Value } else { Takes::Nothing });
        }
        if PURE_FLAGS.contains(&name) {
            return Ok(if name == "help" { Takes::Nothing } else { Takes::Value });
        }
        match find_flag(name) {
            Some(option) if matches!(option.field, Field::Switch(_)) => Ok(Takes::Truth),
            Some(_) => Ok(Takes::Value),
            None => {
                let own = self.program.own.iter().map(|own| own.name.as_str());
                let known = options().iter().flat_map(|o| o.alias().into_iter().chain([o.key()]));
                let hint = did_you_mean("--", name, own.chain(known).chain(PURE_FLAGS));
                Err(Error::config(format!("there is no flag '--{name}'")).hint(hint))
            }
        }
    }

    fn flag(&mut self, name: &str, value: String) -> Result<()> {
        let twice = || Error::config("given twice").hint("remove one of the two");
        let program = self.program;
        if let Some(own) = program.own.iter().find(|own| own.name == name) {
            let value = own.value.is_some().then_some(value);
            return if self.own.insert(&own.name, value).is_some() { Err(twice()) } else { Ok(()) };
        }
        if let Some(option) = find_flag(name) {
            self.settings.push(Setting { option, text: value, source: Source::Flag(format!("--{name}")) });
            return Ok(());
        }
        let again = match name {
            "config" => self.config_file.replace(PathBuf::from(value)).is_some(),
            _ => {
                let format = match value.as_str() {
                    "json" => PlanFormat::Json,
                    "dot" => PlanFormat::Dot,
                    "text" => PlanFormat::Text,
                    "job" => PlanFormat::Job,
                    _ => {
                        return Err(Error::config(format!("'{value}' is not a plan format"))
                            .hint("allowed are text, json, dot"));
                    }
                };
                self.plan.replace(format).is_some()
            }
        };
        if again { Err(twice()) } else { Ok(()) }
    }

    fn dynamic(&mut self, pair: &str) -> Result<()> {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::config(format!("'{pair}' is not of the form key=value")).at("flag -D"));
        };
        let option = find_or_refuse(key).map_err(|e| e.at("flag -D"))?;
        self.settings.push(Setting {
            option,
            text: value.to_owned(),
            source: Source::Flag(format!("-D {key}")),
        });
        Ok(())
    }

    fn into_parsed(mut self, config: Config, action: Action) -> Parsed {
        let mut parsed = Parsed { config, action, values: BTreeMap::new(), switches: BTreeMap::new() };
        for flag in &self.program.own {
            let given = self.own.remove(flag.name.as_str());
            parsed.switches.insert(flag.name.clone(), given.is_some());
            if let Some(value) = &flag.value {
                parsed.values.insert(flag.name.clone(), given.flatten().or_else(|| value.default.clone()));
            }
        }
        parsed
    }
}

/// What may follow a flag.
enum Takes {
    Nothing,
    /// `true` or `false`, or nothing, which means `true`.
    Truth,
    Value,
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
