// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Directories that name few tables many times, and budgets.

use super::super::guest::{A, DIRECTORY, Guest, PASID_CACHE_GLOBAL, Reach};
use super::steps::{TABLES, entry};
use proptest::prelude::*;
use std::collections::BTreeMap;
use vfio::backend::fake::FakeOptions;

/// Directory entries that are looked at.
const ENTRIES: u64 = 12;

/// What the first PASIDs of a directory's entries say, as far as budgets go: as many tables, and as many bindings.
fn first_of(guest: &Guest, bindings: usize, mut tables: u32) -> (BTreeMap<u32, Reach>, bool) {
    let mut bound = BTreeMap::new();
    for index in 0..ENTRIES {
        let entry = guest.word(DIRECTORY + index * 8);
        if entry & 1 == 0 {
            continue;
        }
        if tables == 0 {
            return (bound, true);
        }
        tables -= 1;
        for number in 0..64 {
            let pasid = u32::try_from(index * 64 + number).unwrap();
            let at = (entry & !0xfff) + number * 64;
            let reach = match guest.word(at) & 0x1c1 {
                0x41 => Reach::First(guest.word(at + 16)),
                0x101 => Reach::AllRam,
                _ => continue,
            };
            if pasid == 0 {
                continue;
            }
            if bound.len() == bindings {
                return (bound, true);
            }
            bound.insert(pasid, reach);
        }
    }
    (bound, false)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A directory that names few tables many times binds no more than the budgets allow, the lowest PASIDs first.
    #[test]
    fn aliased_directory_binds_what_the_budgets_allow(
        bindings in 1..40u32,
        tables in 1..10u32,
        rounds in prop::collection::vec(
            (
                prop::collection::vec((0..ENTRIES, 0..4usize), 1..8),
                prop::collection::vec((0..3usize, 0..64u64, entry()), 0..24),
            ),
            1..6,
        ),
    ) {
        let mut guest = Guest::boot(FakeOptions::nesting());
        guest.plug_within(A, bindings, tables);
        for (directory, entries) in rounds {
            for (index, table) in directory {
                let table = TABLES.get(table).copied().unwrap_or_default();
                guest.directory(index * 64, table);
            }
            for (table, pasid, words) in entries {
                let words = match words[0] & 0x1c0 {
                    0x40 | 0x100 => words,
                    _ => [0; 3],
                };
                guest.entry(TABLES[table], pasid, words);
            }
            let before = guest.unit.counters().follow;
            guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
            let after = guest.unit.counters().follow;
            let (expected, beyond) = first_of(&guest, usize::try_from(bindings).unwrap(), tables);
            for pasid in 1..u32::try_from(ENTRIES * 64).unwrap() {
                let expected = expected.get(&pasid).copied().unwrap_or(Reach::Nothing);
                prop_assert_eq!(guest.reach(A, Some(pasid)), expected, "{:#x}", pasid);
            }
            let read = after.pasid_walks.tables - before.pasid_walks.tables;
            prop_assert!(read <= u64::from(tables));
            let ended = after.pasid_walks.over_budget - before.pasid_walks.over_budget;
            prop_assert_eq!(ended, u64::from(beyond));
        }
    }
}
