// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The way of one address down through tables, entry by entry: for people who ask why it is not mapped. It is judged as the
//! walk of a range judges, and changes nothing either.

use super::format::Entry;
use super::{RangeWalk, Run};
use crate::address::{Gpa, Iova};
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::request::Perms;
use crate::translate::rights::is_in_interrupt_range;
use crate::walk::{PageRights, entry_at, shift_of};
use vm_memory::GuestAddress;

/// An entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The level of its table, 1 for the lowest.
    pub level: u32,
    /// Where it lies.
    pub entry: Gpa,
    /// What it holds.
    pub value: u64,
}

/// How the way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a page.
    Page {
        /// What the address translates to.
        gpa: Gpa,
        /// Bytes of the page.
        size: u64,
        /// What a request may do, at least read or write.
        perms: Perms,
    },
    /// The last entry is not present.
    NotPresent,
    /// The last entry is present and has these reserved bits set.
    Reserved(u64),
    /// Neither read nor write is left of the rights of all entries.
    NoPermission,
    /// The table for the next entry, which lies here, is no memory.
    Unreadable(Gpa),
    /// The last entry maps a page that touches the interrupt range, where no request may be led.
    InterruptRange(Gpa),
    /// No address of the tables' width is this one; nothing was read.
    BeyondWidth,
}

/// The way of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The entries read, the highest level first.
    pub steps: Vec<Step>,
    /// How it ended.
    pub end: End,
}

impl RangeWalk {
    /// The way of `iova`, which lies in the range of this walk, of which nothing was walked yet.
    #[must_use]
    pub fn trace<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        capabilities: &Capabilities,
        iova: Iova,
    ) -> Trace {
        let mut steps = Vec::new();
        let end = if self.left.iter().any(|part| part.contains(iova)) {
            self.descend(memory, capabilities, iova, &mut steps)
        } else {
            End::BeyondWidth
        };
        Trace { steps, end }
    }

    fn descend<M: PhysMem + ?Sized>(
        &self,
        memory: &M,
        capabilities: &Capabilities,
        iova: Iova,
        steps: &mut Vec<Step>,
    ) -> End {
        let (mut table, mut level) = self.format.top();
        let mut above = PageRights::ALL;
        loop {
            let entry = entry_at(table, level, iova.0);
            let Ok(value) = memory.load_u64(entry) else {
                return End::Unreadable(entry);
            };
            steps.push(Step {
                level,
                entry,
                value,
            });
            match self.format.judge(capabilities, value, level, above) {
                Entry::NotPresent => return End::NotPresent,
                Entry::Reserved => {
                    return End::Reserved(value & self.format.reserved(capabilities, value, level));
                }
                Entry::Table(next, rights) => {
                    if self.perms(rights).is_none() {
                        return End::NoPermission;
                    }
                    (table, level, above) = (next, level - 1, rights);
                }
                Entry::Leaf(page) => {
                    let gpa = GuestAddress(page.gpa().0 | iova.0 & ((1 << shift_of(level)) - 1));
                    return match self.perms(page.rights()) {
                        Some(_) if is_in_interrupt_range(page) => End::InterruptRange(gpa),
                        Some(perms) => End::Page {
                            gpa,
                            size: 1 << shift_of(level),
                            perms,
                        },
                        None => End::NoPermission,
                    };
                }
            }
        }
    }
}

impl Trace {
    /// The page at the end as a run of one byte; `None` where there is none.
    #[must_use]
    pub const fn run(&self, iova: Iova) -> Option<Run> {
        match self.end {
            End::Page { gpa, perms, .. } => Some(Run {
                iova,
                gpa,
                len: 1,
                perms,
            }),
            _ => None,
        }
    }
}
