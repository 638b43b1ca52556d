// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From an address to its page: cached, or walked for and kept.

use super::Translator;
use super::dma::{Stamps, Target};
use crate::address::Iova;
use crate::cache::Stamp;
use crate::cache::iotlb::Space;
use crate::fault::FaultReason;
use crate::memory::PhysMem;
use crate::translate::paging::{self, PagingError, update_failed};
use crate::walk::trail::Stage;
use crate::walk::{Page, Tables, Waypoint};

/// Times that a walk is done because an entry changed before its bits were set. Software that changes one table entry again
/// and again while it is in use gets a fault. One walk reads at most 35 entries (five levels through five, and five more for
/// the page), so that no tables make a request read more than 560 of them.
const WALK_ATTEMPTS: u32 = 16;

impl Translator {
    /// The page of `address`, which `judge` lets through and says whether it is to be written.
    ///
    /// A cached page that it does not let through is walked for again: rights may have been added meanwhile, and a fault is
    /// always fresh. So is one that is to be written and is not known to be dirty.
    pub(super) fn page(
        &self,
        target: &Target<'_>,
        address: Iova,
        stamps: &Stamps,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Page, FaultReason> {
        if let Some(page) = self.iotlb.get(target.space, address)
            && let Ok(write) = judge(page)
            && (page.rights().dirty() || !write)
        {
            self.tally.page_hits.add();
            return Ok(page);
        }
        target.paging.check_input(&self.capabilities, address)?;
        let page = self.walk(target, address, stamps, judge)?;
        self.tally.walked(target.paging.stages);
        Ok(page)
    }

    fn walk(
        &self,
        target: &Target<'_>,
        address: Iova,
        stamps: &Stamps,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Page, FaultReason> {
        match self.memory.as_ram() {
            Some(ram) => self.walk_in(ram, target, address, stamps, judge),
            None => self.walk_in(&*self.memory, target, address, stamps, judge),
        }
    }

    fn walk_in<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        target: &Target<'_>,
        address: Iova,
        stamps: &Stamps,
        judge: impl Fn(Page) -> Result<bool, FaultReason>,
    ) -> Result<Page, FaultReason> {
        let known = self.tables.get(target.space, address);
        let mut start = known.map(Waypoint::of_page);
        let mut changed = Stage::First;
        for _ in 0..WALK_ATTEMPTS {
            let from = start.take();
            let tables = Tables::new(memory, &self.capabilities);
            let outcome = target.paging.walk(&tables, address, from, &judge);
            self.tally.table_reads.add_many(tables.reads().into());
            match outcome {
                Ok(found) => {
                    self.keep(
                        target.space,
                        address,
                        (stamps.page, stamps.table),
                        &found,
                        from,
                    );
                    return Ok(found.page);
                }
                Err(PagingError::Changed(stage)) => changed = stage,
                // Found through a cached table, which may have been replaced.
                Err(PagingError::Fault(_)) if from.is_some() => {}
                Err(PagingError::Fault(reason)) => return Err(reason),
            }
        }
        Err(update_failed(changed))
    }

    /// Keeps what a walk found that began at `from`; the stamps are that of the page and that of the table.
    #[inline]
    pub(super) fn keep(
        &self,
        space: Space,
        address: Iova,
        stamps: (Stamp, Stamp),
        found: &paging::Found,
        from: Option<Waypoint>,
    ) {
        self.iotlb
            .insert(stamps.0, space, address, found.page, found.whole);
        if let Some(table) = found.table
            && found.table != from
        {
            let table = table.as_page();
            self.tables
                .insert(stamps.1, space, address, table, table.level());
        }
    }
}
