//! Sessions of users: how long a user has been active without a pause of half an hour, and how busy the user is now.
//!
//! A session is folded together by a reducing state; the pages of the last minute are a range of a map. Both have a
//! time to live in event time, so that users who do not come back are forgotten. Run it with
//! `cargo run --example sessions`.

use std::time::Duration;

use tidegate::prelude::*;

/// A session ends after so many milliseconds without a click.
const PAUSE_MS: i64 = 30 * 60_000;

/// A user who clicks more often than [`MANY`] times within so many milliseconds is busy.
const BUSY_MS: i64 = 60_000;
const MANY: usize = 3;

/// User, time in milliseconds, page.
type Click = (String, i64, String);

/// Time of the first click, of the last one, and how many there were.
type Session = (i64, i64, u64);

/// Adds a session of one click, or begins anew with it.
fn extend(session: &mut Session, click: Session) {
    if click.0 - session.1 >= PAUSE_MS {
        *session = click;
    } else {
        *session = (session.0, click.1, session.2 + click.2);
    }
}

struct Sessions {
    session: ReducingState<Session>,
    /// Pages by time.
    recent: MapState<i64, String>,
}

impl KeyedProcessFunction<String, Click, String> for Sessions {
    fn process(
        &mut self,
        (user, time, page): Click,
        _: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.session.add((time, time, 1))?;
        self.recent.insert(time, page)?;
        let (start, _, clicks) = self.session.get()?.unwrap_or((time, time, 1));
        let pages: Vec<String> = self.recent.range(time - BUSY_MS..)?.map(|(_, page)| page).collect();
        let busy = if pages.len() > MANY { format!(", busy: {}", pages.join(" ")) } else { String::new() };
        out.collect(format!("{user}: click {clicks} after {} s{busy}", (time - start) / 1000));
        Ok(())
    }
}

fn main() -> Result<()> {
    let click = |user: &str, seconds: i64, page: &str| (user.to_owned(), seconds * 1000, page.to_owned());
    let clicks = vec![
        click("ann", 0, "home"),
        click("bob", 30, "home"),
        click("ann", 60, "shop"),
        click("ann", 70, "cart"),
        click("ann", 80, "help"),
        click("ann", 90, "cart"),
        // Bob comes back after more than half an hour.
        click("bob", 3000, "home"),
        click("bob", 3060, "shop"),
    ];
    let env = Environment::from_args()?;
    env.source(Generator::of(clicks))
        .assign_timestamps_and_watermarks(
            WatermarkStrategy::monotonous().with_timestamps(|click: &Click| click.1),
        )
        .key_by(|click: &Click| click.0.clone())
        .process(|open| {
            let session = Ttl::new(Duration::from_millis(PAUSE_MS as u64)).event_time();
            let recent = Ttl::new(Duration::from_millis(BUSY_MS as u64)).event_time();
            Ok(Sessions {
                session: open.reducing_state_with("session", extend, StateOptions::new().ttl(session))?,
                recent: open.map_state_with("recent", StateOptions::new().ttl(recent))?,
            })
        })
        .uid("sessions")
        .sink(PrintSink::new());
    env.execute("sessions")?;
    Ok(())
}
