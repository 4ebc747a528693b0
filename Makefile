# What a person or a machine runs. Build products go to CARGO_TARGET_DIR, by default to target/.
# A Rust that scripts/setup has just installed is not on the PATH of the shell that called make.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-long torture torture-controls test-gcs test-alerts bench bench-long overload fuzz model setup fmt lint purity deny

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1#\2/p' Makefile | awk -F'#' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: ## The tour: private Kafka and PostgreSQL, a month of real sales, the processor, the check of its promises
	@scripts/setup
	cargo run --locked --release -- demo

# The tests start hundreds of brokers for moments each: their JVMs need not compile for speed.
test: export JAVA_TOOL_OPTIONS ?= -XX:TieredStopAtLevel=1
# And they wait more than they compute: with as many at a time as there are cores, two in five moments are idle.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: ## Formatting, lints, the domain's purity, all tests
	@scripts/setup checks
	@$(MAKE) --no-print-directory fmt lint purity deny
	cargo test --locked --workspace

# All programs are built at once: built one by one the crates that they share have other features, and are compiled again.
TARGET = $(or $(CARGO_TARGET_DIR),target)
BENCH = $(TARGET)/release/stocktide-bench

bench: ## A backlog beside bare PostgreSQL taking in the same rows, five times, and the latency at 2,000 events/s
	@scripts/setup
	cargo build --locked --release --workspace
	$(BENCH) --json $(TARGET)/bench-backlog.json backlog --pairs 5
	$(BENCH) --json $(TARGET)/bench-latency.json latency --rate 2000 --seconds 60

bench-long: ## All else that is measured: two processors, rivals, growth, catching up, the start, the API and reports on a large ledger
	@scripts/setup
	cargo build --locked --release --workspace
	$(BENCH) --json $(TARGET)/bench-backlog-two.json backlog --processors 2 --pairs 5
	$(BENCH) --json $(TARGET)/bench-latencies.json latency --rate 500,2000,10000 --seconds 60
	$(BENCH) instructions
	$(BENCH) --json $(TARGET)/bench-growth-v4.json growth --ids v4
	$(BENCH) --json $(TARGET)/bench-growth-v7.json growth --ids v7
	$(BENCH) --json $(TARGET)/bench-catch-up.json catch-up
	$(BENCH) --json $(TARGET)/bench-start.json start
	$(BENCH) reports
	$(BENCH) api
	# Last: what they are made of may not be had.
	$(BENCH) --json $(TARGET)/bench-rivals.json rivals

overload: ## A backlog of 5 M events, a burst, a storm of requests, a database slowed tenfold and stopped, memory capped (EVENTS=5000000)
	@scripts/setup
	cargo build --locked --release --workspace
	$(BENCH) overload --events $(or $(EVENTS),5000000)

fuzz: ## Mutated bytes for everything that reads bytes from outside: target, executions, findings (MINUTES=10)
	@scripts/setup
	cargo build --locked --release --workspace
	$(TARGET)/release/stocktide-fuzz --minutes $(or $(MINUTES),10)

model: ## The protocol's model, small runs and large ones: some ten minutes and 8 GB
	@scripts/setup checks
	docs/model/run small
	MEMORY=$(or $(MEMORY),12000) docs/model/run large

test-long: ## The long forms of tests that have one: payments, and kills of job workers
	@scripts/setup
	STOCKTIDE_TEST_LONG=1 cargo test --locked -p stocktide --test processor --test jobs -- --nocapture faults payments

TORTURE = $(TARGET)/debug/stocktide-torture
SEED ?= 1
MINUTES ?= 5

torture: ## Faults of all kinds at random for MINUTES (5) from SEED (1), and the check that nothing came of them
	@scripts/setup torture
	cargo build --locked --workspace
	# What was played is kept, whatever came of it, and told in docs/faults.md.
	$(TORTURE) run --seed $(SEED) --minutes $(MINUTES) \
		--history tests/faults/history/seed-$(SEED).jsonl; \
	ended=$$?; $(TORTURE) table && exit $$ended

torture-controls: ## Variants of the processor that are broken on purpose, each of which the fault harness has to find
	@scripts/setup torture
	cargo build --locked --workspace
	cargo build --locked --workspace --features stocktide/broken --bin stocktide-broken
	# All of them are played, so what is kept of an earlier run gives way.
	rm -f tests/faults/history/controls.jsonl
	$(TORTURE) controls --history tests/faults/history/controls.jsonl; \
	ended=$$?; $(TORTURE) table && exit $$ended

test-gcs: ## Reports in Google Cloud Storage, against a server that Go 1.23 builds (600 MB of modules at the first time)
	@scripts/setup gcs
	cargo test --locked -p stocktide --features gcs-tests --test jobs gcs::
	cargo test --locked -p stocktide-reports --features gcs-tests --test storage_gcs

test-alerts: ## Each alert is made to fire by a real fault, and to resolve by what its runbook says
	@scripts/setup checks
	cargo test --locked -p stocktide --features alert-tests --test docs -- --nocapture alerts

setup: ## Check for what is needed, and install what is missing (Debian, Ubuntu)
	@scripts/setup checks

fmt: # The formatting is rustfmt's
	cargo fmt --all --check

lint: # No warning is let through
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

purity: # The domain knows neither a runtime nor a database, a broker or a network
	@tree=$$(cargo tree --locked -p stocktide-domain -e normal --prefix none) || exit 1; \
	impure=$$(echo "$$tree" | sed -n -E 's/^((tokio|tokio-postgres|sqlx|rdkafka|reqwest|axum|hyper)(-[a-z-]+)?) v.*/\1/p' | sort -u); \
	if [ -n "$$impure" ]; then echo "stocktide-domain must stay pure, yet it depends on:" $$impure; exit 1; fi; \
	echo "stocktide-domain is pure"

deny: # Licences, bans and sources of the dependencies; advisories, whose database comes from the network, are CI's
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo "cargo-deny is not installed: licences and sources are not checked"; fi
