// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the mirror did, and what it holds.

use super::content::Content;
use super::histogram::Histogram;
use crate::backend::{Endpoint, HostError, TableId};
use iommu::address::Iova;
use iommu::walk::range::{Skips, WalkCounts};
use std::collections::BTreeMap;

/// Parts of guest mappings that the host does not get, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// At addresses of the interrupt window, where a request is no DMA.
    pub interrupt_window: u64,
    /// They lead where there is no RAM.
    pub nothing_there: u64,
    /// At addresses that the host cannot map. Refused.
    pub aperture: u64,
    /// Finer than the host's smallest page. Refused.
    pub granularity: u64,
}

/// Calls of the host, refused ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCalls {
    /// Tables made.
    pub create: u64,
    /// Tables given up.
    pub destroy: u64,
    /// Runs mapped.
    pub map: u64,
    /// Ranges removed whole.
    pub unmap: u64,
    /// Ranges cut out.
    pub cut: u64,
    /// Tables emptied.
    pub unmap_all: u64,
    /// Endpoints attached.
    pub attach: u64,
    /// Endpoints detached.
    pub detach: u64,
}

impl HostCalls {
    /// Those that change mappings.
    #[must_use]
    pub const fn mapping(&self) -> u64 {
        self.map + self.unmap + self.cut + self.unmap_all
    }
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches of events.
    pub batches: u64,
    /// Events.
    pub events: u64,
    /// Walks of guest tables: one for each domain and contiguous range.
    pub walks: u64,
    /// Guest tables read, 4 KiB each.
    pub tables: u64,
    /// Guest pages found, of whatever size.
    pub leaves: u64,
    /// Entries that walks passed over.
    pub skips: Skips,
    /// Parts of guest mappings that the host did not get.
    pub dropped: Dropped,
    /// Calls of the host.
    pub calls: HostCalls,
    /// How long they took.
    pub times: Histogram,
    /// What the host refused.
    pub refusals: Refusals,
    /// Ranges tried again after a refusal.
    pub retries: u64,
    /// Mappings that stayed in the guest's tables but were absent on the host for a moment.
    pub gaps: u64,
    /// Mappings absent for a moment while their rights changed.
    pub rights_changes: u64,
    /// Rows of mappings replaced by one. Each is a gap too.
    pub compactions: u64,
    /// Domains blocked because their tables cost too much.
    pub over_budget: u64,
    /// Tables put out of use because the host did not remove what it was told to.
    pub quarantines: u64,
}

/// What was refused, by the error: calls of the host, and ranges that it cannot have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals(BTreeMap<HostError, u64>);

impl Refusals {
    /// Counts one more.
    pub fn count(&mut self, error: HostError) {
        *self.0.entry(error).or_insert(0) += 1;
    }

    /// How many there were with `error`.
    #[must_use]
    pub fn of(&self, error: HostError) -> u64 {
        self.0.get(&error).copied().unwrap_or(0)
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each error, and how often it came.
    pub fn iter(&self) -> impl Iterator<Item = (HostError, u64)> {
        self.0.iter().map(|(error, count)| (*error, *count))
    }
}

impl Stats {
    pub(super) fn add_walk(&mut self, counts: &WalkCounts) {
        self.walks += 1;
        self.tables += counts.tables;
        self.leaves += counts.leaves;
        let (sum, more) = (&mut self.skips, &counts.skips);
        sum.not_present += more.not_present;
        sum.unreadable += more.unreadable;
        sum.reserved += more.reserved;
        sum.no_permission += more.no_permission;
        sum.interrupt_range += more.interrupt_range;
        sum.beyond_width += more.beyond_width;
    }
}

/// One host table as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStatus {
    /// Its name.
    pub table: TableId,
    /// What it shall hold.
    pub content: Content,
    /// What should go through it.
    pub members: Vec<Endpoint>,
    /// Guest pages that the last walk of the whole domain found.
    pub leaves: u64,
    /// Runs that the host has.
    pub runs: u64,
    /// Bytes that the host has.
    pub bytes: u64,
    /// Ranges that are not as the guest says.
    pub unsynced: u64,
    /// The first address of those.
    pub first_unsynced: Option<Iova>,
    /// The last refusal that left a range unsynced.
    pub last_refusal: Option<HostError>,
    /// Nothing is attached, because the table costs too much or could not be cleaned.
    pub blocked: bool,
}
