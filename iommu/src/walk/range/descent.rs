// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One slice of a walk: down through the tables, entry by entry, until the range or the budget ends.

use super::format::Entry;
use super::{Progress, RangeWalk, Run, WalkBudget};
use crate::address::{Gpa, Iova, IovaRange};
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::request::Perms;
use crate::translate::INTERRUPT_RANGE;
use crate::translate::rights::is_in_interrupt_range;
use crate::walk::{LEVEL_BITS, PageRights, shift_of};
use std::ops::RangeInclusive;
use vm_memory::GuestAddress;

/// Entries of a table.
const ENTRIES: usize = 1 << LEVEL_BITS;

/// Bytes of an entry.
const ENTRY_BYTES: usize = size_of::<u64>();

/// The part of a table that the range needs, as it was read.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The index of the first word.
    first: usize,
    words: Vec<u64>,
}

impl Table {
    /// From the entry at `index` on.
    fn from(&self, index: usize) -> &[u64] {
        &self.words[index - self.first..]
    }
}

/// The budget is used up.
struct Exhausted;

/// One slice.
pub(super) struct Descent<'a, M: ?Sized> {
    walk: &'a mut RangeWalk,
    memory: &'a M,
    capabilities: &'a Capabilities,
    budget: WalkBudget,
    runs: &'a mut Vec<Run>,
    /// The next address.
    at: u64,
    /// The last address of the part that is walked now.
    last: u64,
    /// The part is done.
    ended: bool,
    /// An entry was passed in this slice.
    advanced: bool,
}

impl<'a, M: PhysMem + ?Sized> Descent<'a, M> {
    pub(super) fn new(
        walk: &'a mut RangeWalk,
        memory: &'a M,
        capabilities: &'a Capabilities,
        budget: WalkBudget,
        runs: &'a mut Vec<Run>,
    ) -> Self {
        Self {
            walk,
            memory,
            capabilities,
            budget: WalkBudget {
                runs: budget.runs.max(1),
                ..budget
            },
            runs,
            at: 0,
            last: 0,
            ended: false,
            advanced: false,
        }
    }

    pub(super) fn run(mut self) -> Progress {
        let (gpa, level) = self.walk.format.top();
        // All parts share it.
        let mut top = None;
        while let Some(part) = self.walk.left.last() {
            (self.at, self.last) = (part.start().0, part.last().0);
            self.ended = false;
            let done = match self.load_once(gpa, level, &mut top) {
                Ok(Some(table)) => self.entries(table, level, PageRights::ALL),
                Ok(None) => {
                    self.unreadable(level);
                    Ok(())
                }
                Err(exhausted) => Err(exhausted),
            };
            if done.is_err() {
                self.walk.pool.extend(top);
                return self.pause();
            }
            self.walk.left.pop();
        }
        self.walk.pool.extend(top);
        if let Some(run) = self.walk.open {
            if self.report(run).is_err() {
                return Progress::More(run.iova);
            }
            self.walk.open = None;
        }
        Progress::Done
    }

    /// Notes where the next slice begins.
    fn pause(self) -> Progress {
        let walk = self.walk;
        let next = Iova(self.at);
        if let (Some(part), Some(rest)) =
            (walk.left.last_mut(), IovaRange::new(next, Iova(self.last)))
        {
            *part = rest;
        }
        Progress::More(walk.open.map_or(next, |run| run.iova))
    }

    /// Walks the table at `gpa` from the next address on.
    fn table(&mut self, gpa: Gpa, level: u32, above: PageRights) -> Result<(), Exhausted> {
        let Some(table) = self.load(gpa, self.needed(level))? else {
            self.unreadable(level);
            return Ok(());
        };
        let outcome = self.entries(&table, level, above);
        self.walk.pool.push(table);
        outcome
    }

    /// The indices of a table of `level`, from the next address on, that the part needs.
    fn needed(&self, level: u32) -> RangeInclusive<usize> {
        let table_last = self.at | (span(level + 1) - 1);
        index(self.at, level)..=index(self.last.min(table_last), level)
    }

