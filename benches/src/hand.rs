//! The same work as plain loops: `p` threads that read or generate and `p` threads that count, as many threads as the
//! engine has subtasks, joined by bounded channels of batches. No checkpoints, no recovery, state in a hash map.

use crate::case::{Kind, Work, slot};
use crate::keys::key_of;
use crate::measure::{Measured, watch};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::fs::File;
use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

const BATCH: usize = 1024;
const BATCHES_IN_FLIGHT: usize = 16;
const CHUNK: usize = 256 << 10;

/// Alone on its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn store(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// Which counting thread a hash belongs to.
#[inline]
fn target(hash: u64, threads: usize) -> usize {
    ((u64::from(hash as u32) * threads as u64) >> 32) as usize
}

/// Runs the work; `tuned` only makes a difference to the word count.
pub(crate) fn run(work: &Work, threads: usize, tuned: bool) -> io::Result<Measured> {
    match work {
        Work::WordCount { text } if tuned => {
            let files = files(text)?;
            Ok(join(threads, 0, |me, out| read_tuned(&files, me, out), count_tuned))
        }
        Work::WordCount { text } => {
            let files = files(text)?;
            Ok(join(threads, 0, |me, out| read_words(&files, me, out), count_words))
        }
        Work::Keyed { kind, keys, records } => {
            let (keys, end) = (*keys, *keys + *records);
            let count = match kind {
                Kind::Value => count_numbers,
                Kind::List => append_numbers,
                Kind::Map => count_in_maps,
            };
            Ok(join(threads, keys, move |me, out| generate(keys, end, me, out), count))
        }
    }
}

/// Starts the threads, connects every producer with every consumer, and measures.
fn join<B: Send>(
    threads: usize,
    prefill: u64,
    produce: impl Fn(usize, Vec<SyncSender<B>>) + Sync,
    consume: impl Fn(Receiver<B>, &Counter) + Sync,
) -> Measured {
    let counters: Vec<Counter> = (0..threads).map(|_| Counter::default()).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let look = || counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect();
        let done = &done;
        let watcher = scope.spawn(move || watch(look, prefill, done));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| sync_channel::<B>(BATCHES_IN_FLIGHT)).unzip();
        let consumers: Vec<_> = receivers
            .into_iter()
            .zip(&counters)
            .map(|(receiver, counter)| {
                let consume = &consume;
                scope.spawn(move || consume(receiver, counter))
            })
            .collect();
        for me in 0..threads {
            let (produce, senders) = (&produce, senders.clone());
            scope.spawn(move || produce(me, senders));
        }
        drop(senders);
        for consumer in consumers {
            // A panic comes up again when the scope ends.
            _ = consumer.join();
        }
        done.store(true, Ordering::Release);
        watcher.join().unwrap_or_default()
    })
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Reads every `threads`-th file and hands its words to `take`. A file that cannot be read ends the process: there is
/// nothing to measure.
fn each_word(files: &[PathBuf], me: usize, threads: usize, mut take: impl FnMut(&str)) {
    for path in files.iter().skip(me).step_by(threads) {
        if let Err(e) = each_word_of(path, &mut take) {
            eprintln!("{}: {e}", path.display());
            std::process::exit(1);
        }
    }
}

fn each_word_of(path: &Path, take: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut file = File::open(path)?;
    let (mut buffer, mut kept) = (vec![0; 2 * CHUNK], 0);
    loop {
        let read = file.read(&mut buffer[kept..])?;
        let filled = kept + read;
        let end = match memchr::memrchr(b'\n', &buffer[..filled]) {
            Some(at) if read > 0 => at + 1,
            _ => filled,
        };
        let whole = std::str::from_utf8(&buffer[..end]).map_err(io::Error::other)?;
        for line in whole.split_terminator('\n') {
            line.split(' ').filter(|word| !word.is_empty()).for_each(&mut *take);
        }
        if read == 0 {
            return Ok(());
        }
        buffer.copy_within(end..filled, 0);
        kept = filled - end;
    }
}

/// Batches on their way to the counting threads.
struct Outlets<B> {
    open: Vec<B>,
    out: Vec<SyncSender<B>>,
}

impl<B: Default> Outlets<B> {
    fn new(out: Vec<SyncSender<B>>) -> Self {
        Self { open: out.iter().map(|_| B::default()).collect(), out }
    }

    /// The other side hangs up only by panicking, which ends the run anyway.
    fn send(&mut self, target: usize) {
        _ = self.out[target].send(std::mem::take(&mut self.open[target]));
    }

    fn finish(mut self) {
        (0..self.out.len()).for_each(|target| self.send(target));
    }
}

