//! What a person sees of a local cluster: everything its processes say, or on a terminal one line per process.

use super::Member;
use crate::say::line;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Pause between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Where everything is shown.
pub(super) enum Console {
    Plain,
    Live { board: Arc<Mutex<Board>>, drawing: AbortHandle },
}

fn locked(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error may be a pipe that nobody reads any more: that is no reason to die.
fn plain(who: &str, text: &str) {
    line(format_args!("[{who}] {text}"));
}

impl Console {
    /// Must be called on the runtime.
    pub(super) fn start(live: bool, taskmanagers: u32) -> Arc<Self> {
        if !live {
            return Arc::new(Self::Plain);
        }
        let board = Arc::new(Mutex::new(Board::new(taskmanagers)));
        let shown = board.clone();
        #[expect(clippy::disallowed_methods, reason = "ended with the console")]
        let drawing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(REDRAW).await;
                _ = locked(&shown).draw_changes(&mut std::io::stderr());
            }
        });
        Arc::new(Self::Live { board, drawing: drawing.abort_handle() })
    }

    /// Whether results of the program must come through here, because they go to the same terminal.
    pub(super) fn takes_output(&self) -> bool {
        matches!(self, Self::Live { .. }) && std::io::stdout().is_terminal()
    }

    /// Something about the cluster as a whole.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Plain => plain("cluster", text),
            Self::Live { board, .. } => {
                _ = locked(board).above(&mut std::io::stderr(), &format!("[cluster] {text}"));
            }
        }
    }

    pub(super) fn started(&self, member: Member, pid: u32) {
        match self {
            Self::Plain => plain("cluster", &format!("{member} {pid} started")),
            Self::Live { board, .. } => locked(board).change(member, |row| {
                (row.pid, row.state) = (Some(pid), "running".to_owned());
            }),
        }
    }

    pub(super) fn died(&self, member: Member, pid: u32, how: &str, pause: Duration) {
        let pause = pause.as_millis();
        match self {
            Self::Plain => {
                plain("cluster", &format!("{member} {pid} {how}; another starts in {pause} ms"));
            }
            Self::Live { board, .. } => locked(board).change(member, |row| {
                (row.pid, row.state) = (None, format!("{how}, starts in {pause} ms"));
                row.restarts += 1;
            }),
        }
    }

    /// It will not be started again.
    pub(super) fn ended(&self, member: Member, how: &str) {
        if let Self::Live { board, .. } = self {
            locked(board).change(member, |row| (row.pid, row.state) = (None, how.to_owned()));
        }
    }

    /// A process has said something.
    pub(super) fn says(&self, member: Member, pid: u32, line: &str) {
        match self {
            Self::Plain => plain(&format!("{member} {pid}"), line),
            Self::Live { board, .. } => locked(board).change(member, |row| row.message = printable(line)),
        }
    }

    /// The jobmanager has printed something: that is what the program is for.
    pub(super) fn result(&self, line: &str) {
        match self {
            Self::Plain => _ = writeln!(std::io::stdout(), "{line}"),
            Self::Live { board, .. } => _ = locked(board).above(&mut std::io::stdout(), line),
        }
    }

    /// Draws for the last time.
    pub(super) fn finish(&self) {
        if let Self::Live { board, drawing } = self {
            drawing.abort();
            _ = locked(board).draw_changes(&mut std::io::stderr());
        }
    }
}

/// A line without what would move the cursor.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One process.
#[derive(Debug)]
struct Row {
    member: Member,
    name: String,
    pid: Option<u32>,
    state: String,
    restarts: u32,
    message: String,
}

/// The lines on the terminal.
#[derive(Debug)]
pub(super) struct Board {
    rows: Vec<Row>,
    /// Lines on the terminal that are to be replaced.
    drawn: usize,
    changed: bool,
}

impl Board {
    fn new(taskmanagers: u32) -> Self {
        let row = |member, name: String| Row {
            member,
            name,
            pid: None,
            state: "starting".to_owned(),
            restarts: 0,
            message: String::new(),
        };
        let managers =
            (0..taskmanagers).map(|i| row(Member::TaskManager(i), format!("taskmanager {}", i + 1)));
        let rows = std::iter::once(row(Member::JobManager, "jobmanager".to_owned())).chain(managers);
        Self { rows: rows.collect(), drawn: 0, changed: true }
    }

    fn change(&mut self, member: Member, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.member == member) {
            change(row);
            self.changed = true;
        }
    }

    fn lines(&self) -> Vec<String> {
        let states = self.rows.iter().map(|row| row.state.chars().count()).max().unwrap_or(0).max(5);
        let head =
            format!("{:<16} {:>8}  {:<states$}  {:>8}  last message", "process", "pid", "state", "restarts");
        let line = |row: &Row| {
            let pid = row.pid.map(|pid| pid.to_string()).unwrap_or_default();
            let Row { name, state, restarts, message, .. } = row;
            format!("{name:<16} {pid:>8}  {state:<states$}  {restarts:>8}  {message}").trim_end().to_owned()
        };
        std::iter::once(head).chain(self.rows.iter().map(line)).collect()
    }

    /// Replaces what is on the terminal. Lines longer than the terminal is wide are cut off by it.
    fn draw_changes(&mut self, to: &mut impl Write) -> std::io::Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let mut text = self.erasure();
        let lines = self.lines();
        text.push_str("\x1b[?7l");
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[?7h");
        self.drawn = lines.len();
        to.write_all(text.as_bytes())?;
        to.flush()
    }

    /// Writes a line that stays, above the others.
    fn above(&mut self, to: &mut impl Write, line: &str) -> std::io::Result<()> {
        let text = format!("{}{line}\n", self.erasure());
        (self.drawn, self.changed) = (0, true);
        to.write_all(text.as_bytes())?;
        to.flush()?;
        self.draw_changes(&mut std::io::stderr())
    }

    fn erasure(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_process_is_drawn_over_the_one_before() {
        let mut board = Board::new(1);
        board.change(Member::JobManager, |row| (row.pid, row.state) = (Some(7), "running".to_owned()));
        board.change(Member::TaskManager(0), |row| row.message = printable("\x1b[2Jgone\there"));
        let mut terminal = Vec::new();
        board.draw_changes(&mut terminal).unwrap();
        let first = String::from_utf8(std::mem::take(&mut terminal)).unwrap();
        assert_eq!(
            first,
            "\x1b[?7lprocess               pid  state     restarts  last message\n\
             jobmanager              7  running          0\n\
             taskmanager 1              starting         0   [2Jgone here\n\x1b[?7h"
        );
        board.draw_changes(&mut terminal).unwrap();
        assert!(terminal.is_empty(), "nothing has changed");
        board.change(Member::TaskManager(0), |row| row.restarts += 1);
        board.draw_changes(&mut terminal).unwrap();
        assert!(terminal.starts_with(b"\x1b[3A\x1b[J"), "the three lines are replaced");
    }
}
