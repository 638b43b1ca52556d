// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The short way of a batch: some pages of one table are invalidated, and nothing else is left to be done.
//!
//! A strict guest waits for that at each mapping that it makes or takes away. Whatever else a batch does, from finding tables to
//! giving them up, would find nothing to do then, so that is left out; walk, comparison and calls of the host are those of every
//! batch. What does not fit goes the long way.

use super::State;
use super::content::UnitId;
use super::sync::Update;
use super::table::HostTable;
use super::walk::Walked;
use crate::backend::TableId;
use iommu::address::{IovaRange, PAGE_SIZE};
use iommu::follow::{FollowEvent, Invalidated};
use iommu::walk::range::{Progress, WalkBudget};

/// Pages that are invalidated at most: so few that others need no turn meanwhile.
const PAGES: u64 = 64;

/// What their walk may cost: the way down, to each side of a border.
const WALK: WalkBudget = WalkBudget {
    tables: 16,
    runs: PAGES,
};

impl State {
    /// Carries out `events` of `unit` if they fit; returns the table.
    pub(super) fn single(&mut self, unit: UnitId, events: &[FollowEvent]) -> Option<TableId> {
        let [FollowEvent::Invalidated(named)] = events else {
            return None;
        };
        let id = self.only_table(unit, named)?;
        let walked = self.walk_pages(id, named.range)?;
        self.host.stats.add_walk(&walked.counts);
        self.host.count_only(Some(id), |stats| stats.events += 1);
        let update = Update::new(self.tables.get(&id)?, false);
        if let Some(mut work) = self.plan(&update, std::slice::from_ref(&walked)) {
            while !self.carry_on(&update, &mut work) {}
            self.check_budget(&update);
        }
        Some(id)
    }

    /// Whether a table holds all that the guest says.
    pub(super) fn is_whole(&self, id: TableId) -> bool {
        self.tables.get(&id).is_some_and(HostTable::is_whole)
    }

    /// The table that an invalidation means, if it is the only one, and nothing but this is to be done.
    fn only_table(&self, unit: UnitId, named: &Invalidated) -> Option<TableId> {
        let (start, last) = (named.range.start().0, named.range.last().0);
        if last - start >= PAGES * PAGE_SIZE || !self.is_settled() {
            return None;
        }
        let mut contents = self.tags.named(unit, named);
        let content = contents.next().filter(|_| contents.next().is_none())?;
        let mut ids = self.contents.get(&content)?.iter();
        let id = ids.next().filter(|_| ids.next().is_none())?;
        let inside = self.tables.get(id)?.limits.granule() - 1;
        (start & inside == 0 && last & inside == inside).then_some(*id)
    }

    /// Whether earlier batches left nothing to be done, to be tried again or to be told.
    fn is_settled(&self) -> bool {
        self.dirty.is_empty()
            && self.busy.is_empty()
            && self.asked.is_empty()
            && self.touched.is_empty()
            && self.restless.is_empty()
            && self.returning.is_empty()
            && self.faulted.is_empty()
            && self.nested.is_unused()
            && (self.tables.values()).all(|table| table.is_whole() && !table.members.is_empty())
    }

    /// What the guest maps in `range` of a table; `None` when that is too much for a short way.
    fn walk_pages(&self, id: TableId, range: IovaRange) -> Option<Walked> {
        let table = self.tables.get(&id)?;
        let mut walk = table.content.copied()?.walk(&table.capabilities, &range)?;
        let budget = &self.options.budget;
        let budget = WalkBudget {
            tables: WALK.tables.min(budget.tables),
            runs: WALK.runs.min(budget.runs),
        };
        let mut runs = Vec::new();
        let memory = self.memory.as_ref();
        let progress = walk.advance(memory, &table.capabilities, budget, &mut runs);
        (progress == Progress::Done).then(|| Walked {
            range,
            runs,
            counts: walk.counts(),
        })
    }
}
