// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From what a host table holds to what it shall hold, in the fewest calls.
//!
//! Pure: a function of the ledger and the wanted runs. What is the same in both is never touched. Where the host can cut
//! mappings, that is all there is to it. Where it cannot, a mapping of which only a part stays has to go whole, and what
//! stays of it is absent until it is mapped again: a *gap*, which is counted.
//!
//! What goes, goes first: so a table is at no moment anything but a part of what was, or of what is to be; addresses that
//! change are not mapped twice; and entries are free before new ones are taken. A call that removes covers everything up to
//! the next mapping that stays.
//!
//! No host can change the rights of a mapping in place: an overlapping mapping is refused (EEXIST), and another table with the
//! rights changed cannot be attached without a gap either. So where only the rights change, and some right stays, there is a gap
//! too. What comes back goes last and comes first, so that the gap is as long as that takes and no longer.

use crate::ledger::Ledger;
use crate::run::{Run, around};
use iommu::address::IovaRange;

/// How a range is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// From the first byte removed to the last.
    pub range: IovaRange,
    /// A mapping sticks out and has to be cut.
    pub cuts: bool,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes for good, or for something else.
    pub removals: Vec<Removal>,
    /// What goes and comes back, at least in part.
    pub reopened: Vec<Removal>,
    /// What comes back: it went only because the host cannot cut, or cannot change rights.
    pub restored: Vec<Run>,
    /// What is new.
    pub added: Vec<Run>,
    /// Mappings that stay in part and are absent meanwhile.
    pub gaps: u64,
    /// Mappings that go on reaching the same memory with some right that they had, but are absent while the rights change.
    pub rights_changes: u64,
}

impl Plan {
    /// How many calls of the host it takes.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.all_removals().count() + self.restored.len() + self.added.len()
    }

    /// Everything that goes, in order.
    pub fn all_removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.iter().chain(&self.reopened)
    }

    /// Adds what has to be done elsewhere in the same table.
    pub fn append(&mut self, other: Self) {
        self.removals.extend(other.removals);
        self.reopened.extend(other.reopened);
        self.restored.extend(other.restored);
        self.added.extend(other.added);
        self.gaps += other.gaps;
        self.rights_changes += other.rights_changes;
    }

    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls() == 0
    }
}

/// What has to be done so that `ledger` holds `wanted` in `range` and what it held outside. `wanted` is ascending, without
/// overlaps and inside `range`; a run of it becomes one mapping.
#[must_use]
pub fn plan(ledger: &Ledger, range: IovaRange, wanted: &[Run], can_cut: bool) -> Plan {
    let held: Vec<Run> = ledger.overlapping(range).collect();
    let mut sweep = Sweep {
        ledger,
        can_cut,
        removing: None,
        returns: false,
        plan: Plan::default(),
    };
    let mut kept = Vec::new();
    let mut first = 0;
    for run in &held {
        let Some(inside) = run.clip(range) else {
            continue;
        };
        // Wanted runs that end before this one began are of no interest to later ones either.
        first += wanted[first..].partition_point(|run| run.iova.last() < inside.iova.start());
        let over = wanted[first..]
            .iter()
            .take_while(|run| run.iova.start() <= inside.iova.last())
            .filter_map(|run| run.clip(inside.iova));
        if can_cut {
            sweep.cut(&inside, over, &mut kept);
        } else {
            sweep.whole(run, &inside, over, &mut kept);
        }
    }
    sweep.close();
    let mut plan = sweep.plan;
    for run in wanted {
        add(&mut plan, run, &held, &kept);
    }
    if !can_cut {
        restore_ends(&mut plan, range, &held, &kept);
    }
    plan
}

/// The state of one pass over what a table holds.
struct Sweep<'a> {
    ledger: &'a Ledger,
    can_cut: bool,
    /// What goes since the last mapping that stays.
    removing: Option<IovaRange>,
    /// Some of that comes back.
    returns: bool,
    plan: Plan,
}

