// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From ranges that may have changed to what has to be done: what the guest's tables map there is walked once for each domain
//! and compared with each host table that holds it.

use super::State;
use super::carry_out::Work;
use super::cluster::{Part, clusters};
use super::content::Content;
use super::range_set::RangeSet;
use super::table::{HostTable, Trouble};
use super::walk::{Survey, Walked};
use super::wanted::{Reach, Wanted};
use crate::backend::TableId;
use crate::diff::{Plan, plan};
use crate::nested::Flush;
use crate::run::Run;
use iommu::address::{Iova, IovaRange};
use iommu::walk::range::Run as GuestRun;

/// A table that is to be made equal to what is walked.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    pub table: TableId,
    /// What the table was when the walk began: its content is still the one that is walked if it is this.
    pub generation: u64,
    /// Everything is walked.
    whole: bool,
}

impl Update {
    /// For a walk that begins now, of `whole` what `table` shall hold or of a part.
    pub const fn new(table: &HostTable, whole: bool) -> Self {
        Self {
            table: table.id,
            generation: table.generation,
            whole,
        }
    }
}

impl State {
    /// `range` of `content` is to be compared, and this batch is to wait for that.
    pub fn ask(&mut self, content: Content, ranges: impl IntoIterator<Item = IovaRange>) {
        self.dirty.entry(content).or_default().extend(ranges);
        self.asked.insert(content);
    }

    /// What is to be walked of `content`, and for which tables; `None` when there is nothing to do.
    pub fn survey(&mut self, content: Content) -> Option<(Survey, Vec<Update>)> {
        let dirty = self.dirty.remove(&content)?;
        if dirty.is_all() {
            self.lift_budget(content);
        }
        let ids = self.tables_of(content);
        let tables: Vec<&HostTable> = ids.iter().filter_map(|id| self.tables.get(id)).collect();
        let capabilities = tables.first()?.capabilities;
        let granules = tables.iter().map(|table| table.limits.granule());
        let dirty = rounded(&dirty, granules.max().unwrap_or(1));
        let whole = dirty.is_all();
        let updates = tables.iter().map(|table| Update::new(table, whole));
        let updates = updates.collect();
        let memory = self.memory.clone();
        let budget = &self.options.budget;
        let survey = Survey::new(content, capabilities, memory, budget, &dirty);
        Some((survey, updates))
    }

    /// What has to be done in a table so that it holds what was walked; `None` when it is no longer what it was.
    pub fn plan(&mut self, update: &Update, walked: &[Walked]) -> Option<Work> {
        let id = update.table;
        let can_cut = self.host.features().can_cut;
        let table = self.tables.get_mut(&id)?;
        if table.generation != update.generation {
            return None;
        }
        let copies = table.content.copied().is_some();
        self.host.count_only(Some(id), |stats| {
            stats.batches += 1;
            for walked in walked.iter().filter(|_| copies) {
                stats.add_walk(&walked.counts);
            }
        });
        if update.whole {
            table.leads_nowhere = false;
        }
        if table.trouble.is_some() {
            return None;
        }
        let reach = Reach {
            ram: &self.ram,
            devices: self.host.features().device_memory,
        };
        let mut parts: Vec<Part> = Vec::with_capacity(walked.len());
        for Walked { range, runs, .. } in walked {
            table.lacks.forget(*range);
            let wanted = wanted(table, *range, runs, reach);
            for (refused, error) in wanted.refused() {
                let what = "map what the guest maps";
                self.host.refused(what, Some(id), error);
                table.lacks.add(refused, error, self.host.now());
            }
            let dropped = wanted.dropped();
            table.leads_nowhere |= dropped.nothing_there != 0;
            self.host
                .count(Some(id), |stats| stats.add_dropped(&dropped));
            parts.push((*range, wanted.runs));
        }
        let joins = |_: &Run, next: &Run| self.ram.is_contiguous_at(next.gpa);
        let mut whole = Plan::default();
        for (range, wanted) in clusters(&table.ledger, parts, joins) {
            whole.append(plan(&table.ledger, range, &wanted, can_cut));
        }
        Some(Work::new(whole))
    }

    /// Blocks the domain of a table that was made to hold more than it may.
    pub fn check_budget(&mut self, update: &Update) {
        let Some(table) = self.tables.get(&update.table) else {
            return;
        };
        let (content, runs) = (table.content, table.ledger.len() as u64);
        let ledgers = self.tables.values().map(|table| table.ledger.len() as u64);
        let all_runs: u64 = ledgers.sum();
        if runs > self.options.budget.runs || all_runs > self.options.budget.all_runs {
            self.over_budget(content);
        }
    }

    /// Blocks a domain that costs too much. Its tables are emptied once nothing goes through them.
    pub fn over_budget(&mut self, content: Content) {
        self.host.stats.over_budget += 1;
        for id in self.tables_of(content) {
            self.host
                .count_only(Some(id), |stats| stats.over_budget += 1);
            if let Some(table) = self.tables.get_mut(&id) {
                table.trouble = Some(Trouble::OverBudget);
            }
        }
    }

    /// Empties `id`, of which nothing is known or too much is there; whether that worked.
    pub fn empty(&mut self, id: TableId) -> bool {
        let Some(table) = self.tables.get_mut(&id) else {
            return true;
        };
        let emptied = match table.content {
            Content::Nested(_) => self.host.invalidate(id, &[Flush::ALL]),
            _ => self.host.unmap_all(id),
        };
        if emptied.is_err() {
            return false;
        }
        table.generation += 1;
        table.ledger.clear();
        table.lacks.clear();
        true
    }
}

/// What `table` shall hold in `range`.
fn wanted(table: &HostTable, range: IovaRange, walked: &[GuestRun], reach: Reach<'_>) -> Wanted {
    match table.content {
        Content::Nothing | Content::Nested(_) => Wanted::default(),
        Content::Guest(_) | Content::Parent(_) => {
            Wanted::of_copy(&table.content, walked, &table.limits, reach)
        }
        Content::Identity => Wanted::identity(&table.limits, reach.ram).within(range),
    }
}

/// `ranges` in whole blocks of `granule` bytes, a power of two.
fn rounded(ranges: &RangeSet, granule: u64) -> RangeSet {
    let mask = granule - 1;
    let mut rounded = RangeSet::default();
    rounded.extend(ranges.iter().filter_map(|range| {
        IovaRange::new(Iova(range.start().0 & !mask), Iova(range.last().0 | mask))
    }));
    rounded
}
