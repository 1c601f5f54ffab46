//! What the members of a cluster, and those who command it, know.

use crate::error::{Error, Result};
use std::path::Path;

/// The text in a file; nothing if there is no file.
///
/// # Errors
/// A config error if the file cannot be read, or is empty.
pub(crate) fn read_token(file: Option<&Path>) -> Result<String> {
    let Some(path) = file else { return Ok(String::new()) };
    let at = |e: Error| e.at(path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|e| at(Error::config("cannot be read").with_source(e).hint("write any text into it")))?;
    match text.trim() {
        "" => Err(at(Error::config("is empty").hint("write any text into it"))),
        token => Ok(token.to_owned()),
    }
}
