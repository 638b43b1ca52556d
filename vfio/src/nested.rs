// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest's first-stage table that the host walks itself, on top of another host table: what a nested HWPT is made of (`struct
//! iommu_hwpt_vtd_s1`), and what is said to it of the guest's invalidations.

use iommu::address::{Gpa, IovaRange};
use iommu::follow::GuestTables;
use iommu::translate::paging::Stages;

/// A first-stage table and how the host is to read it. Equal values share one host table, whichever devices and PASIDs go
/// through it and by whatever domain ids the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NestedTable {
    /// The table of the highest level, 4 KiB aligned, at an address of what it stands on: guest-physical, or input of the
    /// guest's second stage. Nothing need be there: then the host's hardware faults.
    pub table: Gpa,
    /// Width in bits of the addresses that go in: 48 or 57.
    pub width: u32,
    /// Requests with supervisor privilege are allowed (SRE).
    pub supervisor: bool,
    /// Those need the right to write (WPE). False where none are allowed.
    pub write_protect: bool,
    /// Entries have an extended accessed bit (EAFE).
    pub extended_accessed: bool,
    /// What the hardware cannot translate is asked for by page requests, which reach the guest.
    pub page_requests: bool,
}

impl NestedTable {
    /// What serves the first stage of `tables`; `None` where there is none, or where the host's kernel cannot be told what they
    /// say: the right to execute (ERE, NXE), supervisors kept from users' pages (SMEP), supervisor privilege without PASID
    /// (RID_PRIV).
    #[must_use]
    pub const fn of(tables: &GuestTables, page_requests: bool) -> Option<Self> {
        let (Stages::First(first) | Stages::Nested(first, _)) = tables.stages else {
            return None;
        };
        let rules = tables.rules;
        let keeps_from = rules.supervisor() && rules.smep();
        if first.no_execute || rules.execute() || keeps_from || tables.privileged {
            return None;
        }
        Some(Self {
            table: first.table,
            width: tables.width,
            supervisor: rules.supervisor(),
            write_protect: rules.supervisor() && rules.write_protect(),
            extended_accessed: first.extended_accessed,
            page_requests,
        })
    }
}

/// Translations of a nested table that the host is to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flush {
    /// The addresses; everything is [`IovaRange::ALL`].
    pub range: IovaRange,
    /// Only leaf entries changed.
    pub leaf_only: bool,
}

impl Flush {
    /// Everything.
    pub const ALL: Self = Self {
        range: IovaRange::ALL,
        leaf_only: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::translate::rights::Rules;
    use iommu::walk::first_stage::FirstStage;
    use vm_memory::GuestAddress;

    fn tables(rules: Rules, no_execute: bool, privileged: bool) -> GuestTables {
        GuestTables {
            stages: Stages::First(FirstStage {
                table: GuestAddress(0x5000),
                levels: 4,
                no_execute,
                extended_accessed: true,
            }),
            width: 48,
            rules,
            privileged,
        }
    }

    #[test]
    fn table_says_what_the_entry_says() {
        let rules = Rules::new().with_supervisor(true).with_write_protect(true);
        let nested = NestedTable::of(&tables(rules, false, false), true).unwrap();
        let expected = NestedTable {
            table: GuestAddress(0x5000),
            width: 48,
            supervisor: true,
            write_protect: true,
            extended_accessed: true,
            page_requests: true,
        };
        assert_eq!(nested, expected);
    }

    #[test]
    fn write_protection_without_supervisors_says_nothing() {
        let rules = Rules::new().with_write_protect(true).with_smep(true);
        let nested = NestedTable::of(&tables(rules, false, false), false).unwrap();
        assert!(!nested.write_protect && !nested.supervisor);
    }

    #[test]
    fn what_the_kernel_cannot_be_told_has_no_table() {
        let smep = Rules::new().with_supervisor(true).with_smep(true);
        let execute = Rules::new().with_execute(true);
        let plain = Rules::new();
        for (rules, no_execute, privileged) in [
            (smep, false, false),
            (execute, false, false),
            (plain, true, false),
            (plain, false, true),
        ] {
            let tables = tables(rules, no_execute, privileged);
            assert_eq!(NestedTable::of(&tables, false), None, "{tables:?}");
        }
    }
}
