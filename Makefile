# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Everything but the Rust toolchain is installed by the lab itself where it may (root on a Debian), or named.

.PHONY: demo test soak bench lint fuzz

# All set-up, then a guest that uses a disk and a passed-through NVMe behind the unit; ends with "demo: pass".
demo:
	cargo lab demo

# All set-up, every test of the workspace, every scenario; ends with "N passed, N failed, N skipped".
test:
	cargo lab test

# Scenarios that do something at random, for ten times as long. Each prints its seed; LAB_SEED=N takes that one again.
soak: export LAB_SOAK = 1
soak:
	cargo lab run pasid-churn pasid-churn-second-stage

# Every benchmark of the workspace, as one table of figures and goals. A figure that misses its goal is shown and is no failure.
bench:
	cargo run --quiet --release --package benchmark

# Seconds for each target.
SECS ?= 60

# Every fuzz target for that long, as many at once as there are processors; what each said is in fuzz/target/NAME.log, and its
# last lines are shown. cargo-fuzz passes compiler flags that the stable toolchain takes only when told to; the sanitizers, which
# need more than that, have nothing to find in a crate without unsafe code. The driver needs a C++ compiler.
fuzz: export RUSTC_BOOTSTRAP = 1
fuzz:
	cargo fuzz --version || cargo install cargo-fuzz --locked
	cargo fuzz build --sanitizer none
	cargo fuzz list | xargs -P "$$(nproc)" -I NAME sh -c '\
		echo "NAME: $(SECS) s"; log=fuzz/target/NAME.log; shown=10; status=0; \
		cargo fuzz run --sanitizer none NAME -- -max_total_time=$(SECS) -max_len=4096 -timeout=30 \
			-print_final_stats=1 >$$log 2>&1 || { status=1; shown=60; }; \
		tail -n $$shown $$log | sed "s/^/NAME: /"; exit $$status'

lint:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
