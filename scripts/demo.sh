#!/usr/bin/env bash
# The word count example, crashed twice on the way, and the proof that nothing was lost or counted twice.
set -euo pipefail
cd "$(dirname "$0")/.."

input=data/kjv.txt
work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "== 1 of 3: build (the first time this takes some minutes; RocksDB is left out)"
scripts/need.sh
cargo build --release --example word_count

echo
echo "== 2 of 3: count the words of $input with parallelism 2 on two taskmanagers, a checkpoint every 500 ms"
echo "   On the way user code panics once, and a taskmanager is made to crash with everything it holds."
echo
cargo run --quiet --release --example word_count -- \
    --input "$input" --output "$work/words" --rate 2000 --crash \
    --parallelism 2 --cluster.taskmanagers 2 --state.backend memory \
    --checkpoint.interval 500ms --checkpoint.dir "$work/checkpoints"

echo
echo "== 3 of 3: count again with coreutils and compare"
export LC_ALL=C
cat "$work"/words/part-*.csv | sort >"$work/tidegate.csv"
tr -cs 'A-Za-z' '\n' <"$input" | tr 'A-Z' 'a-z' | grep . | sort | uniq -c | awk '{ print $2 "," $1 }' | sort \
    >"$work/coreutils.csv"
summary() { awk -F, '{ total += $2 } END { printf "%d different words, %d in all\n", NR, total }' "$1"; }
echo "tidegate:  $(summary "$work/tidegate.csv")"
echo "coreutils: $(summary "$work/coreutils.csv")"
if diff "$work/coreutils.csv" "$work/tidegate.csv" >"$work/differences"; then
    echo "identical: every one of the $(wc -l <"$work/coreutils.csv") counts is the same"
else
    echo "DIFFERENT (< coreutils, > tidegate):" >&2
    head -20 "$work/differences" >&2
    exit 1
fi
