//! "Did you mean": the known name closest to an unknown one.

/// The closest of `known` to `name`, unless none is anywhere near. The end of a dotted key counts as a match, so
/// that `interval` finds `checkpoint.interval`.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let tail = candidate.strip_suffix(name).is_some_and(|head| head.ends_with('.'));
        let score = if tail { 0.9 } else { strsim::normalized_damerau_levenshtein(name, candidate) };
        if best.is_none_or(|(top, _)| score > top) {
            best = Some((score, candidate));
        }
    }
    best.filter(|(score, _)| *score >= 0.5).map(|(_, candidate)| candidate)
}

/// A hint that names the closest known name behind `prefix`, or where to look.
pub(super) fn did_you_mean<'a>(prefix: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(known) => format!("did you mean '{prefix}{known}'?"),
        None => "--help lists what there is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_tails_find_their_key() {
        let known = ["parallelism", "max-parallelism", "checkpoint.interval", "restart.strategy"];
        assert_eq!(nearest("paralelism", known), Some("parallelism"));
        assert_eq!(nearest("checkpiont.interval", known), Some("checkpoint.interval"));
        assert_eq!(nearest("interval", known), Some("checkpoint.interval"));
        assert_eq!(nearest("zzz", known), None);
    }
}
