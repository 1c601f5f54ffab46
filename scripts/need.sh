#!/usr/bin/env bash
# Makes sure that the tools a build needs are there. Says what it installs, and with which command, before it does.
#
#   scripts/need.sh          a Rust toolchain and a C compiler
#   scripts/need.sh rocksdb  also a C++ compiler and libclang, which RocksDB's build needs, and what all tests need
#   scripts/need.sh s3       a server of S3 for tests, by pip, into target/moto
set -euo pipefail

die() {
    echo "error: $*" >&2
    exit 1
}

if ! command -v cargo >/dev/null; then
    die "cargo is missing: install a Rust toolchain first, see https://rustup.rs
  (if it is installed but not found: . \"\$HOME/.cargo/env\")"
fi

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    ldconfig -p 2>/dev/null | grep -E 'libclang(-[0-9][0-9.]*)?\.so' >/dev/null && return
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null
}

if [ "${1:-}" = s3 ]; then
    moto=${CARGO_TARGET_DIR:-target}/moto
    # Left half-way it is begun anew.
    [ -x "$moto/bin/moto_server" ] && [ -e "$moto/complete" ] && exit 0
    command -v python3 >/dev/null || die "python3 is missing: apt-get install python3 python3-venv"
    echo "Missing: moto, a server of S3"
    echo "Installing with:"
    echo "  python3 -m venv $moto"
    echo "  $moto/bin/pip install 'moto[server]==5.2.5'"
    python3 -m venv "$moto" || die "there is no venv for python3: apt-get install python3-venv"
    "$moto/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5' ||
        die "pip cannot install moto: is there a package registry?"
    touch "$moto/complete"
    exit 0
fi

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
if [ "${1:-}" = rocksdb ]; then
    command -v c++ >/dev/null || missing+=(g++)
    has_libclang || missing+=(libclang-dev)
    # For tests with networks that lose what is sent.
    command -v ip >/dev/null || missing+=(iproute2)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
update=("${as_root[@]}" apt-get update)
install=("${as_root[@]}" apt-get install --yes --no-install-recommends "${missing[@]}")

echo "Missing: ${missing[*]}"
command -v apt-get >/dev/null || die "this is no Debian: install these packages, or what they are called here"
if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
    die "not root and there is no sudo; as root, run: apt-get update && apt-get install ${missing[*]}"
fi
echo "Installing with:"
echo "  ${update[*]}"
echo "  ${install[*]}"
export DEBIAN_FRONTEND=noninteractive
"${update[@]}" -qq
"${install[@]}" -qq
