// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the mirror did, and what it holds.
//!
//! Counters are kept for all domains together since the start, and for each host table since it was made. All of it can be
//! serialised; field names are part of what `remora ctl stats` prints.

use super::content::Content;
use super::histogram::Histogram;
use super::wanted::Why;
use crate::backend::{Endpoint, HostError, TableId};
use iommu::address::Iova;
use iommu::walk::range::{Skips, WalkCounts};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use std::collections::BTreeMap;

/// Parts of guest mappings that the host does not get, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// At addresses of the interrupt window, where a request is no DMA.
    pub interrupt_window: u64,
    /// They lead where there is no RAM.
    pub nothing_there: u64,
    /// They lead into memory of a device, which the host cannot map for another one.
    pub device_memory: u64,
    /// At addresses that the host cannot map. Refused.
    pub aperture: u64,
    /// Finer than the host's smallest page. Refused.
    pub granularity: u64,
    /// For reading only, beneath a first-stage table. Refused.
    pub read_only: u64,
}

impl Dropped {
    /// The counter for a reason.
    pub(super) const fn of(&mut self, why: Why) -> &mut u64 {
        match why {
            Why::InterruptWindow => &mut self.interrupt_window,
            Why::NothingThere => &mut self.nothing_there,
            Why::DeviceMemory => &mut self.device_memory,
            Why::Aperture => &mut self.aperture,
            Why::Granularity => &mut self.granularity,
            Why::ReadOnly => &mut self.read_only,
        }
    }
}

/// Calls of the host, refused ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct HostCalls {
    /// Questions that change nothing: what a table can hold, how many mappings are left.
    pub query: u64,
    /// Tables readied for an endpoint.
    pub prepare: u64,
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
    /// Nested tables invalidated.
    pub invalidate: u64,
    /// Endpoints attached.
    pub attach: u64,
    /// Endpoints detached.
    pub detach: u64,
}

impl HostCalls {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.query
            + self.prepare
            + self.create
            + self.destroy
            + self.mapping()
            + self.invalidate
            + self.attach
            + self.detach
    }

    /// Those that change mappings.
    #[must_use]
    pub const fn mapping(&self) -> u64 {
        self.map + self.unmap + self.cut + self.unmap_all
    }
}

/// Counters: of everything since the start, or of one host table since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Batches of events; of a table, those that had it compared with the guest's tables.
    pub batches: u64,
    /// Events; of a table, the invalidations that named it.
    pub events: u64,
    /// Walks of guest tables: one for each domain and contiguous range.
    pub walks: u64,
    /// Guest tables read, as far as the ranges needed them.
    pub tables: u64,
    /// Guest pages found, of whatever size.
    pub leaves: u64,
    /// Entries that walks passed over.
    #[serde(with = "SkipsFields")]
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
    /// Mappings that stayed in the guest's tables, at least with some of their rights, but were absent on the host for a
    /// moment.
    pub gaps: u64,
    /// Those of them that were absent because their rights changed, which no host can do in place.
    pub rights_changes: u64,
    /// Rows of mappings replaced by one. Each is a gap too.
    pub compactions: u64,
    /// Domains blocked because their tables cost too much.
    pub over_budget: u64,
    /// Endpoints that were blocked for a moment because one table took the place of another: replacing has a gap.
    pub replaced: u64,
    /// Ranges invalidated of nested tables.
    pub flushed: u64,
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

/// Each error with its number, what it means and how often it came.
impl Serialize for Refusals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Refusal {
            errno: i32,
            meaning: String,
            times: u64,
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (error, times) in self.iter() {
            list.serialize_element(&Refusal {
                errno: error.errno(),
                meaning: error.to_string(),
                times,
            })?;
        }
        list.end()
    }
}

/// The fields of [`Skips`], which knows nothing of serialising.
#[derive(serde::Serialize)]
#[serde(remote = "Skips")]
struct SkipsFields {
    not_present: u64,
    unreadable: u64,
    reserved: u64,
    no_permission: u64,
    interrupt_range: u64,
    beyond_width: u64,
}

/// Counters of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStats {
    /// Attachments of it or one of its PASIDs, refused ones included.
    pub attach: u64,
    /// The same for detachments.
    pub detach: u64,
    /// How many of those, and of what readied tables for it, the host refused.
    pub refusals: u64,
    /// Times that something of it was found not to be in effect, each of which is a fault for the guest.
    pub faults: u64,
}

impl Stats {
    pub(super) fn add_dropped(&mut self, more: &Dropped) {
        let sum = &mut self.dropped;
        sum.interrupt_window += more.interrupt_window;
        sum.nothing_there += more.nothing_there;
        sum.device_memory += more.device_memory;
        sum.aperture += more.aperture;
        sum.granularity += more.granularity;
        sum.read_only += more.read_only;
    }

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
