//! The jobmanager and its taskmanagers: deployment, failure, restart.

pub mod message;
