//! Controlling a running job from another process: on its machine through a Unix domain socket per job, in a directory that
//! only its owner can enter, and from anywhere through its jobmanager's port.
//!
//! ```text
//! <control directory>/<job id>.sock
//! ```
//!
//! One request per connection, then one or more replies, each a line of JSON. Who may enter the directory may control
//! the job; nothing else is asked. A socket nobody listens on any more, left by a process that was killed, is removed
//! by the next process that looks.
//!
//! A jobmanager with a port takes the same requests there, and gives the same replies, to callers that have its token.

mod answer;
mod client;
#[cfg(unix)]
mod directory;
mod network;
mod protocol;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod socket;
#[cfg(unix)]
#[cfg(test)]
mod tests;

pub(crate) use answer::answer_to;
pub use client::ControlClient;
#[cfg(unix)]
pub use directory::ControlDirectory;
pub use network::{JobManagerAddress, JobManagerClient};
pub(crate) use protocol::{CONTROL_VERSION, ControlCall};
pub use protocol::{ControlReply, ControlRequest};
#[cfg(unix)]
pub(crate) use server::ControlServer;
#[cfg(unix)]
pub use socket::find_job;
