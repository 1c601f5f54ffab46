//! STUB
mod model;
pub use model::*;
