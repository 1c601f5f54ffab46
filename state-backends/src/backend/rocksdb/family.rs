//! Column families by the names of their states: found once, not for every row.

use std::collections::BTreeMap;
use std::sync::Arc;

use rocksdb::BoundColumnFamily;
use self_cell::self_cell;

use super::{Database, Db, STATE_PREFIX};
use crate::{Error, Result};

type Handle<'a> = Arc<BoundColumnFamily<'a>>;

self_cell!(
    /// A column family and the database that it is one of.
    struct Family {
        owner: Arc<Database>,
        #[covariant]
        dependent: Handle,
    }
);

/// The column families that one store has asked for.
#[derive(Default)]
pub(super) struct Families(BTreeMap<Box<str>, Family>);

impl Families {
    /// Adds a state that has a column family.
    pub(super) fn add(&mut self, database: &Arc<Database>, state: &str) -> Result<()> {
        let family = Family::try_new(Arc::clone(database), |database| find(&database.db, state))?;
        self.0.insert(state.into(), family);
        Ok(())
    }

    pub(super) fn contains(&self, state: &str) -> bool {
        self.0.contains_key(state)
    }

    #[inline]
    pub(super) fn get(&self, state: &str) -> Result<&Handle<'_>> {
        self.0.get(state).map(Family::borrow_dependent).ok_or_else(|| missing(state))
    }
}

/// What the column family of a state is called.
pub(super) fn name(state: &str) -> Result<String> {
    if state.contains('\0') {
        return Err(Error::config("the name of a state contains a zero byte"));
    }
    Ok(format!("{STATE_PREFIX}{state}"))
}

/// Looks a column family up by the name of its state.
pub(super) fn find<'a>(db: &'a Db, state: &str) -> Result<Handle<'a>> {
    db.cf_handle(&name(state)?).ok_or_else(|| missing(state))
}

#[cold]
fn missing(state: &str) -> Error {
    Error::bug(format!("state `{state}` has no column family"))
}
