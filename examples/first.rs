//! The program of the README.

use tidegate::prelude::*;

struct Count {
    total: ValueState<u64>,
}

impl KeyedProcessFunction<String, String, (String, u64)> for Count {
    fn process(
        &mut self,
        word: String,
        _context: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, (String, u64)>,
    ) -> Result<()> {
        let total = self.total.get()?.unwrap_or(0) + 1;
        self.total.set(total)?;
        out.collect((word, total));
        Ok(())
    }
}

fn main() -> Result<()> {
    let env = Environment::from_args()?;
    env.source(FileSource::lines("data/kjv.txt"))
        .flat_map(|line: String, out| line.split(' ').for_each(|word| out.collect(word.to_lowercase())))
        .key_by(|word: &String| word.clone())
        .process(|open| Ok(Count { total: open.value_state("total")? }))
        .uid("count")
        .sink(FileSink::csv("out"));
    env.execute("word-count")?;
    Ok(())
}
