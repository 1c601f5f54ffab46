//! Time to live: state that is forgotten a while after its last update.
//!
//! A state with a [`Ttl`] keeps a stamp in front of every value, list element and map entry: the time of its last
//! update. What is as old as the duration has expired. Nothing is stamped, and no clock is asked, in states without.

mod clock;

pub(crate) use clock::{Clock, ClockReading};

use std::rc::Rc;
use std::time::Duration;

use crate::descriptor::StateKind;
use crate::{Error, Result, codec};

/// A stamp that stands for the first time that the clock shows.
pub(crate) const UNSTAMPED: i64 = i64::MIN;

/// Bytes of a stamp.
pub(crate) const STAMP_BYTES: usize = 8;

/// Which time a [`Ttl`] goes by. The number is part of the snapshot format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TtlTime {
    /// The task's clock, which stands still while the job does not run.
    Processing = 1,
    /// The task's clock; time in which the job does not run counts.
    ProcessingWithOutages = 2,
    /// The watermark of the operator.
    Event = 3,
}

impl TtlTime {
    pub(crate) fn from_number(number: u8) -> Result<Option<Self>> {
        match number {
            0 => Ok(None),
            1 => Ok(Some(Self::Processing)),
            2 => Ok(Some(Self::ProcessingWithOutages)),
            3 => Ok(Some(Self::Event)),
            _ => Err(Error::data(format!("there is no time to live of kind {number}"))),
        }
    }
}

/// How long the values of a state live: one by one the values of keys (and namespaces), the elements of lists and the
/// entries of maps.
///
/// ```
/// use std::time::Duration;
/// use tidegate_state::{StateOptions, Ttl};
///
/// let options = StateOptions::<u64>::new().ttl(Ttl::new(Duration::from_secs(3600)).event_time());
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    millis: i64,
    time: TtlTime,
    refresh_on_read: bool,
    return_expired: bool,
}

impl Ttl {
    /// Values expire when they have not been written for `duration` of processing time; they are never returned after
    /// that. Time in which the job does not run does not count. The resolution is one millisecond.
    pub fn new(duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { millis, time: TtlTime::Processing, refresh_on_read: false, return_expired: false }
    }

    /// By the watermark of the operator: what is written while it stands at *t* expires when it reaches *t* plus the
    /// duration. While an event-time timer fires, its time counts instead, if that is earlier.
    #[must_use]
    pub fn event_time(mut self) -> Self {
        self.time = TtlTime::Event;
        self
    }

    /// Counts the time in which the job does not run as well. After a long outage everything may have expired.
    #[must_use]
    pub fn count_outages(mut self) -> Self {
        if self.time == TtlTime::Processing {
            self.time = TtlTime::ProcessingWithOutages;
        }
        self
    }

    /// Reading a value counts as an update too. Every read becomes a write.
    #[must_use]
    pub fn refresh_on_read(mut self) -> Self {
        self.refresh_on_read = true;
        self
    }

    /// Returns what has expired as long as it has not been removed yet. When that is, nobody can tell.
    #[must_use]
    pub fn return_if_not_cleaned(mut self) -> Self {
        self.return_expired = true;
        self
    }

    pub(crate) fn time(self) -> TtlTime {
        self.time
    }
}

/// The time to live of one state and the clock that it goes by.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    ttl: Ttl,
    clock: Rc<Clock>,
}

impl Expiry {
    pub(crate) fn new(ttl: Ttl, clock: &Rc<Clock>) -> Self {
        Self { ttl, clock: Rc::clone(clock) }
    }

    /// The stamp of what is updated now.
    #[inline]
    pub(crate) fn now(&self) -> i64 {
        self.clock.now(self.ttl.time)
    }

    /// What has expired by now.
    #[inline]
    pub(crate) fn horizon(&self) -> Horizon {
        let stamp = self.now().saturating_sub(self.ttl.millis);
        let origin = self.clock.origin(self.ttl.time);
        Horizon { stamp, unstamped: origin != UNSTAMPED && origin <= stamp }
    }

    /// What must not be returned any more.
    #[inline]
    pub(crate) fn hidden(&self) -> Horizon {
        if self.ttl.return_expired { Horizon::NOTHING } else { self.horizon() }
    }

    /// Whether reading what has this stamp gives it another one.
    #[inline]
    pub(crate) fn refreshes(&self, stamp: i64) -> bool {
        self.ttl.refresh_on_read && stamp != self.now() && !self.horizon().is_behind(stamp)
    }
}

/// Where time parts what has expired from what lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The latest stamp of what has expired.
    stamp: i64,
    /// Whether what has no stamp has expired.
    unstamped: bool,
}

impl Horizon {
    /// Nothing has expired.
    pub(crate) const NOTHING: Self = Self { stamp: i64::MIN, unstamped: false };

    #[inline]
    pub(crate) fn is_behind(self, stamp: i64) -> bool {
        if stamp == UNSTAMPED { self.unstamped } else { stamp <= self.stamp }
    }

    /// Whether all of the value of a row has expired.
    pub(crate) fn is_dead(self, kind: StateKind, mut value: &[u8]) -> Result<bool> {
        if kind != StateKind::List {
            return Ok(self.is_behind(take_stamp(&mut value)?));
        }
        while !value.is_empty() {
            if !self.is_behind(take_stamp(&mut codec::take_bytes(&mut value)?)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends what lives of the value of a row.
    pub(crate) fn copy_living(self, kind: StateKind, mut value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if kind != StateKind::List {
            out.extend_from_slice(value);
            return Ok(());
        }
        while !value.is_empty() {
            let element = codec::take_bytes(&mut value)?;
            if !self.is_behind(take_stamp(&mut &*element)?) {
                codec::put_bytes(element, out);
            }
        }
        Ok(())
    }
}

/// Reads the stamp in front of a value and moves `bytes` behind it.
pub(crate) fn take_stamp(bytes: &mut &[u8]) -> Result<i64> {
    let (stamp, rest) = bytes
        .split_first_chunk::<STAMP_BYTES>()
        .ok_or_else(|| Error::data("a value with a time to live is too short for its stamp"))?;
    *bytes = rest;
    Ok(i64::from_le_bytes(*stamp))
}
