//! Tests of the command line and of how it goes together with a file and with code.

use super::*;
use crate::cluster::RestartStrategyConfig as Restart;

fn program() -> Arguments {
    Arguments::new("word_count", "Counts words.")
        .option("input", "FILE", Some("data/x.txt"), "text to read")
        .option("rate", "N", None, "lines per second")
        .switch("slow", "take your time")
}

/// Parses `line` with the text of a file, if there is one.
fn run(file: Option<&str>, line: &str) -> Result<Parsed> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.yaml");
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
    }
    let words = std::iter::once("word_count").chain(line.split_whitespace()).map(OsString::from);
    program().parse_with(words, &path)
}

fn parsed(line: &str) -> Parsed {
    run(None, line).unwrap()
}

fn refused(file: Option<&str>, line: &str) -> String {
    run(file, line).unwrap_err().to_string()
}

#[test]
fn all_spellings_of_a_flag_mean_the_same() {
    for line in ["--parallelism 4", "--parallelism=4", "-D parallelism=4", "-Dparallelism=4"] {
        assert_eq!(parsed(line).config.parallelism, 4, "{line}");
    }
    for line in ["--restore a/b", "--restore=a/b", "--restore.path a/b", "-D restore.path=a/b"] {
        assert_eq!(parsed(line).config.restore.path.as_deref(), Some("a/b"), "{line}");
    }
    for (line, expected) in [
        ("--allow-non-restored-state", true),
        ("--allow-non-restored-state --slow", true),
        ("--restore.allow-non-restored-state true", true),
        ("--restore.allow-non-restored-state=false", false),
        ("", false),
    ] {
        assert_eq!(parsed(line).config.restore.allow_non_restored_state, expected, "{line}");
    }
}

#[test]
fn flags_win_over_the_file_and_code_over_both() {
    let file = "parallelism: 2\ncheckpoint: {interval: 1s, retained: 3}\n";
    let mut config = run(Some(file), "--parallelism 4").unwrap().config;
    assert_eq!((config.parallelism, config.checkpoint.retained), (4, 3));
    assert_eq!(config.checkpoint.interval_ms, Some(1_000));
    assert_eq!(config.source("parallelism").unwrap(), Source::Flag("--parallelism".into()));
    assert!(matches!(config.source("checkpoint.retained").unwrap(), Source::File { line: 2, .. }));
    assert_eq!(config.source("checkpoint.timeout").unwrap(), Source::Default);
    config.parallelism = 8;
    config.set("checkpoint.retained", "5").unwrap();
    assert_eq!(config.source("parallelism").unwrap(), Source::Code);
    assert_eq!(config.source("checkpoint.retained").unwrap(), Source::Code);
    assert_eq!((config.parallelism, config.checkpoint.retained), (8, 5));
    let set: Vec<_> = config.settings().into_iter().map(|(key, value, _)| format!("{key}={value}")).collect();
    assert_eq!(set, ["parallelism=8", "checkpoint.interval=1s", "checkpoint.retained=5"]);
}

