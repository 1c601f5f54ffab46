# make help says what there is.

# The cloud features are left out: they only add SDK crates, and `check` compiles them in a step of its own.
FEATURES := rocksdb,testing

.PHONY: help demo test test-s3 check fmt bench fuzz

help: ## What there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## Count words, kill a taskmanager and the jobmanager on the way, prove the counts
	@scripts/demo.sh

test: ## Every test of the workspace, RocksDB's included (whose first build takes about a quarter of an hour)
	@scripts/need.sh rocksdb
	@scripts/test.sh "$(FEATURES)"
	@scripts/s3.sh rocksdb

test-s3: ## Only checkpoints in a server of S3, which pip installs into target/moto; S3_FEATURES=rocksdb for RocksDB's, too
	@TIDEGATE_NO_SKIP=1 scripts/s3.sh $(S3_FEATURES)

check: ## Formatting, lints, documentation, cloud features
	@scripts/need.sh rocksdb
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features $(FEATURES)
	cargo check --features aws,gcp,azure

fmt: ## Format the code
	cargo fmt --all

bench: ## Our benchmarks
	@scripts/need.sh rocksdb
	cargo run --release --package tidegate-bench --features rocksdb -- $(or $(BENCH),all)

fuzz: ## Fuzz what reads checkpoints and frames, a minute for each kind
	@scripts/need.sh
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),60)
