// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A plan becomes calls of the host; what the host confirms, and nothing else, goes into the ledger.
//!
//! A range that cannot be mapped is lacking and tried again later. Where something cannot be removed, the guest may already
//! use that memory for something else: the table is out of use until it could be emptied.

use super::host::Host;
use super::table::{HostTable, Trouble};
use crate::backend::HostError;
use crate::diff::{Plan, Removal, compact};
use crate::ram::RamMap;
use crate::run::Run;
use iommu::address::IovaRange;

/// What it takes to carry out plans.
#[derive(Debug)]
pub struct Hands<'a> {
    pub host: &'a mut Host,
    pub ram: &'a RamMap,
    /// Mappings may be compacted when they run out.
    pub compaction: bool,
}

impl Hands<'_> {
    /// Does what `plan` says to `table`, as far as the host lets it.
    pub fn carry_out(&mut self, table: &mut HostTable, plan: &Plan) {
        if plan.gaps != 0 {
            tracing::debug!(
                table = table.id.0,
                gaps = plan.gaps,
                "mappings that stay are absent for a moment: the host cannot cut"
            );
        }
        self.host.count(Some(table.id), |stats| {
            stats.gaps += plan.gaps;
            stats.rights_changes += plan.rights_changes;
        });
        for removal in &plan.removals {
            if let Err(error) = self.remove(table, removal) {
                self.quarantine(table, error);
                return;
            }
        }
        let mut needed = (plan.restored.len() + plan.added.len()) as u64;
        self.make_room(table, needed);
        if table.trouble.is_some() {
            return;
        }
        let mut exhausted = None;
        for run in plan.restored.iter().chain(&plan.added) {
            let result = match exhausted {
                // The others would be refused as well, each after much work of the host.
                Some(error) => Err(error),
                None => self.map(table, run, needed),
            };
            needed -= 1;
            if let Err(error) = result {
                table.lacks.add(run.iova, error, self.host.now());
                if matches!(error, HostError::EntryLimit | HostError::LockedMemory) {
                    exhausted = Some(error);
                }
            }
            if table.trouble.is_some() {
                return;
            }
        }
    }

    fn remove(&mut self, table: &mut HostTable, removal: &Removal) -> Result<(), HostError> {
        let range = removal.range;
        let there = table.ledger.bytes_in(range);
        let removed = if removal.cuts {
            self.host.cut_out(table.id, range)?
        } else {
            self.host.unmap(table.id, range)?
        };
        if removed != there {
            return Err(HostError::Mismatch);
        }
        table.ledger.remove(range);
        Ok(())
    }

    /// Puts a table out of use whose content is not known.
    fn quarantine(&mut self, table: &mut HostTable, error: HostError) {
        self.host
            .count(Some(table.id), |stats| stats.quarantines += 1);
        table.trouble = Some(Trouble::Unclean);
        table.lacks.add(IovaRange::ALL, error, self.host.now());
    }

    /// Maps a run, one of `needed`.
    fn map(&mut self, table: &mut HostTable, run: &Run, needed: u64) -> Result<(), HostError> {
        match self.try_map(table, run) {
            Err(HostError::Overlap) => {
                // The ledger is wrong about this range: what is there goes.
                tracing::error!(range = ?run.iova, "the host has a mapping that it was not given");
                let removed = if self.host.features().can_cut {
                    self.host.cut_out(table.id, run.iova)
                } else {
                    self.host.unmap(table.id, run.iova)
                };
                match removed {
                    Ok(_) => self.try_map(table, run),
                    Err(error) => {
                        self.quarantine(table, error);
                        Err(error)
                    }
                }
            }
            Err(HostError::EntryLimit) if self.compaction => {
                // Others use entries of this table too: read anew what is left.
                self.read_limit(table);
                self.make_room(table, needed);
                if table.entries_left() == Some(0) {
                    return Err(HostError::EntryLimit);
                }
                self.try_map(table, run)
            }
            result => result,
        }
    }

    fn try_map(&mut self, table: &mut HostTable, run: &Run) -> Result<(), HostError> {
        let piece = self.ram.piece(run.gpa, run.len());
        let host = piece.host.filter(|_| piece.len == run.len());
        let host = host.ok_or(HostError::Unpinnable)?;
        self.host.map(table.id, run, host)?;
        if table.ledger.insert(run).is_err() {
            // The host took what the ledger says is there already: one of the two is wrong about more than this run.
            self.quarantine(table, HostError::Mismatch);
            return Err(HostError::Mismatch);
        }
        Ok(())
    }

    /// Reads how many mappings `table` can hold.
    pub fn read_limit(&mut self, table: &mut HostTable) {
        let used = table.ledger.len() as u64;
        let left = self.host.entries_left(table.id);
        table.entry_limit = left.map(|left| left + used);
    }

    /// Sees that `needed` more mappings fit, if adjacent ones can be replaced by one.
    fn make_room(&mut self, table: &mut HostTable, needed: u64) {
        let Some(left) = table.entries_left() else {
            return;
        };
        if left >= needed || !self.compaction {
            return;
        }
        let joins = |_: &Run, next: &Run| self.ram.is_contiguous_at(next.gpa);
        for row in compact(&table.ledger, needed - left, joins) {
            self.host.count(Some(table.id), |stats| {
                stats.compactions += 1;
                stats.gaps += row.mappings;
            });
            let removal = Removal {
                range: row.run.iova,
                cuts: false,
            };
            if let Err(error) = self.remove(table, &removal) {
                self.quarantine(table, error);
                return;
            }
            if let Err(error) = self.try_map(table, &row.run) {
                table.lacks.add(row.run.iova, error, self.host.now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::fake::{FakeBackend, FakeOptions};
    use crate::mirror::content::Content;
    use crate::ram::{HostVa, RamRegion};
    use crate::run::Rights;
    use iommu::address::Iova;
    use iommu::capabilities::{Capabilities, LegacyOptions};
    use vm_memory::GuestAddress;

    #[test]
    fn table_is_out_of_use_when_the_host_maps_what_it_was_thought_to_have() {
        let mut backend = FakeBackend::new(FakeOptions::iommufd());
        let id = backend.create_table().unwrap();
        let limits = backend.limits(id).unwrap();
        let capabilities = Capabilities::legacy(&LegacyOptions::default()).unwrap();
        let mut table = HostTable::new(id, Content::Nothing, capabilities, limits, true);
        let run = Run {
            iova: IovaRange::from_len(Iova(0), 0x1000).unwrap(),
            gpa: GuestAddress(0x5000),
            rights: Rights::ReadWrite,
        };
        table.ledger.insert(&run).unwrap();
        let region = RamRegion {
            gpa: GuestAddress(0),
            len: 0x10_0000,
            host: HostVa(0x7000_0000_0000),
        };
        let mut hands = Hands {
            host: &mut Host::new(Box::new(backend.clone())),
            ram: &RamMap::new(vec![region]).unwrap(),
            compaction: false,
        };
        let plan = Plan {
            added: vec![run],
            ..Plan::default()
        };
        hands.carry_out(&mut table, &plan);
        assert_eq!(backend.mappings(id).unwrap().len(), 1);
        assert_eq!(table.trouble, Some(Trouble::Unclean));
    }
}
