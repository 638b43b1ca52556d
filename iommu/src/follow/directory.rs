// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of a device's PASID directory: every PASID that is present, in ascending order.
//!
//! Tables are read whole, and where the directory names none, 64 PASIDs are passed over at once: the work grows with the
//! tables that are there. A directory can name one table again and again, so that there are budgets.

use super::PasidBudget;
use super::guest::{Guest, Seen};
use crate::ids::Pasid;
use crate::spec::pasid_directory::{ENTRY_SIZE, PasidDirectoryEntry, TABLE_BITS};
use crate::spec::pasid_entry::{ENTRY_WORDS, PasidEntryLow};
use crate::translate::pasid;
use crate::translate::scalable::ScalableContext;
use vm_memory::GuestAddress;

/// 64-bit words of a page.
const PAGE_WORDS: usize = 512;

/// What a walk read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PasidWalkCounts {
    /// Pages of directories.
    pub directory_pages: u64,
    /// PASID tables, of one page each.
    pub tables: u64,
    /// Directories' entries that name no table, or one that is no memory: each passes over 64 PASIDs.
    pub skipped: u64,
    /// Present entries that are not valid.
    pub invalid: u64,
    /// Walks that a budget ended.
    pub over_budget: u64,
}

/// What is present.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// In ascending order.
    pub(super) present: Vec<(Pasid, Seen)>,
    /// The first PASID that was not looked at, because a budget was used up.
    pub(super) beyond: Option<Pasid>,
}

/// A walk under way.
struct Walk<'a> {
    guest: &'a Guest<'a>,
    context: &'a ScalableContext,
    budget: PasidBudget,
    counts: &'a mut PasidWalkCounts,
    scan: Scan,
}

/// The PASIDs of 0 to 2^`bits` - 1 that requests can have.
pub(super) fn pasid_bits(
    guest: &Guest<'_>,
    context: &ScalableContext,
    budget: &PasidBudget,
) -> u32 {
    if context.pasid {
        let offered = guest.capabilities.pasid_bits();
        context.pasid_bits.min(offered).min(budget.bits)
    } else {
        0
    }
}

/// Walks the directory of `context`, leaving out RID_PASID. `known` tells what a PASID was seen as last: an entry that says
/// something else is read again until it holds still.
pub(super) fn walk(
    guest: &Guest<'_>,
    context: &ScalableContext,
    budget: PasidBudget,
    counts: &mut PasidWalkCounts,
    known: impl Fn(Pasid) -> Option<Seen>,
) -> Scan {
    let bits = pasid_bits(guest, context, &budget);
    if bits == 0 {
        return Scan::default();
    }
    let mut walk = Walk {
        guest,
        context,
        budget,
        counts,
        scan: Scan::default(),
    };
    let entries = 1usize << bits.saturating_sub(TABLE_BITS);
    let mut page = [0; PAGE_WORDS];
    for first in (0..entries).step_by(PAGE_WORDS) {
        let page = &mut page[..PAGE_WORDS.min(entries - first)];
        let address = context.directory.0 + first as u64 * ENTRY_SIZE;
        walk.counts.directory_pages += 1;
        if guest
            .memory
            .load_words(GuestAddress(address), page)
            .is_err()
        {
            walk.counts.skipped += page.len() as u64;
            continue;
        }
        for (index, word) in (first..).zip(&*page) {
            let Ok(pasids) = u32::try_from(index << TABLE_BITS) else {
                return walk.scan;
            };
            let pasids = pasids..(pasids + (1 << TABLE_BITS)).min(1 << bits);
            walk.table(PasidDirectoryEntry::from_bits(*word), pasids, &known);
            if walk.scan.beyond.is_some() {
                walk.counts.over_budget += 1;
                return walk.scan;
            }
        }
    }
    walk.scan
}

impl Walk<'_> {
    /// Looks at `pasids` in the table that `entry` names.
    fn table(
        &mut self,
        entry: PasidDirectoryEntry,
        pasids: std::ops::Range<u32>,
        known: &impl Fn(Pasid) -> Option<Seen>,
    ) {
        let guest = self.guest;
        let checked = pasid::check_directory(guest.capabilities, self.context, entry);
        let Ok(directory) = checked else {
            self.counts.skipped += 1;
            return;
        };
        if self.budget.tables == 0 {
            self.scan.beyond = Pasid::new(pasids.start);
            return;
        }
        self.budget.tables -= 1;
        let mut words = [0; PAGE_WORDS];
        if guest
            .memory
            .load_words(directory.table(), &mut words)
            .is_err()
        {
            self.counts.skipped += 1;
            return;
        }
        self.counts.tables += 1;
        let (entries, _) = words.as_chunks::<ENTRY_WORDS>();
        for (number, words) in pasids.zip(entries) {
            let Some(pasid) = Pasid::new(number).filter(|pasid| *pasid != self.context.rid_pasid)
            else {
                continue;
            };
            if !PasidEntryLow::from_bits(words[0]).present() {
                continue;
            }
            let Some(seen) = self.entry(directory, pasid, *words, known(pasid)) else {
                self.counts.invalid += 1;
                continue;
            };
            if self.scan.present.len() as u64 >= u64::from(self.budget.bindings) {
                self.scan.beyond = Some(pasid);
                return;
            }
            self.scan.present.push((pasid, seen));
        }
    }

    /// What the entry of `pasid` says, which was read as `words`. Reading a table whole does not catch an entry that is
    /// being changed at one moment.
    fn entry(
        &self,
        directory: PasidDirectoryEntry,
        pasid: Pasid,
        words: [u64; ENTRY_WORDS],
        known: Option<Seen>,
    ) -> Option<Seen> {
        let (guest, context) = (self.guest, self.context);
        let capabilities = guest.capabilities;
        let decoded = pasid::decode(capabilities, context, directory, pasid, words);
        let seen = decoded.ok().map(|binding| guest.seen(&binding, false));
        if seen.is_some() && seen == known {
            return seen;
        }
        let again = pasid::read_entry(guest.memory, capabilities, context, directory, pasid);
        Some(guest.seen(&again.ok()?, false))
    }
}
