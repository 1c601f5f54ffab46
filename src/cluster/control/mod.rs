//! Controlling a running job from another process: a Unix domain socket per job, in a directory that only its owner
//! can enter.
//!
//! ```text
//! <control directory>/<job id>.sock
//! ```
//!
//! One request per connection, then one or more replies, each a line of JSON. Who may enter the directory may control
//! the job; nothing else is asked. A socket nobody listens on any more, left by a process that was killed, is removed
//! by the next process that looks.

mod client;
mod directory;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ControlClient, find_job};
pub use directory::ControlDirectory;
pub use protocol::{ControlReply, ControlRequest};
pub(crate) use server::ControlServer;
