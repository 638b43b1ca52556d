// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Addresses that second-stage tables of the guest do not map, with the entry that says so.

use crate::mirror::Address;
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::Capabilities;
use iommu::follow::GuestTables;
use iommu::memory::PhysMem;
use iommu::walk::range::{End, Step, Trace};

/// Why nothing is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Nothing {
    /// The entry is not present.
    NotPresent,
    /// The entry is present and has reserved bits set.
    Reserved {
        /// Those.
        bits: Address,
    },
    /// Neither read nor write is left of the rights of all entries down to this one.
    NoPermission,
    /// The entry names a table that is no memory; or the top table is not, and there is no entry.
    Unreadable {
        /// Where the next entry should lie.
        at: Address,
    },
    /// The entry maps a page that touches the interrupt range, where no request may be led.
    InterruptRange {
        /// What the first address would reach.
        gpa: Address,
    },
    /// No address of the tables' width is this one.
    BeyondWidth {
        /// The width in bits.
        width: u32,
    },
}

impl Nothing {
    /// What an end is that is no page.
    pub const fn of(end: End, width: u32) -> Option<Self> {
        Some(match end {
            End::Page { .. } => return None,
            End::NotPresent => Self::NotPresent,
            End::Reserved(bits) => Self::Reserved {
                bits: Address(bits),
            },
            End::NoPermission => Self::NoPermission,
            End::Unreadable(at) => Self::Unreadable { at: Address(at.0) },
            End::InterruptRange(gpa) => Self::InterruptRange {
                gpa: Address(gpa.0),
            },
            End::BeyondWidth => Self::BeyondWidth { width },
        })
    }

    /// In words. `entry` is the last that was read, with its level.
    #[must_use]
    pub fn in_words(&self, entry: Option<&Entry>) -> String {
        let named = entry.map_or_else(|| "the top table".to_owned(), Entry::in_words);
        match self {
            Self::NotPresent => format!("{named} is not present"),
            Self::Reserved { bits } => {
                format!("{named} has reserved bits set ({bits}), so a request faults")
            }
            Self::NoPermission => {
                format!("{named} leaves neither the right to read nor that to write")
            }
            Self::Unreadable { at } if entry.is_none() => {
                format!("{named}, whose entry would lie at {at}, is no memory of the guest")
            }
            Self::Unreadable { at } => {
                format!("{named} names a table that is no memory of the guest (at {at})")
            }
            Self::InterruptRange { gpa } => format!(
                "{named} leads to {gpa}, a page that touches the interrupt range 0xfee00000 to 0xfeefffff, where no \
                 request may be led"
            ),
            Self::BeyondWidth { width } => {
                format!("it lies beyond the {width} bits that the guest's tables translate")
            }
        }
    }
}

/// An entry of the guest's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The level of its table, 1 for the lowest.
    pub level: u32,
    /// Where it lies, guest-physically.
    pub at: Address,
    /// What it holds.
    pub value: Address,
}

impl Entry {
    fn in_words(&self) -> String {
        let Self { level, at, value } = self;
        format!("the guest's entry at level {level} ({at} holds {value})")
    }
}

impl From<&Step> for Entry {
    fn from(step: &Step) -> Self {
        Self {
            level: step.level,
            at: Address(step.entry.0),
            value: Address(step.value),
        }
    }
}

/// Addresses that are not mapped for one reason, in entries of one table or of tables beside each other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hole {
    /// The first address.
    pub first: Address,
    /// The last.
    pub last: Address,
    /// The entry of the first address.
    pub entry: Option<Entry>,
    /// Why nothing is mapped.
    pub why: Nothing,
}

/// Looks for holes, with a bound on the work.
#[derive(Debug)]
pub struct Holes<'a> {
    pub memory: &'a dyn PhysMem,
    pub capabilities: &'a Capabilities,
    pub tables: &'a GuestTables,
    /// Addresses that may still be looked at.
    pub left: u32,
    pub found: Vec<Hole>,
}

impl Holes<'_> {
    /// Looks at `range`, of which nothing is mapped.
    pub fn look(&mut self, range: IovaRange) {
        let mut at = Some(range.start());
        while let Some(start) = at.filter(|at| *at <= range.last()) {
            let Some(left) = self.left.checked_sub(1) else {
                return;
            };
            self.left = left;
            let Some(trace) = self.tables.trace(self.memory, self.capabilities, start) else {
                return;
            };
            let last = Iova(end_of(&trace, start, self.tables)).min(range.last());
            at = last.checked_add(1);
            let Some(why) = Nothing::of(trace.end, self.tables.width) else {
                continue;
            };
            self.push(Hole {
                first: start.into(),
                last: last.into(),
                entry: trace.steps.last().map(Into::into),
                why,
            });
        }
    }

    /// Adds a hole, as one with the last where nothing but the entry differs.
    fn push(&mut self, hole: Hole) {
        let level = |hole: &Hole| hole.entry.map(|entry| entry.level);
        match self.found.last_mut() {
            Some(last)
                if last.last.0.checked_add(1) == Some(hole.first.0)
                    && level(last) == level(&hole)
                    && last.why == hole.why
                    && hole.why == Nothing::NotPresent =>
            {
                last.last = hole.last;
            }
            _ => self.found.push(hole),
        }
    }
}

/// The last address of which `trace`, which began at `start`, says the same.
fn end_of(trace: &Trace, start: Iova, tables: &GuestTables) -> u64 {
    let span = |level: u32| (1u64 << (12 + 9 * (level - 1))) - 1;
    match (trace.end, trace.steps.last()) {
        (End::BeyondWidth, _) => u64::MAX,
        (_, Some(step)) => start.0 | span(step.level),
        (_, None) => start.0 | ((1 << tables.width) - 1),
    }
}
