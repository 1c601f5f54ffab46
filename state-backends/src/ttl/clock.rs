//! What time it is for states with a time to live. It is told, it never asks.

use std::cell::Cell;

use super::{TtlTime, UNSTAMPED};

/// The times of one backend, in milliseconds; [`UNSTAMPED`] while one is not known. None of them goes back.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The task's clock, as it was told.
    wall: Cell<i64>,
    /// The task's clock without the time in which the job did not run.
    running: Cell<i64>,
    /// How far `running` is behind the task's clock, once that was told for the first time.
    behind: Cell<Option<i64>>,
    watermark: Cell<i64>,
    /// The first that was known of each of the three.
    origins: [Cell<i64>; 3],
}

/// What a snapshot keeps of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockReading {
    pub(crate) running: i64,
    pub(crate) wall: i64,
}

impl ClockReading {
    pub(crate) const NONE: Self = Self { running: UNSTAMPED, wall: UNSTAMPED };

    /// The later of two.
    pub(crate) fn latest(self, other: Self) -> Self {
        if other.running > self.running { other } else { self }
    }
}

impl Clock {
    /// A clock that goes on from a snapshot.
    pub(crate) fn new(restored: ClockReading) -> Self {
        let origins = [restored.wall, restored.running, UNSTAMPED].map(Cell::new);
        Self {
            wall: Cell::new(restored.wall),
            running: Cell::new(restored.running),
            behind: Cell::new(None),
            watermark: Cell::new(UNSTAMPED),
            origins,
        }
    }

    pub(crate) fn set_processing_time(&self, now: i64) {
        let running = self.running.get();
        let behind = match self.behind.get() {
            Some(behind) => behind,
            None => {
                let behind = if running == UNSTAMPED { 0 } else { now.saturating_sub(running) };
                self.behind.set(Some(behind));
                behind
            }
        };
        self.wall.set(self.wall.get().max(now));
        self.running.set(running.max(now.saturating_sub(behind)));
        self.note_origins();
    }

    pub(crate) fn set_watermark(&self, watermark: i64) {
        self.watermark.set(self.watermark.get().max(watermark));
        self.note_origins();
    }

    fn note_origins(&self) {
        for (origin, now) in self.origins.iter().zip([&self.wall, &self.running, &self.watermark]) {
            if origin.get() == UNSTAMPED {
                origin.set(now.get());
            }
        }
    }

    #[inline]
    pub(crate) fn now(&self, time: TtlTime) -> i64 {
        match time {
            TtlTime::Processing => self.running.get(),
            TtlTime::ProcessingWithOutages => self.wall.get(),
            TtlTime::Event => self.watermark.get(),
        }
    }

    #[inline]
    pub(crate) fn origin(&self, time: TtlTime) -> i64 {
        let [wall, running, watermark] = &self.origins;
        match time {
            TtlTime::Processing => running.get(),
            TtlTime::ProcessingWithOutages => wall.get(),
            TtlTime::Event => watermark.get(),
        }
    }

    pub(crate) fn reading(&self) -> ClockReading {
        ClockReading { running: self.running.get(), wall: self.wall.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_counts_for_one_clock_and_not_for_the_other() {
        let clock = Clock::new(ClockReading::NONE);
        clock.set_processing_time(1000);
        clock.set_processing_time(1500);
        clock.set_processing_time(1400);
        assert_eq!(clock.reading(), ClockReading { running: 1500, wall: 1500 });
        let clock = Clock::new(clock.reading());
        assert_eq!(clock.now(TtlTime::Processing), 1500);
        clock.set_processing_time(9000);
        clock.set_processing_time(9100);
        assert_eq!(clock.reading(), ClockReading { running: 1600, wall: 9100 });
        // A clock that was set back during the outage.
        let clock = Clock::new(clock.reading());
        clock.set_processing_time(500);
        clock.set_processing_time(600);
        assert_eq!(clock.reading(), ClockReading { running: 1700, wall: 9100 });
    }

    #[test]
    fn what_has_no_stamp_counts_from_the_first_time_known() {
        let clock = Clock::new(ClockReading::NONE);
        assert_eq!(clock.origin(TtlTime::Event), UNSTAMPED);
        clock.set_watermark(50);
        clock.set_watermark(70);
        clock.set_watermark(60);
        assert_eq!((clock.origin(TtlTime::Event), clock.now(TtlTime::Event)), (50, 70));
    }
}
