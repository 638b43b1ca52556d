// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Address spaces that tell by a read which one a PASID goes through.

use crate::check::Checks;
use crate::checks::scalable::bench::{Bench, IOVA, NOT_DONE, page_with, snoop};
use crate::dmatest::{BLOCKED, DONE, Operation, Via};
use crate::mem;
use crate::vtd::paging::Paging;
use crate::vtd::scalable::Entry;
use crate::vtd::unit::Unit;

/// Tables that map one page, whose first word no other page has.
#[derive(Clone, Copy)]
pub struct Space {
    /// What binds a PASID to it.
    pub entry: Entry,
    /// Where the page is for the device.
    pub iova: u64,
    /// Where it is.
    pub page: u64,
}

impl Space {
    /// First-stage tables.
    pub fn first(unit: Unit, domain: u16) -> Space {
        let paging = Paging::first(4);
        let entry = Entry::first(&paging, domain);
        Space::mapped(&paging, entry.with(0, snoop(unit), 0))
    }

    /// Second-stage tables.
    pub fn second(unit: Unit, domain: u16) -> Space {
        let paging = Paging::second(if unit.has_levels(4) { 4 } else { 3 });
        let entry = Entry::second(&paging, domain);
        Space::mapped(&paging, entry.with(0, snoop(unit), 0))
    }

    /// All of memory.
    pub fn pass_through(unit: Unit, domain: u16) -> Space {
        let page = marked();
        Space {
            entry: Entry::pass_through(domain).with(0, snoop(unit), 0),
            iova: page,
            page,
        }
    }

    fn mapped(paging: &Paging, entry: Entry) -> Space {
        let page = marked();
        paging.map(IOVA, page, paging.open());
        Space {
            entry,
            iova: IOVA,
            page,
        }
    }

    /// What its entry says.
    pub fn domain(&self) -> u16 {
        let [_, middle, _] = self.entry.0;
        u16::try_from(middle & 0xFFFF).unwrap_or(0)
    }

    /// What a read at `iova` finds.
    fn mark(&self) -> u64 {
        mem::read64(self.page)
    }
}

/// A page that says where it is.
fn marked() -> u64 {
    let page = page_with(0);
    mem::write64(page, 0x5EED_0000_0000_0000 | page);
    page
}

/// What an entry that leads to `space` says.
pub fn entry(space: Option<Space>) -> Entry {
    space.map_or(Entry([0; 3]), |space| space.entry)
}

/// A PASID, and where it has to lead; nowhere if it is blocked.
pub type Leads = (u32, Option<Space>);

/// Checks that each PASID leads where it has to, for reads and for writes.
pub fn lead(bench: &Bench, checks: Checks, name: &str, pasids: &[Leads]) {
    for &(pasid, space) in pasids {
        let via = Via::pasid(pasid);
        let (expected, iova) = match space {
            Some(space) => (space.mark(), space.iova),
            None => (NOT_DONE | u64::from(BLOCKED), IOVA),
        };
        let found = bench.load(via, iova);
        if found != expected {
            checks.equal(name, expected, found);
            return;
        }
        if let Some(space) = space
            && !writes(bench, via, &space)
        {
            checks.holds(name, false);
            return;
        }
    }
    checks.holds(name, true);
}

/// Whether a write gets to the page.
pub fn writes(bench: &Bench, via: Via, space: &Space) -> bool {
    let next = mem::read64(space.page + 8) + 1;
    let answer = bench
        .device
        .run(via, Operation::Store(next), space.iova + 8);
    answer.status == DONE && mem::read64(space.page + 8) == next
}
