# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Everything but the Rust toolchain is installed by the lab itself where it may (root on a Debian), or named.

.PHONY: demo test lint

# All set-up, then a guest that uses a disk through the unit; ends with "demo: pass".
demo:
	cargo lab demo

# All set-up, every test of the workspace, every scenario; ends with "N passed, N failed, N skipped".
test:
	cargo lab test

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
