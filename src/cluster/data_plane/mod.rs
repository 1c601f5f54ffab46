//! Records between processes: one TCP connection from each taskmanager to each other that it sends to, for all channels
//! between the two and for all attempts.
//!
//! ```text
//! sender                                  receiver
//!   Greeting                            ->
//!                                       <- Greeting
//!   Hello                               ->
//!                                       <- Welcome or Refused
//!   Open, Element, Overrun, Close       ->
//!                                       <- Credit
//!   Ping                                <-> Ping
//! ```
//!
//! Byte by byte in docs/formats/data-frames.md. Whatever is wrong with a connection breaks off all its channels: their
//! subtasks fail with what was wrong, and the job's restart strategy has the word.

mod connection;
mod frame;
mod greeting;
#[cfg(feature = "testing")]
mod hostile;
mod incoming;
mod outgoing;
mod patient;
#[cfg(test)]
mod tests;

pub(crate) use greeting::Nonces;
#[cfg(feature = "testing")]
pub(crate) use hostile::{examples, read_all, repair};
pub(crate) use incoming::DataListener;
pub(crate) use outgoing::DataPlane;

use crate::cluster::tls::Tls;
use crate::id::JobId;
use std::time::Duration;

/// What both ends of a connection have to agree on.
#[derive(Debug)]
pub(crate) struct DataPlaneConfig {
    pub(crate) job: JobId,
    /// Known to the members of the cluster only.
    pub(crate) secret: String,
    /// Connections are encrypted, if they are.
    pub(crate) tls: Option<Tls>,
    /// A peer that neither says nor takes anything for so long is taken for dead.
    pub(crate) patience: Duration,
    /// Of its connections.
    pub(crate) nonces: Nonces,
}
