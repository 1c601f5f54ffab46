//! What the command line said.

use crate::config::Config;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What a program is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the job.
    Run,
    /// Print the execution plan and leave.
    PrintPlan(PlanFormat),
    /// Print this text and leave.
    Help(String),
}

/// How to print an execution plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanFormat {
    /// As JSON, for tools.
    Json,
    /// In the language of Graphviz.
    Dot,
    /// For people.
    Text,
    /// Not the plan but what a [standing cluster](crate::cluster::dispatcher) has to know of the job, as JSON.
    Job,
}

/// A command line, understood.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration: defaults, changed by the file, changed by flags.
    pub config: Config,
    /// What to do.
    pub action: Action,
    pub(super) values: BTreeMap<String, Option<String>>,
    pub(super) switches: BTreeMap<String, bool>,
}

impl Parsed {
    /// The value of one of the program's own options; `None` if it was not given and has no default.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Option::as_deref)
    }

    /// The value of one of the program's own options that must have one.
    ///
    /// # Errors
    /// A config error: it was not given and has no default, or the program does not declare it.
    pub fn required(&self, name: &str) -> Result<&str> {
        match self.values.get(name) {
            Some(Some(value)) => Ok(value),
            Some(None) => {
                Err(Error::config(format!("the flag --{name} is required")).hint("--help explains it"))
            }
            None => Err(Error::config(format!("the program asks for --{name} and does not declare it"))
                .hint("declare it with Arguments::option")),
        }
    }

    /// The value of one of the program's own options as a number, or whatever else can be made from text.
    ///
    /// # Errors
    /// A config error: as [`Parsed::required`], or the value is not of type `T`.
    pub fn number<T>(&self, name: &str) -> Result<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.required(name)?;
        text.parse().map_err(|e| {
            let what = match std::any::type_name::<T>() {
                "f32" | "f64" => "number",
                name if name.starts_with(['u', 'i']) && name[1..].parse::<u8>().is_ok() => "whole number",
                name => name,
            };
            Error::config(format!("'{text}' is not a {what}: {e}")).at(format!("flag --{name}"))
        })
    }

    /// Whether one of the program's own switches, or a value for one of its options, was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.switches.get(name).copied().unwrap_or(false)
    }
}