impl Sweep<'_> {
    /// What of `held` goes and stays where it can be cut; `over` is what is wanted there.
    fn cut(&mut self, held: &Run, over: impl Iterator<Item = Run>, kept: &mut Vec<Run>) {
        let mut left = Some(held.iova);
        for wanted in over {
            if !wanted.agrees_with(held) {
                let changes = keeps_a_right(held, &wanted);
                self.plan.rights_changes += u64::from(changes);
                self.returns |= changes;
                continue;
            }
            let Some(rest) = left else { break };
            let (gone, after) = around(rest, wanted.iova);
            if let Some(gone) = gone {
                self.remove(gone);
            }
            self.keep(wanted, kept);
            left = after;
        }
        if let Some(rest) = left {
            self.remove(rest);
        }
    }

    /// Whether `held`, of which `inside` lies in the range, stays; it goes or stays whole.
    fn whole(
        &mut self,
        held: &Run,
        inside: &Run,
        over: impl Iterator<Item = Run>,
        kept: &mut Vec<Run>,
    ) {
        let mut same = 0;
        let mut changes = 0;
        for wanted in over {
            if wanted.agrees_with(held) {
                same += wanted.len();
            } else {
                changes += u64::from(keeps_a_right(held, &wanted));
            }
        }
        if same == inside.len() {
            self.keep(*held, kept);
            return;
        }
        let outside = held.len() - inside.len();
        self.plan.gaps += u64::from(same + outside != 0);
        self.plan.rights_changes += changes;
        self.returns |= same + outside + changes != 0;
        self.remove(held.iova);
    }

    fn remove(&mut self, range: IovaRange) {
        let start = self.removing.map_or(range.start(), |open| open.start());
        self.removing = IovaRange::new(start, range.last());
    }

    fn keep(&mut self, run: Run, kept: &mut Vec<Run>) {
        self.close();
        kept.push(run);
    }

    /// Ends what goes before a mapping that stays.
    fn close(&mut self) {
        let Some(range) = self.removing.take() else {
            return;
        };
        let sticks_out = |run: Option<Run>| {
            run.is_some_and(|run| {
                run.iova.start() < range.start() || run.iova.last() > range.last()
            })
        };
        let cuts = self.can_cut
            && (sticks_out(self.ledger.get(range.start()))
                || sticks_out(self.ledger.get(range.last())));
        let returns = std::mem::take(&mut self.returns);
        let list = if returns {
            &mut self.plan.reopened
        } else {
            &mut self.plan.removals
        };
        list.push(Removal { range, cuts });
    }
}

/// Whether addresses that are mapped anew reach the same memory as before with some right that they had.
fn keeps_a_right(held: &Run, wanted: &Run) -> bool {
    held.reaches_as(wanted) && held.rights != wanted.rights && held.rights.share(wanted.rights)
}

/// The members of ascending `runs` that share an address with `range`.
fn overlapping(runs: &[Run], range: IovaRange) -> impl Iterator<Item = &Run> {
    let first = runs.partition_point(|run| run.iova.last() < range.start());
    runs[first..]
        .iter()
        .take_while(move |run| run.iova.start() <= range.last())
}

/// Adds the parts of `wanted` that are not kept. A part that holds something which was there with some of its rights comes
/// back before what is new.
fn add(plan: &mut Plan, wanted: &Run, held: &[Run], kept: &[Run]) {
    let mut left = Some(wanted.iova);
    let mut put = |part: IovaRange| {
        let Some(run) = wanted.clip(part) else {
            return;
        };
        let was_there = |held: &Run| held.agrees_with(&run) || keeps_a_right(held, &run);
        if overlapping(held, part).any(was_there) {
            plan.restored.push(run);
        } else {
            plan.added.push(run);
        }
    };
    for stays in overlapping(kept, wanted.iova) {
        let Some(rest) = left else { break };
        let (missing, after) = around(rest, stays.iova);
        if let Some(part) = missing {
            put(part);
        }
        left = after;
    }
    if let Some(rest) = left {
        put(rest);
    }
}

/// Puts back what lies outside `range` of mappings that went, as one with what comes back of the same mapping inside.
fn restore_ends(plan: &mut Plan, range: IovaRange, held: &[Run], kept: &[Run]) {
    let went = |run: &&Run| overlapping(kept, run.iova).next().is_none();
    let first = held.first().filter(went);
    let last = held.last().filter(went);
    let before = first.and_then(|run| run.clip(around(run.iova, range).0?));
    let after = last.and_then(|run| run.clip(around(run.iova, range).1?));
    if let Some(before) = before {
        match plan.restored.first_mut() {
            Some(next) if before.continues_in(next) => *next = before.joined(next),
            _ => plan.restored.insert(0, before),
        }
    }
    if let Some(after) = after {
        match plan.restored.last_mut() {
            Some(previous) if previous.continues_in(&after) => *previous = previous.joined(&after),
            _ => plan.restored.push(after),
        }
    }
}

/// Adjacent mappings to be replaced by one, which frees entries at the price of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// All of them as one run.
    pub run: Run,
    /// How many they are now, at least 2.
    pub mappings: u64,
}

/// Mappings of `ledger` to be compacted so that at least `needed` entries become free, or as many as can be: the longest
/// rows first, since each costs one gap. `joins` tells whether two runs that continue each other may be one mapping.
#[must_use]
pub fn compact(
    ledger: &Ledger,
    needed: u64,
    joins: impl Fn(&Run, &Run) -> bool,
) -> Vec<Compaction> {
    let mut rows: Vec<Compaction> = Vec::new();
    let mut last: Option<Run> = None;
    for run in ledger.iter() {
        let joined = last.is_some_and(|last| last.continues_in(&run) && joins(&last, &run));
        last = Some(run);
        if joined && let Some(row) = rows.last_mut() {
            row.run = row.run.joined(&run);
            row.mappings += 1;
        } else {
            rows.push(Compaction { run, mappings: 1 });
        }
    }
    rows.retain(|row| row.mappings > 1);
    rows.sort_by_key(|row| std::cmp::Reverse(row.mappings));
    let mut freed = 0;
    let enough = rows
        .iter()
        .take_while(|row| {
            let more = freed < needed;
            freed += row.mappings - 1;
            more
        })
        .count();
    rows.truncate(enough);
    rows
}

#[cfg(test)]
mod tests;
