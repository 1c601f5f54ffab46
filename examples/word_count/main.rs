//! Counts the words of text files, with every word counted exactly once whatever crashes meanwhile.
//!
//! ```sh
//! cargo run --release --example word_count -- --input data/kjv.txt --output /tmp/words
//! ```
//!
//! The program is in this file. The others make a demonstration of it: flags of its own, crashes on request, and
//! what is printed while it runs.

mod flags;
mod report;
mod screen;
mod show;
mod watch;

use flags::Flags;
use tidegate::connector::FileRecord;
use tidegate::function::MAX_WATERMARK;
use tidegate::prelude::*;
use watch::Watch;

fn main() -> Result<()> {
    let Flags { env, show } = Flags::parse()?;
    let watch = Watch::new(show.crash, env.config().parallelism);
    let probe = watch.clone();

    env.source(show.rate.apply(FileSource::records(&show.input)))
        .name("read")
        .uid("read")
        .process(move |open| Ok(probe.probe(open)))
        .name("watch")
        .uid("watch")
        .flat_map(|record: FileRecord, out| words(&record.line).for_each(|word| out.collect(word)))
        .name("split")
        .uid("split")
        .key_by_ref(|word: &String| word.as_str())
        .process(|open| Ok(Count { total: open.value_state("total")? }))
        .name("count")
        .uid("count")
        .sink(FileSink::csv(&show.output))
        .name("write")
        .uid("write");

    show.run(env, &watch)
}

/// Runs of the letters A to Z, in lower case.
fn words(line: &str) -> impl Iterator<Item = String> {
    line.split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

/// Counts the records of each key and emits the total when the input has ended.
struct Count {
    total: ValueState<u64>,
}

impl KeyedProcessFunction<String, String, (String, u64)> for Count {
    fn process(
        &mut self,
        _word: String,
        context: &mut KeyedContext<'_, String>,
        _out: &mut Collector<'_, (String, u64)>,
    ) -> Result<()> {
        let before = self.total.get()?.unwrap_or(0);
        self.total.set(before + 1)?;
        // The watermark reaches its maximum when the input has ended: then each word's timer fires, once.
        if before == 0 { context.register_event_timer(MAX_WATERMARK) } else { Ok(()) }
    }

    fn on_timer(
        &mut self,
        _time: i64,
        context: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, (String, u64)>,
    ) -> Result<()> {
        out.collect((context.key().clone(), self.total.get()?.unwrap_or(0)));
        Ok(())
    }
}
