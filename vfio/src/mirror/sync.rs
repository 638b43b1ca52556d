// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From ranges that may have changed to calls of the host: walk the guest's tables once for each domain, compare with each
//! host table that holds it, and carry the difference out.

use super::State;
use super::carry_out::Hands;
use super::cluster::{Part, clusters};
use super::content::Content;
use super::range_set::RangeSet;
use super::table::{HostTable, Trouble};
use super::wanted::Wanted;
use crate::backend::TableId;
use crate::diff::{Plan, plan};
use crate::nested::Flush;
use crate::ram::RamMap;
use crate::run::Run;
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::Capabilities;
use iommu::follow::GuestTables;
use iommu::walk::range::{Progress, Run as GuestRun, WalkBudget, WalkCounts};

/// Tables that a walk may read for each range before the budget counts: the way down.
const WAY_DOWN: u64 = 8;

/// What a domain's tables map in a range.
struct Walked {
    range: IovaRange,
    runs: Vec<GuestRun>,
    counts: WalkCounts,
}

/// The guest's tables cost more than they may.
struct OverBudget;

impl State {
    /// Makes every table that holds `content` hold in `dirty` what it shall.
    pub fn sync(&mut self, content: Content, dirty: &RangeSet) {
        let tables = self.tables_of(content);
        let Some(first) = tables.first().and_then(|id| self.tables.get(id)) else {
            return;
        };
        let capabilities = first.capabilities;
        let granule = tables
            .iter()
            .filter_map(|id| self.tables.get(id))
            .map(|table| table.limits.granule())
            .max()
            .unwrap_or(1);
        let dirty = rounded(dirty, granule);
        let walked = match content {
            Content::Guest(tables) => match self.walk(&tables, &capabilities, &dirty) {
                Ok(walked) => walked,
                Err(OverBudget) => return self.over_budget(content),
            },
            Content::Nothing | Content::Identity | Content::Nested(_) => {
                dirty.iter().map(Walked::nothing).collect()
            }
        };
        let leaves = walked.iter().map(|walked| walked.counts.leaves).sum();
        for id in tables {
            self.host.count_only(Some(id), |stats| {
                stats.batches += 1;
                if matches!(content, Content::Guest(_)) {
                    for walked in &walked {
                        stats.add_walk(&walked.counts);
                    }
                }
            });
            self.sync_table(id, &walked);
            if let Some(table) = self.tables.get_mut(&id)
                && dirty.is_all()
            {
                table.leaves = leaves;
            }
        }
    }

    /// What the guest's tables map in each range.
    fn walk(
        &mut self,
        tables: &GuestTables,
        capabilities: &Capabilities,
        dirty: &RangeSet,
    ) -> Result<Vec<Walked>, OverBudget> {
        let mut left = WalkBudget {
            tables: self.options.budget.tables + WAY_DOWN * dirty.len() as u64,
            runs: self.options.budget.runs,
        };
        let mut walked = Vec::with_capacity(dirty.len());
        for range in dirty.iter() {
            let mut runs = Vec::new();
            let Some(mut walk) = tables.walk(capabilities, &range) else {
                continue;
            };
            let progress = walk.advance(self.memory.as_ref(), capabilities, left, &mut runs);
            let counts = walk.counts();
            self.host.stats.add_walk(&counts);
            if let Progress::More(at) = progress {
                tracing::warn!(%at, ?tables, "a guest domain costs more than it may");
                return Err(OverBudget);
            }
            left.tables = left.tables.saturating_sub(counts.tables);
            left.runs = left.runs.saturating_sub(runs.len() as u64);
            walked.push(Walked {
                range,
                runs,
                counts,
            });
        }
        Ok(walked)
    }

    /// Makes one table hold what was walked.
    fn sync_table(&mut self, id: TableId, walked: &[Walked]) {
        let can_cut = self.host.features().can_cut;
        let Some(table) = self.tables.get_mut(&id) else {
            return;
        };
        if table.trouble.is_some() {
            return;
        }
        let mut parts: Vec<Part> = Vec::with_capacity(walked.len());
        for Walked { range, runs, .. } in walked {
            table.lacks.forget(*range);
            let wanted = wanted(table, *range, runs, &self.ram);
            for (refused, error) in wanted.refused() {
                let what = "map what the guest maps";
                self.host.refused(what, Some(id), error);
                table.lacks.add(refused, error, self.host.now());
            }
            let dropped = wanted.dropped();
            self.host
                .count(Some(id), |stats| stats.add_dropped(&dropped));
            parts.push((*range, wanted.runs));
        }
        let joins = |_: &Run, next: &Run| self.ram.is_contiguous_at(next.gpa);
        let mut whole = Plan::default();
        for (range, wanted) in clusters(&table.ledger, parts, joins) {
            whole.append(plan(&table.ledger, range, &wanted, can_cut));
        }
        let mut hands = Hands {
            host: &mut self.host,
            ram: &self.ram,
            compaction: self.options.compaction,
        };
        hands.carry_out(table, &whole);
        let (content, runs) = (table.content, table.ledger.len() as u64);
        let ledgers = self.tables.values().map(|table| table.ledger.len() as u64);
        let all_runs: u64 = ledgers.sum();
        if runs > self.options.budget.runs || all_runs > self.options.budget.all_runs {
            self.over_budget(content);
        }
    }

    /// Blocks a domain that costs too much. Its tables are emptied once nothing goes through them.
    fn over_budget(&mut self, content: Content) {
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
        table.ledger.clear();
        table.lacks.clear();
        true
    }
}

impl Walked {
    /// No tables were walked in `range`.
    fn nothing(range: IovaRange) -> Self {
        Self {
            range,
            runs: Vec::new(),
            counts: WalkCounts::default(),
        }
    }
}

/// What `table` shall hold in `range`.
fn wanted(table: &HostTable, range: IovaRange, walked: &[GuestRun], ram: &RamMap) -> Wanted {
    match table.content {
        Content::Nothing | Content::Nested(_) => Wanted::default(),
        Content::Guest(_) => Wanted::of(walked, &table.limits, ram),
        Content::Identity => Wanted::identity(&table.limits, ram).within(range),
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
