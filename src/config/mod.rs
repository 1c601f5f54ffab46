//! Configuration: plain data, set from a YAML file, from the command line and from code.
//!
//! Every option has one entry in the registry ([`options`]): its key, type, description and how to read and write
//! the field of [`Config`] behind it. The YAML file, the command line, `--help` and the reference in
//! `docs/configuration.md` are all made from it. Later sources win: file, then flags, then code. Nothing is
//! ignored silently: an unknown key, a second value for the same key or an option without effect is an error.

mod address;
mod arguments;
mod help;
mod load;
mod model;
mod nearest;
mod option;
mod origin;
mod parsed;
mod registry;
mod units;
mod validate;
mod yaml;

pub(crate) use address::{advertised, is_of_this_machine, is_unspecified};
pub use arguments::Arguments;
pub use help::reference_markdown;
pub use load::DEFAULT_FILE;
pub use model::{ClusterConfig, Config, RestoreConfig, Role, StateConfig};
pub use option::ConfigOption;
pub use origin::{Origins, Source};
pub use parsed::{Action, Parsed, PlanFormat};
pub use registry::options;
pub use units::parse_duration;
