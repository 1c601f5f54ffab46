//! Tables and values as people read them.

/// Rows under a header, in columns.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that are numbers.
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns; those that begin with `>` are set to the right.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let right = columns.iter().map(|c| c.starts_with('>')).collect();
        let header = columns.iter().map(|c| c.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![header], right }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// One line per row, two spaces between columns, nothing behind the last.
    pub(crate) fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
                line.push_str(&if *right { pad + cell + "  " } else { cell.clone() + &pad + "  " });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A size with three significant digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// Microseconds in the unit that suits.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000_000 => format!("{}.{:01} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{:01} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// A span of time in the largest unit that it fills.
pub(crate) fn span(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms} ms"),
        s @ 1..60 => format!("{s} s"),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Milliseconds since the Unix epoch as a date, in UTC.
pub(crate) fn date(ms: u64) -> String {
    let (days, second) = ((ms / 86_400_000).cast_signed(), ms / 1_000 % 86_400);
    // Howard Hinnant: chrono-compatible low-level date algorithms, civil_from_days; for days from 1970 on.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">bytes", "why"]);
        table.row(vec!["a".into(), "12".into(), "because".into()]);
        table.row(vec!["longer".into(), "1".into(), String::new()]);
        assert_eq!(table.text(), "name    bytes  why\na          12  because\nlonger      1\n");
    }

    #[test]
    fn values_are_readable() {
        let sizes = [0, 1_023, 1_024, 10_240, 1_000_000, 5 << 30].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.00 KiB", "10.0 KiB", "977 KiB", "5.00 GiB"]);
        assert_eq!([999, 1_500, 12_345_678].map(micros), ["999 us", "1.5 ms", "12.3 s"]);
        assert_eq!([5, 61_000, 3_660_000, 90_000_000].map(span), ["5 ms", "1 min", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00.000Z"),
            (951_827_696_789, "2000-02-29 12:34:56.789Z"),
            (1_700_000_000_000, "2023-11-14 22:13:20.000Z"),
            (4_107_542_399_999, "2100-02-28 23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000Z"),
        ] {
            assert_eq!(date(ms), text);
        }
    }
}
