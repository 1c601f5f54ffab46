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
//! The stream is the membership: its end, however it comes, is the end of the taskmanager as far as the job is concerned,
//! and silence on it ends it. Both sides are the same program, which is checked first, so messages are in codec 1 and
//! need no evolution of their own.

mod client;
mod codec;
mod message;
mod server;

pub(crate) use client::{Joined, join, probe};
pub(crate) use message::{Register, Registered, Settings, ToJobManager, ToTaskManager, VERSION};
pub(crate) use server::{Admission, RpcServer, Sessions};
