// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the benchmarks of every crate share: how they measure ([`measure`]) and how they report ([`row`]).
//!
//! A benchmark is a bench target without harness (`benches/` of a crate, `harness = false`) that prints rows and nothing
//! else on its standard output; `make bench` finds it and prints the table. Figures are ratios of two things that one run
//! measured side by side, or counts, never times: so they say the same on a slow and on a busy machine.

pub mod measure;
pub mod row;
