#!/usr/bin/env bash
# Fuzzes everything that reads files of checkpoints or frames of other taskmanagers, a while each, beginning with the seeds
# of recovery-tests/fuzz/seeds.
# What is found lies in recovery-tests/fuzz/artifacts and makes this fail.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../recovery-tests"
seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=(manifest state_file keyed_snapshot operator_state in_flight data_frame)
fi

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "Missing: cargo-fuzz"
    echo "Installing with:"
    echo "  cargo install --locked cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
fi

for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    mkdir -p "fuzz/corpus/$target"
    # Without a sanitizer, which needs a nightly compiler: Rust finds its own mistakes, and the limit finds greed.
    cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=512 -max_len=65536 -print_final_stats=1 2>&1 |
        grep -E 'Running|INITED|stat::|ERROR|panicked|SUMMARY|Test unit|error'
done
