//! The control plane between processes: one bidirectional gRPC stream per taskmanager, over HTTP/2.
//!
//! ```text
//! taskmanager                    jobmanager
//!   Register                  ->
//!                             <- Registered or Refused
//!   Heartbeat, Report         -> (any number, in any order)
//!                             <- Heartbeat, Command, End
//! ```
//!
//! `Who` asks a process whether it is the leader that a record names, and is answered at any time.
//!
//! A person's command is a call of another method on the same port: `Control`, which sends one request and gets one or more
//! replies, in JSON.
//!
//! The stream is the membership: its end, however it comes, is the end of the taskmanager as far as the job is concerned,
//! and silence on it ends it. Both sides are the same program, which is checked first, so messages are in codec 1 and
//! need no evolution of their own.

mod client;
mod codec;
mod control;
#[cfg(unix)]
mod dispatch;
mod incoming;
mod made;
mod message;
mod server;
mod standing;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use client::{ControlStream, Joined, control_stream, join, who};
#[cfg(unix)]
pub(crate) use dispatch::{Asked, DispatchServer, ask_cluster};
pub(crate) use message::{Register, Registered, Settings, ToJobManager, ToTaskManager};
pub(crate) use server::{Admission, RpcServer, Sessions};
pub(crate) use standing::Standing;
pub(crate) use token::read_token;
