use crate::checkpoint::{CheckpointStore, Manifest, Retention};
use crate::connector::DiscardSink;
use crate::environment::Environment;
use crate::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

/// Passes everything on, in every kind of function there is.
struct Pass;

type Plain<'a, 'b> = &'a mut ProcessContext<'b>;
type Keyed<'a, 'b> = &'a mut KeyedContext<'b, u64>;
type Out<'a, 'b> = &'a mut Collector<'b, u64>;

impl ProcessFunction<u64, u64> for Pass {
    fn process(&mut self, n: u64, _: Plain<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

impl CoProcessFunction<u64, u64, u64> for Pass {
    fn process_first(&mut self, n: u64, _: Plain<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }

    fn process_second(&mut self, n: u64, _: Plain<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

impl BroadcastProcessFunction<u64, u64, u64> for Pass {
    fn process_element(&mut self, n: u64, _: Plain<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }

    fn process_broadcast(&mut self, _: u64, _: &mut BroadcastContext<'_>, _: Out<'_, '_>) -> Result<()> {
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Pass {
    fn process(&mut self, n: u64, _: Keyed<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

impl KeyedCoProcessFunction<u64, u64, u64, u64> for Pass {
    fn process_first(&mut self, n: u64, _: Keyed<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }

    fn process_second(&mut self, n: u64, _: Keyed<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

impl KeyedBroadcastProcessFunction<u64, u64, u64, u64> for Pass {
    fn process_element(&mut self, n: u64, _: Keyed<'_, '_>, out: Out<'_, '_>) -> Result<()> {
        out.collect(n);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        _: u64,
        _: &mut KeyedBroadcastContext<'_, u64>,
        _: Out<'_, '_>,
    ) -> Result<()> {
        Ok(())
    }
}

/// A program of every operator there is, none of which has a uid.
fn every_operator(directory: &Path) -> Environment {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.retention = Retention::Always;
    config.job_id = Some("job".to_owned());
    let numbers = || env.source(Generator::sequence(0..10));
    let passed = numbers()
        .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous().with_timestamps(|n| *n as i64))
        .map(|n| n)
        .filter(|_| true)
        .flat_map(|n, out: &mut Collector<'_, u64>| out.collect(n))
        .process(|_| Ok(Pass));
    let joined = passed
        .connect(numbers())
        .map(|n| n, |n| n)
        .connect(numbers())
        .flat_map(|n, out| out.collect(n), |n, out: &mut Collector<'_, u64>| out.collect(n))
        .connect(numbers())
        .process(|_| Ok(Pass))
        .connect(numbers().broadcast_state())
        .process(|_| Ok(Pass));
    let keyed = joined
        .key_by(|n| *n)
        .process(|_| Ok(Pass))
        .key_by(|n| *n)
        .connect(numbers().key_by(|n| *n))
        .process(|_| Ok(Pass))
        .key_by(|n| *n)
        .connect(numbers().broadcast_state())
        .process(|_| Ok(Pass));
    keyed.clone().sink(DiscardSink::new().0).name("discard");
    keyed.clone().map(|n| n.to_string()).sink(FileSink::lines(directory.join("out"))).name("files");
    keyed.sink(CollectSink::new().0).name("collect");
    env
}

fn named(warning: &str) -> BTreeSet<String> {
    let list = warning.split_once(": ").and_then(|(_, rest)| rest.split_once(". ")).unwrap().0;
    list.split(", ").map(|one| one.split_once(" (").unwrap().1.trim_end_matches(')').to_owned()).collect()
}

/// Of the last checkpoint of a job.
fn last_manifest(directory: &Path) -> Manifest {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = CheckpointStore::open(&directory.join("checkpoints").to_string_lossy(), &[]).unwrap();
        let inspected = store.job(&"job".to_owned().into()).unwrap().inspect().await.unwrap();
        inspected.checkpoints.into_iter().next_back().unwrap().1.unwrap().manifest
    })
}

#[test]
fn who_is_named_is_who_has_state_in_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let (program, ..) = every_operator(directory.path()).compile("job").unwrap();
    let warned = named(&program.derived_uids().unwrap());
    every_operator(directory.path()).execute("job").unwrap();
    let manifest = last_manifest(directory.path());
    let stored = manifest.operators.iter().filter(|operator| operator.has_state());
    let stored = stored.map(|operator| operator.uid.to_string());
    let splits = manifest.enumerators.iter().map(|enumerator| enumerator.operator.to_string());
    assert_eq!(warned, stored.chain(splits).collect());

    let without: Vec<_> = program.nodes.iter().filter(|node| !warned.contains(node.uid.as_str())).collect();
    let without: Vec<&str> = without.iter().map(|node| &*node.name).collect();
    assert_eq!(without, ["map", "filter", "flat map", "co map", "co flat map", "discard", "map"]);
    assert_eq!(program.nodes.len(), warned.len() + without.len());
}

#[test]
fn who_has_a_uid_is_not_named() {
    let env = Environment::new();
    env.source(Generator::sequence(0..1))
        .uid("numbers")
        .process(|_| Ok(Pass))
        .map(|n| n)
        .key_by(|n| *n)
        .process(|_| Ok(Pass))
        .uid("keyed")
        .sink(DiscardSink::new().0);
    let (program, ..) = env.compile("job").unwrap();
    let warning = program.derived_uids().unwrap();
    assert_eq!(named(&warning), ["auto-1-process".to_owned()].into());
    assert!(
        warning.contains("'process' (auto-1-process)") && warning.contains("no longer found"),
        "{warning}"
    );

    let env = Environment::new();
    env.source(Generator::sequence(0..1)).uid("numbers").map(|n| n).sink(DiscardSink::new().0);
    assert_eq!(env.compile("job").unwrap().0.derived_uids(), None);
}
