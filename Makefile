# Two commands for a newcomer: `make demo` and `make test`. The rest is said by `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# A failing test shows its error, not where in the library it was made.
export RUST_LIB_BACKTRACE := 0

PROGRAMS := ctl manager supervisor worker logger proxy
PACKAGES := tyto-manager tyto-supervisor tyto-worker tyto-logger tyto-proxy
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
# Linked statically, so that a host needs nothing but sshd and a POSIX shell. The target is named
# so that the flag does not reach build scripts and procedural macros, which cannot be static.
# Libraries keep their intermediate form, from which the worker is linked as one piece.
export STATIC_FLAGS := -C target-feature=+crt-static -C embed-bitcode=yes
# A program that ends leaves its memory to the system: mimalloc would give it back page by page.
STATIC = RUSTFLAGS='$(STATIC_FLAGS)' CFLAGS='-DMI_SKIP_COLLECT_ON_EXIT=1' \
    RUSTC_WORKSPACE_WRAPPER='$(CURDIR)/scripts/rustc-worker' \
    cargo build --locked --release --target $(TRIPLE)

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: deps
deps: ## install what the build, the demo and the tests need (apt-get; says what, before)
	scripts/setup build check lab

.PHONY: build
build: ## the programs, release, static, into target/release
	@scripts/setup build
	$(STATIC) $(PACKAGES:%=-p %) --bins
	@mkdir -p target/release
	@for program in $(PROGRAMS); do \
	    ln -f target/$(TRIPLE)/release/$$program target/release/$$program; \
	    if ldd target/release/$$program 2> /dev/null | grep -q '=>'; then \
	        echo "target/release/$$program is not static" >&2; exit 1; \
	    fi; \
	done
	@echo "target/release: $(PROGRAMS)"

.PHONY: demo
demo: ## a live cluster on three hosts of this machine, with traffic; stays up
	@scripts/demo

.PHONY: demo-down
demo-down: ## end the demo's cluster and its hosts
	@scripts/demo down

.PHONY: test
test: build ## all tests: units of every package, then clusters on lab hosts
	@scripts/test

.PHONY: fuzz
fuzz: ## every protocol against hostile input; SECONDS_EACH=600
	TYTO_FUZZ_SECONDS=$(or $(SECONDS_EACH),600) cargo test --locked --release -p tyto-worker --test fuzz

.PHONY: check
check: ## formatting, clippy, documentation, shell scripts
	@scripts/setup build check
	shellcheck .ci/run scripts/* tests/lab/lab tests/golden/record
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

.PHONY: chaos
chaos: build ## random kills under traffic in a lab; KILLS=1000 SECONDS=1200
	TYTO_KILLS=$(or $(KILLS),1000) TYTO_KILLS_S=$(or $(SECONDS),1200) TYTO_CUT_S=60 TYTO_FULL_S=30 \
	    cargo test --locked --workspace --test kills -- --nocapture

.PHONY: simulate
simulate: ## workers and loggers in a simulated cluster, faults by seeds; SEEDS=10000
	TYTO_SEEDS=$(or $(SEEDS),10000) cargo test --locked --release -p tyto-tests --test simulation -- --nocapture

.PHONY: golden
golden: build ## rewrite the expected logs of tests/golden; review the difference
	scripts/golden

.PHONY: bench
bench: build ## packets/s of the worker, rows/s of delivery; CAPTURES="FILE…" for others than the lab's
	scripts/bench $(CAPTURES)

.PHONY: clean
clean: demo-down ## the demo and everything built
	cargo clean
