// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of a range: every page that tables map in it, as runs of pages that follow each other.
//!
//! What the range needs of a table is read at once, 4 KiB at most; a table that is not there is skipped with all that it could have
//! mapped, so that the work grows with the tables that are there and never with the range. Rights stack down the levels.
//! What no request could use is left out and counted by its reason; nothing in memory is changed, so no accessed bit is set.
//!
//! Tables that refer to themselves or share tables can map far more than memory holds. So a walk goes on in slices, each
//! with a budget, and whoever walks decides when it is enough. Between slices the guest may change its tables: what a slice
//! tells was true at some moment since the walk began.
//!
//! Not here: the interrupt range among the addresses that go in, because it depends on the request; nested tables.

mod descent;
mod format;
#[cfg(test)]
mod tests;
mod trace;

pub use trace::{End, Step, Trace};

use crate::address::{Gpa, Iova, IovaRange};
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::request::{Access, Perms};
use crate::translate::paging::Codes;
use crate::translate::rights::{Claim, Rules};
use crate::walk::PageRights;
use crate::walk::first_stage::FirstStage;
use crate::walk::second_stage::SecondStage;
use descent::{Descent, Table};
use format::Format;

/// Pages in a row that are mapped in a row, with the same rights.
///
/// Snoop and memory type do not part runs: no host mapping has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first address.
    pub iova: Iova,
    /// What it translates to.
    pub gpa: Gpa,
    /// Bytes, at least 1. A multiple of 4096 but where the range begins or ends inside a page.
    pub len: u64,
    /// What a request may do, at least read or write.
    pub perms: Perms,
}

impl Run {
    /// The last address.
    #[must_use]
    pub const fn last(&self) -> Iova {
        Iova(self.iova.0 + (self.len - 1))
    }

    /// Whether a page of `perms` that maps `iova` to `gpa` continues the run.
    fn precedes(&self, iova: u64, gpa: u64, perms: Perms) -> bool {
        self.last().0.checked_add(1) == Some(iova)
            && self.gpa.0 + self.len == gpa
            && self.perms == perms
    }
}

/// Entries that a walk passed over, by the reason. An entry counts once, however much it could have mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// It is not present.
    pub not_present: u64,
    /// It names a table that is not memory; or the top table is not.
    pub unreadable: u64,
    /// It is present and has reserved bits set.
    pub reserved: u64,
    /// It is present, but neither read nor write is left of the rights of all levels.
    pub no_permission: u64,
    /// It maps a page that touches the interrupt range, where no request may be led.
    pub interrupt_range: u64,
    /// Parts of the range that no address of the tables' width reaches. Parts, not entries: 0 or 1.
    pub beyond_width: u64,
}

/// What a walk has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCounts {
    /// Tables read, as far as the range needs them. One that is read again in a later slice, or by another way, counts again.
    pub tables: u64,
    /// Pages found, of whatever size.
    pub leaves: u64,
    /// Size of the smallest page found, as a power of two in bytes: 12, 21 or 30.
    pub smallest_leaf: Option<u32>,
    /// What was passed over.
    pub skips: Skips,
}

/// How much one slice of a walk may do. A slice gets on by one entry, however small its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkBudget {
    /// Tables to read.
    pub tables: u64,
    /// Runs to report.
    pub runs: u64,
}

impl WalkBudget {
    /// For tables that are known to be good.
    pub const UNLIMITED: Self = Self {
        tables: u64::MAX,
        runs: u64::MAX,
    };
}

/// How a slice of a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything in the range is reported.
    Done,
    /// The budget is used up. The runs so far tell everything of the range that lies below.
    More(Iova),
}

/// A walk under way.
#[derive(Debug)]
pub struct RangeWalk {
    format: Format,
    claim: Claim,
    /// What is left to walk, the next part last.
    left: Vec<IovaRange>,
    /// The last run, which may go on.
    open: Option<Run>,
    counts: WalkCounts,
    /// Room for one table of each level.
    pool: Vec<Table>,
}

impl RangeWalk {
    /// A walk of second-stage tables.
    #[must_use]
    pub fn second_stage(
        stage: SecondStage,
        capabilities: &Capabilities,
        range: &IovaRange,
    ) -> Self {
        let last = (1 << stage.width(capabilities)) - 1;
        let parts = [Some((0, last)), None];
        Self::new(
            Format::Second(stage),
            (Rules::default(), false),
            range,
            parts,
        )
    }

    /// A walk of first-stage tables, for requests under `rules`, with supervisor privilege or without.
    #[must_use]
    pub fn first_stage(
        stage: FirstStage,
        rules: Rules,
        privileged: bool,
        range: &IovaRange,
    ) -> Self {
        let half = 1 << (stage.width() - 1);
        let parts = [Some((u64::MAX - half + 1, u64::MAX)), Some((0, half - 1))];
        Self::new(Format::First(stage), (rules, privileged), range, parts)
    }

    /// `parts` are what the tables can map, the lowest last.
    fn new(
        format: Format,
        (rules, privileged): (Rules, bool),
        range: &IovaRange,
        parts: [Option<(u64, u64)>; 2],
    ) -> Self {
        let clip = |(first, last): (u64, u64)| {
            IovaRange::new(
                Iova(first.max(range.start().0)),
                Iova(last.min(range.last().0)),
            )
        };
        let left: Vec<_> = parts.into_iter().flatten().filter_map(clip).collect();
        let mut counts = WalkCounts::default();
        if left.as_slice() != [*range] {
            counts.skips.beyond_width = 1;
            tracing::trace!(?range, "walk: skip beyond the width");
        }
        Self {
            format,
            claim: Claim {
                access: Access::Read,
                execute: false,
                privileged,
                rules,
                codes: Codes::Scalable,
            },
            left,
            open: None,
            counts,
            pool: Vec::new(),
        }
    }

    /// Walks on until everything is done or `budget` is used up, and appends the runs to `runs`. They ascend, and no two of
    /// one walk could be one.
    pub fn advance<M: PhysMem + ?Sized>(
        &mut self,
        memory: &M,
        capabilities: &Capabilities,
        budget: WalkBudget,
        runs: &mut Vec<Run>,
    ) -> Progress {
        Descent::new(self, memory, capabilities, budget, runs).run()
    }

    /// What a request may do, if it may read or write.
    fn perms(&self, rights: PageRights) -> Option<Perms> {
        let perms = self.claim.rights(rights);
        perms.filter(|perms| perms.read || perms.write)
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> WalkCounts {
        self.counts
    }
}