impl<T> Outlets<Vec<T>> {
    #[inline]
    fn push(&mut self, target: usize, value: T) {
        let open = &mut self.open[target];
        if open.capacity() == 0 {
            open.reserve_exact(BATCH);
        }
        open.push(value);
        if open.len() >= BATCH {
            self.send(target);
        }
    }
}

/// All threads agree on one hash function.
fn hasher() -> DefaultHashBuilder {
    use std::sync::OnceLock;
    static HASHER: OnceLock<DefaultHashBuilder> = OnceLock::new();
    HASHER.get_or_init(DefaultHashBuilder::default).clone()
}

/// As one writes it: a string per word, routed by its hash.
fn read_words(files: &[PathBuf], me: usize, out: Vec<SyncSender<Vec<String>>>) {
    let (hasher, mut outlets) = (hasher(), Outlets::new(out));
    let threads = outlets.out.len();
    each_word(files, me, threads, |word| {
        let target = target(hasher.hash_one(word), threads);
        outlets.push(target, word.to_owned());
    });
    outlets.finish();
}

fn count_words(input: Receiver<Vec<String>>, counter: &Counter) {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut done = 0;
    for word in input.into_iter().flatten() {
        let count = match counts.get_mut(&word) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => *counts.entry(word.clone()).or_insert(1),
        };
        drop(black_box((word, count)));
        done += 1;
        counter.store(done);
    }
}

/// Words without an allocation each, with the hash that routed them.
#[derive(Default)]
struct WordBatch {
    bytes: String,
    words: Vec<(u32, u64)>,
}

/// What is left when everything general is gone: words travel in one buffer, are hashed once and never allocated.
fn read_tuned(files: &[PathBuf], me: usize, out: Vec<SyncSender<WordBatch>>) {
    let (hasher, mut outlets) = (hasher(), Outlets::new(out));
    let threads = outlets.out.len();
    each_word(files, me, threads, |word| {
        let hash = hasher.hash_one(word);
        let target = target(hash, threads);
        let open: &mut WordBatch = &mut outlets.open[target];
        open.bytes.push_str(word);
        open.words.push((open.bytes.len() as u32, hash));
        if open.words.len() >= BATCH {
            outlets.send(target);
        }
    });
    outlets.finish();
}

fn count_tuned(input: Receiver<WordBatch>, counter: &Counter) {
    let hasher = hasher();
    let mut counts: HashTable<(String, u64)> = HashTable::new();
    let mut done = 0;
    for batch in input {
        let mut start = 0;
        for (end, hash) in batch.words {
            let word = &batch.bytes[start..end as usize];
            start = end as usize;
            let count = match counts.find_mut(hash, |entry| entry.0 == word) {
                Some(entry) => {
                    entry.1 += 1;
                    entry.1
                }
                None => {
                    counts.insert_unique(hash, (word.to_owned(), 1), |entry| hasher.hash_one(&entry.0));
                    1
                }
            };
            black_box((word, count));
            done += 1;
            counter.store(done);
        }
    }
}

fn generate(keys: u64, end: u64, me: usize, out: Vec<SyncSender<Vec<u64>>>) {
    let (hasher, mut outlets) = (hasher(), Outlets::new(out));
    let threads = outlets.out.len();
    for index in (me as u64..end).step_by(threads) {
        let key = key_of(index, keys);
        outlets.push(target(hash_of(&hasher, key), threads), key);
    }
    outlets.finish();
}

fn hash_of(hasher: &DefaultHashBuilder, key: impl Hash) -> u64 {
    hasher.hash_one(key)
}

fn count_numbers(input: Receiver<Vec<u64>>, counter: &Counter) {
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let mut done = 0;
    for key in input.into_iter().flatten() {
        let count = counts.entry(key).or_insert(0);
        *count += 1;
        black_box(*count);
        done += 1;
        counter.store(done);
    }
}

fn append_numbers(input: Receiver<Vec<u64>>, counter: &Counter) {
    let mut lists: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut done = 0;
    for key in input.into_iter().flatten() {
        lists.entry(key).or_default().push(done);
        black_box(key);
        done += 1;
        counter.store(done);
    }
}

fn count_in_maps(input: Receiver<Vec<u64>>, counter: &Counter) {
    let mut maps: HashMap<u64, HashMap<u64, u64>> = HashMap::new();
    let mut done = 0;
    for key in input.into_iter().flatten() {
        let count = maps.entry(key).or_default().entry(slot(key, done)).or_insert(0);
        *count += 1;
        black_box(*count);
        done += 1;
        counter.store(done);
    }
}