#[test]
fn wrong_values_name_source_key_and_remedy() {
    let cases = [
        (None, "--parallelism 0", "flag --parallelism: parallelism = 0 must be at least 1"),
        (None, "-D cluster.slots=0", "cluster.slots = 0 must be at least 1"),
        (
            None,
            "--parallelism x",
            "flag --parallelism: 'x' is not a whole number in range (write a whole number between 1 and 32768)",
        ),
        (
            None,
            "--checkpoint.interval 500",
            "flag --checkpoint.interval: '500' is not a duration: the unit is missing (write '500ms'",
        ),
        (
            None,
            "--checkpoint.retain sometimes",
            "'sometimes' is not one of the choices (allowed are on-failure, always, never)",
        ),
        (None, "--restore.allow-non-restored-state=yes", "'yes' is neither true nor false"),
        (None, "--restore=", "flag --restore: restore.path: the path or URL is empty"),
        (Some("parallelism: 0\n"), "", "tidegate.yaml:1:1: parallelism = 0 must be"),
        (Some("checkpoint.interval: 0s\n"), "", "checkpoint.interval = 0ms must be at least 1ms"),
        (
            Some("max-parallelism: 4\n"),
            "--parallelism 8",
            "parallelism = 8 (flag --parallelism) must not be above max-parallelism = 4 (file ",
        ),
        (
            Some("restart: {strategy: exponential-delay, exponential-delay.jitter: 1.5}"),
            "",
            "jitter = 1.5 must be at most 1.0",
        ),
        (
            Some("restart: {strategy: exponential-delay, exponential-delay.multiplier: 0.5}"),
            "",
            "multiplier = 0.5 must be at least 1.0",
        ),
    ];
    for (file, line, expected) in cases {
        let message = refused(file, line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn unknown_flags_are_refused_with_the_nearest() {
    for (line, expected) in [
        ("--paralelism 4", "there is no flag '--paralelism' (did you mean '--parallelism'?)"),
        ("--inptu x", "did you mean '--input'?"),
        ("--restor x", "did you mean '--restore'?"),
        ("--zzz", "--help lists what there is"),
        (
            "-D checkpoint.intervall=1s",
            "flag -D: there is no option 'checkpoint.intervall' (did you mean 'checkpoint.interval'?)",
        ),
        ("-D parallelism", "'parallelism' is not of the form key=value"),
        ("stray", "the argument 'stray' is not a flag"),
        ("--input", "flag --input: its value is missing"),
        ("--input --slow", "flag --input: its value is missing"),
        ("--slow=1", "flag --slow: it takes no value"),
        ("--plan xml", "'xml' is not a plan format (allowed are text, json, dot)"),
    ] {
        let message = refused(None, line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn nothing_is_set_twice() {
    for line in [
        "--parallelism 1 --parallelism 2",
        "--restore a -D restore.path=b",
        "--slow --slow",
        "--rate 1 --rate 2",
        "--plan dot --plan json",
    ] {
        let message = refused(None, line);
        assert!(
            message.contains("twice") || message.contains("set a second time, after flag"),
            "{line}: {message}"
        );
    }
    for file in ["parallelism: 1\nparallelism: 1\n", "checkpoint.interval: 1s\ncheckpoint: {interval: 2s}\n"]
    {
        let message = refused(Some(file), "");
        assert!(message.contains("tidegate.yaml:2:"), "{message}");
        assert!(
            message.contains("set a second time, after file ") && message.contains("tidegate.yaml:1:1"),
            "{message}"
        );
    }
}

#[test]
fn parameters_need_the_choice_they_belong_to() {
    let file = "restart: {strategy: fixed-delay, fixed-delay: {attempts: 3, delay: 2s}}";
    let restart = |line: &str| run(Some(file), line).unwrap().config.restart;
    assert_eq!(restart(""), Some(Restart::FixedDelay { attempts: 3, delay_ms: 2_000 }));
    assert_eq!(
        restart("--restart.fixed-delay.attempts 9"),
        Some(Restart::FixedDelay { attempts: 9, delay_ms: 2_000 })
    );
    // A flag may choose another one than the file, which keeps its parameters for other runs.
    assert_eq!(restart("--restart.strategy none"), Some(Restart::None));
    assert!(
        refused(Some(file), "--restart.failure-rate.delay 1s")
            .contains("has no effect, because restart.strategy is 'fixed-delay' (set restart.strategy to 'failure-rate', or remove it)")
    );
    assert!(
        refused(Some("restart.fixed-delay.delay: 1s"), "").contains("because restart.strategy is not set")
    );
    assert!(refused(Some("state.rocksdb.memory: 1MiB"), "").contains("because state.backend is 'memory'"));
    // What does not apply must still be right.
    let wrong = "restart: {strategy: none, fixed-delay.delay: 1x}";
    assert!(refused(Some(wrong), "").contains("unknown unit 'x'"));
    let mut config = Config::default();
    assert!(config.set("restart.fixed-delay.delay", "1s").unwrap_err().to_string().starts_with("code: "));
    config.set("restart.strategy", "fixed-delay").unwrap();
    config.set("restart.fixed-delay.delay", "3s").unwrap();
    assert_eq!(config.restart, Some(Restart::FixedDelay { attempts: 1, delay_ms: 3_000 }));
    assert!(config.set("restart.fixed-delay.attempts", "0").is_err());
    assert_eq!(
        config.restart,
        Some(Restart::FixedDelay { attempts: 1, delay_ms: 3_000 }),
        "refused, yet changed"
    );
}

#[test]
fn the_named_file_replaces_the_default_one_and_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.yaml");
    let line = format!("--config {}", other.display());
    let message = refused(Some("parallelism: 2"), &line);
    assert!(
        message.starts_with("flag --config: ") && message.contains("other.yaml: cannot read"),
        "{message}"
    );
    std::fs::write(&other, "cluster.slots: 3").unwrap();
    let config = run(Some("parallelism: 2"), &line).unwrap().config;
    assert_eq!((config.parallelism, config.cluster.slots), (1, Some(3)));
    assert_eq!(Config::from_file(&other).unwrap().cluster.slots, Some(3));
}

#[test]
fn the_programs_own_flags() {
    let given = parsed("--input=a.txt --slow --rate 7");
    assert_eq!((given.value("input"), given.number::<u64>("rate").unwrap()), (Some("a.txt"), 7));
    assert!(given.is_set("slow") && given.is_set("input"));
    let not_given = parsed("");
    assert_eq!((not_given.value("input"), not_given.value("rate")), (Some("data/x.txt"), None));
    assert!(!not_given.is_set("slow") && !not_given.is_set("input"));
    let message = |line: &str, name: &str| parsed(line).number::<u64>(name).unwrap_err().to_string();
    assert!(message("", "rate").contains("the flag --rate is required"));
    assert!(message("--rate x", "rate").contains("flag --rate: 'x' is not a whole number"));
    assert!(message("", "rtae").contains("does not declare it"));
}

#[test]
fn a_program_cannot_take_tidegates_flags() {
    for (name, why) in [
        ("parallelism", "a flag of Tidegate"),
        ("restore", "a flag of Tidegate"),
        ("help", "a flag of Tidegate"),
        ("input", "declared twice"),
        ("", "no name"),
        ("a=b", "no name"),
    ] {
        let message = program().switch(name, "").parse(["p".into()]).unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn actions() {
    assert_eq!(parsed("").action, Action::Run);
    assert_eq!(parsed("--plan dot").action, Action::PrintPlan(PlanFormat::Dot));
    assert_eq!(parsed("--plan=json").action, Action::PrintPlan(PlanFormat::Json));
    // Help is for those who have got something wrong.
    let Action::Help(text) = run(Some("broken: ["), "--zzz --help").unwrap().action else {
        panic!("no help")
    };
    assert!(text.contains("--input FILE"));
}
