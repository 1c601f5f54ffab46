#!/usr/bin/env bash
# The word count example on a cluster of processes, two of which are killed on the way, and the proof that nothing was lost
# or counted twice.
set -euo pipefail
cd "$(dirname "$0")/.."

input=data/kjv.txt
work=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT

echo "== 1 of 3: build (the first time this takes some minutes; RocksDB is left out)"
scripts/need.sh
cargo build --release --example word_count

echo
echo "== 2 of 3: count the words of $input on three taskmanagers, a checkpoint every 500 ms"
echo "   Jobmanager and taskmanagers are processes. On the way a taskmanager is killed with kill -9, then the jobmanager."
echo
log="$work/log"
cluster=
# Whatever goes wrong, no process stays.
trap '[ -z "$cluster" ] || kill "$cluster" 2>/dev/null || true; rm -rf "$work"' EXIT
"${CARGO_TARGET_DIR:-target}/release/examples/word_count" --role local-cluster --taskmanagers 3 --parallelism 3 \
    --input "$input" --output "$work/words" --rate 1000 --state.backend memory \
    --checkpoint.interval 500ms --checkpoint.dir "$work/checkpoints" > >(tee "$log") 2>&1 &
cluster=$!

# Waits until so many checkpoints are complete.
checkpoints() {
    until [ "$(grep -c 'checkpoint [0-9]* completed' "$log" 2>/dev/null)" -ge "$1" ]; do
        kill -0 "$cluster" 2>/dev/null || { echo "the job has ended early" >&2; exit 1; }
        sleep 0.1
    done
}
# Kills the newest process of this kind as the worst night would.
kill_newest() {
    pid=$(grep -o "\[cluster\] $1 [0-9]* started" "$log" | tail -1 | grep -o '[0-9]*')
    echo
    echo "   kill -9 $pid, which is a $1"
    echo
    kill -9 "$pid"
}
checkpoints 4
kill_newest taskmanager
checkpoints 8
kill_newest jobmanager
wait "$cluster"
cluster=

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
