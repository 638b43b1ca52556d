// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest may make the host do.
//!
//! Tables that are aliased or refer to themselves map far more than there is memory. Honest ones cannot: a table takes a page
//! of RAM, and what they map is RAM, most of it once.

use iommu::address::PAGE_SIZE;

/// The least that a guest may have, however small it is.
const LEAST: u64 = 1 << 16;

/// What guest domains may cost: one, if nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Tables (4 KiB each) read for one batch of events.
    pub tables: u64,
    /// Runs that the host holds.
    pub runs: u64,
    /// Runs that the host holds for all domains together.
    pub all_runs: u64,
}

impl Budget {
    /// For a guest with `ram` bytes: every page of it a table, and every page of it mapped twice as a run of its own, in
    /// all domains together four times.
    #[must_use]
    pub const fn for_ram(ram: u64) -> Self {
        let pages = ram / PAGE_SIZE;
        let pages = if pages > LEAST { pages } else { LEAST };
        Self {
            tables: pages,
            runs: 2 * pages,
            all_runs: 4 * pages,
        }
    }
}

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What one guest domain may cost.
    pub budget: Budget,
    /// On a host that limits the number of mappings: replace adjacent ones by one when they run out, at the price of gaps.
    pub compaction: bool,
}
