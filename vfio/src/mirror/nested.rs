// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests' own first-stage tables: the host walks them itself, so nothing is copied; what the guest invalidates is passed on,
//! with one call for each table and batch.
//!
//! One stands on all guest RAM, or, where the guest has two stages, on a copy of its second-stage tables, which is a host table
//! like those that endpoints are attached to: filled before anything goes through what stands on it, and out of use together
//! with that. The host's kernel drops by itself what is cached through both when the copy changes.
//!
//! Invalidations name them by domain id and PASID. One that names a domain without PASID, and pages of it, means input of the
//! second stage: all of a first-stage table that has the tag is dropped then. A table that the host does not invalidate is out
//! of use until it does, as one is from which a mapping cannot be removed.

use super::State;
use super::content::{Content, Named, Nesting, UnitId};
use super::range_set::RangeSet;
use super::table::{HostTable, Trouble};
use crate::backend::{Endpoint, HostError, Limits, TableId};
use crate::nested::{Flush, NestedTable};
use iommu::address::{IovaRange, PAGE_SIZE};
use iommu::capabilities::Capabilities;
use iommu::follow::{Attachment, Invalidated};
use iommu::ids::{DomainId, Pasid};
use std::collections::{BTreeMap, BTreeSet};

/// Ranges of one table in one call; of more, everything is dropped.
const MOST_RANGES: usize = 512;

/// The first in their order.
const LEAST: Nesting = Nesting {
    table: NestedTable {
        table: vm_memory::GuestAddress(0),
        width: 0,
        supervisor: false,
        write_protect: false,
        extended_accessed: false,
        page_requests: false,
    },
    on: None,
};

/// How the guest names a first-stage table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NestedTag {
    pub domain: DomainId,
    /// Of the entry that says so.
    pub pasid: Option<Pasid>,
    pub table: Nesting,
}

impl NestedTag {
    /// The copy beneath, which the same domain id names.
    pub fn copy(&self) -> Option<Named> {
        Some((self.domain, Content::Parent(self.table.on?)))
    }
}

/// What is known of first-stage tables.
#[derive(Debug, Default)]
pub struct Nested {
    /// The tags that name tables now, each with how many endpoints use it so.
    tags: BTreeMap<(UnitId, NestedTag), u64>,
    /// What is to be dropped.
    pending: BTreeMap<Nesting, Pending>,
    /// Tables made in this batch, of which nobody has cached anything.
    fresh: BTreeSet<TableId>,
}

#[derive(Debug, Default)]
struct Pending {
    ranges: RangeSet,
    /// Not only leaf entries changed.
    tables_too: bool,
}

impl Nested {
    /// An endpoint of `unit` goes by `tag` from now on.
    pub fn add(&mut self, unit: UnitId, tag: Option<NestedTag>) {
        if let Some(tag) = tag {
            *self.tags.entry((unit, tag)).or_default() += 1;
        }
    }

    /// An endpoint of `unit` no longer goes by `tag`.
    pub fn remove(&mut self, unit: UnitId, tag: Option<NestedTag>) {
        let Some(tag) = tag else {
            return;
        };
        if let Some(users) = self.tags.get_mut(&(unit, tag)) {
            *users -= 1;
            if *users == 0 {
                self.tags.remove(&(unit, tag));
            }
        }
    }

    /// Whether no endpoint goes by a table of the guest's own.
    pub fn is_unused(&self) -> bool {
        self.tags.is_empty() && self.pending.is_empty()
    }

    /// The tags that name `table`.
    pub fn naming(&self, table: &Nesting) -> impl Iterator<Item = (UnitId, DomainId)> {
        let tags = self.tags.keys().filter(move |(_, tag)| tag.table == *table);
        tags.map(|(unit, tag)| (*unit, tag.domain))
    }

    /// Notes what an invalidation of `unit` drops; returns the tables.
    pub fn invalidate(&mut self, unit: UnitId, by: &Invalidated) -> BTreeSet<Nesting> {
        let tables = self.named(unit, by);
        for table in &tables {
            let pending = self.pending.entry(*table).or_default();
            let first_stage = by.pasid.is_some();
            let range = if first_stage {
                by.range
            } else {
                IovaRange::ALL
            };
            pending.ranges.insert_within(range, MOST_RANGES);
            pending.tables_too |= !by.leaf_only || !first_stage;
        }
        tables
    }

