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
            if let Some(beyond) = walk.scan.beyond {
                tracing::trace!(pasid = beyond.get(), "PASID walk: budget used up");
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
                tracing::trace!(pasid = number, "PASID walk: skip what is not valid");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Gpa;
    use crate::capabilities::{Capabilities, PasidBits, ScalableOptions};
    use crate::follow::Attachment;
    use crate::memory::{MemoryError, PhysMem};
    use crate::testing::FakeMem;

    /// Memory in which an entry changes while its table is read whole: the first word is of another moment.
    #[derive(Debug)]
    struct Torn(FakeMem);

    impl PhysMem for Torn {
        fn read(&self, gpa: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
            self.0.read(gpa, buf)
        }

        fn write(&self, gpa: Gpa, buf: &[u8]) -> Result<(), MemoryError> {
            self.0.write(gpa, buf)
        }

        fn load_u64(&self, gpa: Gpa) -> Result<u64, MemoryError> {
            self.0.load_u64(gpa)
        }

        fn load_words(&self, gpa: Gpa, words: &mut [u64]) -> Result<(), MemoryError> {
            self.0.load_words(gpa, words)?;
            if gpa.0 == 0x3000 {
                words[8] = 0x7_7089;
            }
            Ok(())
        }

        fn store_u32(&self, gpa: Gpa, value: u32) -> Result<(), MemoryError> {
            self.0.store_u32(gpa, value)
        }

        fn compare_exchange_u64(
            &self,
            gpa: Gpa,
            current: u64,
            new: u64,
        ) -> Result<Result<u64, u64>, MemoryError> {
            self.0.compare_exchange_u64(gpa, current, new)
        }
    }

    #[test]
    fn entry_that_changes_while_its_table_is_read_is_read_again() {
        let options = ScalableOptions {
            pasid: Some(PasidBits::MAX),
            ..ScalableOptions::default()
        };
        let capabilities = Capabilities::scalable(&options).unwrap();
        let memory = Torn(FakeMem::new(0x10000));
        memory.0.set(0x2000, 0x3001);
        memory.0.set(0x3040, 0x5089);
        memory.0.set(0x3048, 5);
        let guest = Guest {
            memory: &memory,
            capabilities: &capabilities,
            root: None,
        };
        let context = ScalableContext {
            directory: GuestAddress(0x2000),
            pasid_bits: 13,
            fault_processing_disabled: false,
            device_tlb: false,
            pasid: true,
            page_requests: false,
            rid_pasid: Pasid::new(0).unwrap(),
            rid_privilege: false,
        };
        let budget = PasidBudget {
            bits: 20,
            bindings: 10,
            tables: 10,
        };
        let mut counts = PasidWalkCounts::default();
        let scan = walk(&guest, &context, budget, &mut counts, |_| None);
        let [(pasid, seen)] = scan.present[..] else {
            panic!("{scan:?}");
        };
        assert_eq!(Pasid::new(1), Some(pasid));
        assert!(matches!(seen.to, Attachment::Domain(domain)
                if matches!(domain.tables.stages, crate::translate::paging::Stages::Second(stage)
                    if stage.table.0 == 0x5000)));
    }
}
