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

/// A plan, and how much of it is done.
#[derive(Debug)]
pub struct Work {
    plan: Plan,
    begun: bool,
    removed: usize,
    has_room: bool,
    mapped: usize,
    /// Why nothing more can be mapped.
    exhausted: Option<HostError>,
}

impl Work {
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            begun: false,
            removed: 0,
            has_room: false,
            mapped: 0,
            exhausted: None,
        }
    }

    /// The next range to be removed.
    fn removal(&self) -> Option<Removal> {
        self.plan.all_removals().nth(self.removed).copied()
    }

    /// The next run to be mapped.
    fn next(&self) -> Option<Run> {
        let Plan {
            restored, added, ..
        } = &self.plan;
        let run = restored.get(self.mapped);
        run.or_else(|| added.get(self.mapped.checked_sub(restored.len())?))
            .copied()
    }

    /// Mappings still to be made.
    const fn needed(&self) -> u64 {
        (self.plan.restored.len() + self.plan.added.len() - self.mapped) as u64
    }
}

impl Hands<'_> {
    /// Goes on with `work` in `table` for at most about `calls` calls of the host; whether it is over.
    pub fn carry_on(&mut self, table: &mut HostTable, work: &mut Work, calls: usize) -> bool {
        if !work.begun {
            work.begun = true;
            self.count_gaps(table, &work.plan);
        }
        let mut left = calls;
        while let Some(removal) = work.removal() {
            if left == 0 {
                return false;
            }
            left -= 1;
            work.removed += 1;
            if let Err(error) = self.remove(table, &removal) {
                self.quarantine(table, error);
                return true;
            }
        }
        if !work.has_room {
            work.has_room = true;
            self.make_room(table, work.needed());
        }
        while table.trouble.is_none()
            && let Some(run) = work.next()
        {
            if left == 0 {
                return false;
            }
            left -= 1;
            let result = match work.exhausted {
                // The others would be refused as well, each after much work of the host.
                Some(error) => Err(error),
                None => self.map(table, &run, work.needed()),
            };
            work.mapped += 1;
            if let Err(error) = result {
                table.lacks.add(run.iova, error, self.host.now());
                if matches!(error, HostError::EntryLimit | HostError::LockedMemory) {
                    work.exhausted = Some(error);
                }
            }
        }
        true
    }

    fn count_gaps(&mut self, table: &HostTable, plan: &Plan) {
        if plan.gaps + plan.rights_changes != 0 {
            tracing::debug!(
                table = table.id.0,
                gaps = plan.gaps,
                rights = plan.rights_changes,
                "mappings that stay are absent for a moment: the host cannot cut, or cannot change rights"
            );
        }
        self.host.count(Some(table.id), |stats| {
            stats.gaps += plan.gaps + plan.rights_changes;
            stats.rights_changes += plan.rights_changes;
        });
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
    use crate::backend::fake::{FakeBackend, FakeOptions};
    use crate::backend::{Backend, Role};
    use crate::mirror::content::Content;
    use crate::ram::{HostVa, RamRegion};
    use crate::run::Rights;
    use iommu::address::Iova;
    use iommu::capabilities::{Capabilities, LegacyOptions};
    use vm_memory::GuestAddress;

    #[test]
    fn table_is_out_of_use_when_the_host_maps_what_it_was_thought_to_have() {
        let mut backend = FakeBackend::new(FakeOptions::iommufd());
        let id = backend.create_table(Role::Plain).unwrap();
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
        assert!(hands.carry_on(&mut table, &mut Work::new(plan), 2));
        assert_eq!(backend.mappings(id).unwrap().len(), 1);
        assert_eq!(table.trouble, Some(Trouble::Unclean));
    }
}