    /// Reads the entries `needed` of the table at `gpa`; `None` when it is no memory.
    fn load(
        &mut self,
        gpa: Gpa,
        needed: RangeInclusive<usize>,
    ) -> Result<Option<Table>, Exhausted> {
        if self.budget.tables == 0 && self.advanced {
            return Err(Exhausted);
        }
        self.budget.tables = self.budget.tables.saturating_sub(1);
        let mut table = self.walk.pool.pop().unwrap_or_default();
        table.first = *needed.start();
        table.words.resize(needed.count(), 0);
        let start = GuestAddress(gpa.0 | (table.first * ENTRY_BYTES) as u64);
        if self.memory.load_words(start, &mut table.words).is_ok() {
            self.walk.counts.tables += 1;
            return Ok(Some(table));
        }
        self.walk.pool.push(table);
        Ok(None)
    }

    /// [`Self::load`] of the top table, unless it is loaded already.
    fn load_once<'w>(
        &mut self,
        gpa: Gpa,
        level: u32,
        top: &'w mut Option<Table>,
    ) -> Result<Option<&'w Table>, Exhausted> {
        if top.is_none() {
            let is_only_part = self.walk.left.len() == 1;
            let needed = if is_only_part {
                self.needed(level)
            } else {
                0..=ENTRIES - 1
            };
            *top = self.load(gpa, needed)?;
        }
        Ok(top.as_ref())
    }

    /// Passes over a table of `level` that is no memory.
    fn unreadable(&mut self, level: u32) {
        self.walk.counts.skips.unreadable += 1;
        tracing::trace!(
            iova = self.at,
            level,
            "walk: skip a table that is no memory"
        );
        self.pass(self.at | (span(level + 1) - 1));
    }

    fn entries(&mut self, table: &Table, level: u32, above: PageRights) -> Result<(), Exhausted> {
        let table_last = self.at | (span(level + 1) - 1);
        while !self.ended && self.at <= table_last {
            let words = table.from(index(self.at, level));
            let end = self.at | (span(level) - 1);
            let judged = (self.walk.format).judge(self.capabilities, words[0], level, above);
            match judged {
                Entry::NotPresent => self.absent(words, end, level),
                Entry::Reserved => {
                    self.walk.counts.skips.reserved += 1;
                    tracing::trace!(iova = self.at, level, "walk: skip reserved bits");
                    self.pass(end);
                }
                Entry::Table(table, rights) if self.walk.perms(rights).is_some() => {
                    self.table(table, level - 1, rights)?;
                }
                Entry::Leaf(page) => match self.walk.perms(page.rights()) {
                    Some(_) if is_in_interrupt_range(page) => {
                        self.walk.counts.skips.interrupt_range += 1;
                        tracing::trace!(iova = self.at, level, "walk: skip the interrupt range");
                        self.pass(end);
                    }
                    Some(perms) => self.leaves(words, page.gpa(), level, perms)?,
                    None => self.forbidden(end, level),
                },
                Entry::Table(..) => self.forbidden(end, level),
            }
        }
        Ok(())
    }

    fn forbidden(&mut self, end: u64, level: u32) {
        self.walk.counts.skips.no_permission += 1;
        tracing::trace!(iova = self.at, level, "walk: skip without permission");
        self.pass(end);
    }

    /// Passes over the first of `words`, which is not present and ends at `end`, and those after it that are not either.
    fn absent(&mut self, words: &[u64], end: u64, level: u32) {
        let present = self.walk.format.present_bits();
        let beyond = self.last.saturating_sub(end);
        let more = (beyond >> shift_of(level)) + u64::from(beyond & (span(level) - 1) != 0);
        let more = words[1..]
            .iter()
            .take(usize::try_from(more).unwrap_or(ENTRIES))
            .take_while(|word| **word & present == 0)
            .count() as u64;
        self.walk.counts.skips.not_present += more + 1;
        tracing::trace!(
            iova = self.at,
            level,
            entries = more + 1,
            "walk: skip not present"
        );
        self.pass(end.saturating_add(more * span(level)));
    }

    /// Takes the first of `words`, which maps the page at `gpa`, and those after it that differ in the page's number only,
    /// each by one page.
    fn leaves(
        &mut self,
        words: &[u64],
        gpa: Gpa,
        level: u32,
        perms: Perms,
    ) -> Result<(), Exhausted> {
        let step = span(level);
        let end = self.at | (step - 1);
        let inside = self.at & (step - 1);
        let more = self.continued(words, gpa, end, level);
        let last = end.saturating_add(more * step).min(self.last);
        let (gpa, len) = (gpa.0 | inside, last - self.at + 1);
        match &mut self.walk.open {
            Some(run) if run.precedes(self.at, gpa, perms) => run.len += len,
            open => {
                let run = Run {
                    iova: Iova(self.at),
                    gpa: GuestAddress(gpa),
                    len,
                    perms,
                };
                if let Some(before) = open.replace(run)
                    && self.report(before).is_err()
                {
                    self.walk.open = Some(before);
                    return Err(Exhausted);
                }
            }
        }
        let counts = &mut self.walk.counts;
        counts.leaves += more + 1;
        let shift = shift_of(level);
        counts.smallest_leaf = Some(counts.smallest_leaf.map_or(shift, |least| least.min(shift)));
        self.pass(last);
        Ok(())
    }

    /// How many entries after the first of `words`, whose page begins at `gpa` and which ends at `end`, map the pages behind
    /// it in the same way: wholly in the range, and neither in the interrupt range nor beyond what an address can be.
    fn continued(&self, words: &[u64], gpa: Gpa, end: u64, level: u32) -> u64 {
        let (shift, step) = (shift_of(level), span(level));
        let mask = !self.walk.format.status_bits();
        // Behind the last page that an address can name nothing follows, which `room` says.
        let first = (words[0] & mask).wrapping_add(step);
        if words.get(1).is_none_or(|word| word & mask != first) {
            return 0;
        }
        let limit = if gpa.0 < INTERRUPT_RANGE.0 {
            INTERRUPT_RANGE.0
        } else {
            1 << self.capabilities.host_address_width()
        };
        let room = ((limit - gpa.0) >> shift) - 1;
        let room = room.min(self.last.saturating_sub(end) >> shift);
        let room = usize::try_from(room)
            .unwrap_or(ENTRIES)
            .min(words.len() - 1);
        ascending(&words[1..=room], first, step, mask) as u64
    }

    /// Goes on behind the address `end`.
    fn pass(&mut self, end: u64) {
        self.advanced = true;
        match end.checked_add(1) {
            Some(next) if end < self.last => self.at = next,
            _ => self.ended = true,
        }
    }

    fn report(&mut self, run: Run) -> Result<(), Exhausted> {
        if self.budget.runs == 0 {
            return Err(Exhausted);
        }
        self.budget.runs -= 1;
        self.runs.push(run);
        Ok(())
    }
}

/// How many of `words` ascend by `step` from `first` on, leaving out the bits that `mask` lacks.
fn ascending(words: &[u64], first: u64, step: u64, mask: u64) -> usize {
    /// Words that are compared at a time, which costs as much as two or three of them one by one.
    const BLOCK: usize = 16;
    let mut expected = first;
    let mut blocks = 0;
    for block in words.chunks_exact(BLOCK) {
        let mut differ = 0;
        for word in block {
            differ |= (word & mask) ^ expected;
            expected = expected.wrapping_add(step);
        }
        if differ != 0 {
            break;
        }
        blocks += 1;
    }
    let whole = blocks * BLOCK;
    let mut expected = first.wrapping_add(step.wrapping_mul(whole as u64));
    let rest = words[whole..].iter().take_while(|word| {
        let same = **word & mask == expected;
        expected = expected.wrapping_add(step);
        same
    });
    whole + rest.count()
}

/// The index of the entry for `address` in a table of `level`.
fn index(address: u64, level: u32) -> usize {
    usize::try_from(address >> shift_of(level)).unwrap_or(0) % ENTRIES
}

/// Bytes that an entry of `level` maps.
const fn span(level: u32) -> u64 {
    1 << shift_of(level)
}