    /// The tables that an invalidation of `unit` names.
    fn named(&self, unit: UnitId, by: &Invalidated) -> BTreeSet<Nesting> {
        let at = |domain, pasid| {
            let tag = NestedTag {
                domain,
                pasid,
                table: LEAST,
            };
            (unit, tag)
        };
        let pasid = by.domain.and(by.pasid);
        let first = at(by.domain.unwrap_or(DomainId(0)), pasid);
        self.tags
            .range(first..)
            .map(|((owner, tag), _)| (*owner, tag))
            .take_while(|(owner, tag)| {
                *owner == unit && by.domain.is_none_or(|domain| tag.domain == domain)
            })
            .take_while(|(_, tag)| {
                // Tags of one domain are in the order of PASIDs.
                by.domain.is_none() || by.pasid.is_none() || tag.pasid == by.pasid
            })
            .filter(|(_, tag)| by.pasid.is_none() || tag.pasid == by.pasid)
            .map(|(_, tag)| tag.table)
            .collect()
    }
}

impl Pending {
    fn flushes(&self) -> Vec<Flush> {
        let leaf_only = !self.tables_too;
        self.ranges
            .iter()
            .map(|range| Flush { range, leaf_only })
            .collect()
    }
}

impl State {
    /// What a first-stage attachment of an endpoint comes to; `None` for other attachments, and for tables that the host's
    /// kernel cannot be told.
    pub fn nested_tag(
        &self,
        unit: UnitId,
        endpoint: Endpoint,
        wants: Attachment,
    ) -> Option<NestedTag> {
        let Attachment::Domain(domain) = wants else {
            return None;
        };
        let page_requests = self.host.page_requests(endpoint.device);
        let table = NestedTable::of(&domain.tables, page_requests)?;
        let capabilities = self.units.get(&unit)?;
        Some(NestedTag {
            domain: domain.id,
            pasid: domain.pasid,
            table: Nesting {
                table,
                on: domain.tables.beneath(capabilities),
            },
        })
    }

    /// A host table for a first-stage table, on the host table `parent`.
    pub fn new_nested(
        &mut self,
        nested: Nesting,
        parent: TableId,
        capabilities: Capabilities,
    ) -> Result<TableId, HostError> {
        let id = self.host.create_nested(parent, nested.table)?;
        let limits = Limits {
            page_sizes: !(PAGE_SIZE - 1),
            ranges: Vec::new(),
        };
        let content = Content::Nested(nested);
        let table = HostTable::new(id, content, capabilities, limits, false);
        self.add_table(HostTable {
            parent: Some(parent),
            ..table
        });
        self.nested.fresh.insert(id);
        Ok(id)
    }

    /// The table beneath one of these, where it is the mirror's own.
    pub fn beneath(&self, table: &HostTable) -> Option<&HostTable> {
        table.parent.and_then(|id| self.tables.get(&id))
    }

    /// The table itself, and the one beneath.
    pub fn both_stages(&self, id: TableId) -> impl Iterator<Item = &HostTable> {
        let table = self.tables.get(&id);
        let beneath = table.and_then(|table| self.beneath(table));
        table.into_iter().chain(beneath)
    }

    /// The endpoints that should go through a table, be it by one that stands on it.
    pub fn served_by(&self, id: TableId) -> BTreeSet<Endpoint> {
        let tables = self.tables.values();
        let tables = tables.filter(|table| table.id == id || table.parent == Some(id));
        tables.flat_map(|table| &table.members).copied().collect()
    }

    /// Drops what the batch names.
    pub fn flush(&mut self) {
        let pending = std::mem::take(&mut self.nested.pending);
        let fresh = std::mem::take(&mut self.nested.fresh);
        for (table, pending) in pending {
            let flushes = pending.flushes();
            for id in self.tables_of(Content::Nested(table)) {
                let known = self.tables.get(&id);
                if !fresh.contains(&id) && known.is_some_and(|table| table.trouble.is_none()) {
                    self.flush_one(id, &flushes);
                }
            }
        }
    }

    fn flush_one(&mut self, id: TableId, flushes: &[Flush]) {
        let ranges = flushes.len() as u64;
        self.host.count(Some(id), |stats| stats.flushed += ranges);
        let dropped = self.host.invalidate(id, flushes);
        if dropped
            .or_else(|_| self.host.invalidate(id, &[Flush::ALL]))
            .is_ok()
        {
            return;
        }
        self.host.count(Some(id), |stats| stats.quarantines += 1);
        if let Some(table) = self.tables.get_mut(&id) {
            table.trouble = Some(Trouble::Unclean);
        }
    }

    /// Whether `endpoint` has to be detached before it moves from one table to another: the kernel would lose a reference to
    /// the fault queue (Linux 7.2, drivers/iommu/intel/nested.c). It is blocked for a moment either way.
    pub fn must_detach_first(&self, endpoint: Endpoint, from: TableId, to: TableId) -> bool {
        let asks = |id: TableId| {
            let content = self.tables.get(&id).map(|table| table.content);
            matches!(content, Some(Content::Nested(nested)) if nested.table.page_requests)
        };
        endpoint.pasid.is_none() && asks(from) && asks(to)
    }
}
