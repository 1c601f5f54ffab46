#!/usr/bin/env bash
# Runs every test of the workspace with the given features, and fails if one was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
features=$1

log=$(mktemp)
trap 'rm -f "$log"' EXIT

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --features "$features" 2>&1 | tee -a "$log"
else
    cargo test --workspace --lib --bins --tests --examples --features "$features" 2>&1 | tee -a "$log"
fi
cargo test --doc --workspace --features "$features" 2>&1 | tee -a "$log"

echo
echo "== Summary"
plain=$(sed 's/\x1b\[[0-9;]*m//g' "$log")
grep -E '^ *Summary \[|^test result:' <<<"$plain"
if grep -E '^ *Summary \[.* [1-9][0-9]* skipped|^test result:.* [1-9][0-9]* ignored' <<<"$plain" >/dev/null; then
    echo "error: tests were skipped; every test must run" >&2
    exit 1
fi
