//! Text as a benchmark needs it: lines of ten words, words drawn by Zipf's law (exponent 1) from a vocabulary of
//! 100 000, frequent words short and rare ones long, always the same for the same size.

use crate::keys::SplitMix;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

const VOCABULARY: usize = 100_000;
const WORDS_PER_LINE: usize = 10;
const SEED: u64 = 42;
const ONSETS: [&str; 20] = [
    "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "w", "th", "st", "ch", "br", "tr", "pl",
];
const NUCLEI: [&str; 7] = ["a", "e", "i", "o", "u", "ea", "ou"];
const CODAS: [&str; 8] = ["", "n", "r", "s", "t", "l", "d", "ng"];

fn vocabulary(random: &mut SplitMix) -> Vec<String> {
    let (mut words, mut seen) = (Vec::with_capacity(VOCABULARY), HashSet::new());
    while words.len() < VOCABULARY {
        let rank = words.len();
        let syllables = 1
            + usize::from(rank > 300)
            + usize::from(rank > 8_000 && random.fraction() < 0.6)
            + usize::from(rank > 40_000 && random.fraction() < 0.4);
        let mut word = String::new();
        for _ in 0..syllables {
            word.push_str(random.pick(&ONSETS));
            word.push_str(random.pick(&NUCLEI));
            word.push_str(random.pick(&CODAS));
        }
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// As `write`, with every file there under so many names that all of it is read `passes` times. Returns the words of one.
pub(crate) fn write_repeated(
    directory: &Path,
    parts: usize,
    bytes_per_part: usize,
    passes: usize,
) -> io::Result<u64> {
    let words = write(directory, parts, bytes_per_part)?;
    let name = |number: usize| directory.join(format!("part-{number}.txt"));
    for number in parts..parts * passes {
        std::fs::hard_link(name(number % parts), name(number))?;
    }
    Ok(words)
}

/// Writes `parts` files of about `bytes_per_part` each into `directory`; returns the number of words.
fn write(directory: &Path, parts: usize, bytes_per_part: usize) -> io::Result<u64> {
    let mut random = SplitMix(SEED);
    let words = vocabulary(&mut random);
    let mut sum = 0.0;
    let cumulated: Vec<f64> = (1..=words.len())
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut count = 0;
    for part in 0..parts {
        let mut out = BufWriter::new(File::create(directory.join(format!("part-{part}.txt")))?);
        let mut written = 0;
        while written < bytes_per_part {
            for place in 0..WORDS_PER_LINE {
                let at = random.fraction() * sum;
                let rank = cumulated.partition_point(|c| *c <= at).min(words.len() - 1);
                out.write_all(words[rank].as_bytes())?;
                out.write_all(if place + 1 < WORDS_PER_LINE { b" " } else { b"\n" })?;
                written += words[rank].len() + 1;
            }
            count += WORDS_PER_LINE as u64;
        }
        out.flush()?;
    }
    Ok(count)
}
