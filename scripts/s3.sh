#!/usr/bin/env bash
# Runs the tests with a server of S3, which is installed by pip if it is missing. Where that is not possible they are
# left out, which is said; with TIDEGATE_NO_SKIP set it is an error. With the argument `rocksdb` also those on RocksDB.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! scripts/need.sh s3; then
    echo
    echo "SKIPPED: checkpoints in S3, for want of a server (see above)"
    [ -z "${TIDEGATE_NO_SKIP:-}" ] || exit 1
    exit 0
fi
TIDEGATE_MOTO=$(realpath "${CARGO_TARGET_DIR:-target}")/moto/bin/moto_server
export TIDEGATE_MOTO
cargo test --package tidegate-recovery-tests --features "aws${1:+,$1}" --test s3
