// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random edits of guest tables and moves of devices, on both kinds of host, with and without refusals.

use super::guest::{Guest, Step, step};
use super::rig::*;
use crate::backend::fake::{Call, CallKind, FakeOptions, Injection, Logged};
use crate::backend::{HostError, TableId};
use crate::mirror::Budget;
use crate::run::push_joined;
use iommu::address::Iova;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What stays the same in both.
fn common(before: &Pages, after: &Pages) -> Pages {
    before
        .iter()
        .filter(|(page, target)| after.get(page) == Some(target))
        .map(|(page, target)| (*page, *target))
        .collect()
}

fn without(pages: &Pages, others: &Pages) -> Pages {
    pages
        .iter()
        .filter(|(page, _)| !others.contains_key(page))
        .map(|(page, target)| (*page, *target))
        .collect()
}

/// The fewest calls that remove `gone`, and map `new`, without touching `stays`.
fn fewest_calls(gone: &Pages, stays: &Pages, new: &Pages) -> usize {
    let mut all: Vec<(u64, bool)> = gone.keys().map(|page| (*page, true)).collect();
    all.extend(stays.keys().map(|page| (*page, false)));
    all.sort_unstable();
    let mut open = false;
    let mut calls = 0;
    for (_, goes) in all {
        calls += usize::from(goes && !open);
        open = goes;
    }
    let mut runs = Vec::new();
    for (page, (gpa, rights)) in new {
        push_joined(
            &mut runs,
            super::rig::run(page * PAGE, PAGE, gpa * PAGE, *rights),
        );
    }
    calls + runs.len()
}

/// Whether a call removes one of `pages` from `table`.
fn removes(logged: &Logged, table: TableId, pages: &Pages) -> bool {
    match logged.call {
        Call::Unmap(of, range) | Call::CutOut(of, range) if of == table => {
            let (first, last) = (range.start().0 / PAGE, range.last().0 / PAGE);
            pages.range(first..=last).next().is_some()
        }
        Call::UnmapAll(of) => of == table && !pages.is_empty(),
        _ => false,
    }
}

fn of_table(logged: &Logged, table: TableId) -> bool {
    match logged.call {
        Call::Map(of, ..) | Call::Unmap(of, _) | Call::CutOut(of, _) | Call::UnmapAll(of) => {
            of == table
        }
        _ => false,
    }
}

proptest! {
    /// After every batch the host has what the tables say; what stayed valid was never absent, no call was too many.
    #[test]
    fn host_that_cuts_follows_the_tables_without_a_gap_and_in_the_fewest_calls(
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let mut guest = Guest::new(FakeOptions::iommufd());
        for step in steps {
            let before = guest.tables();
            let _ = guest.rig.host.take_log();
            let answer = guest.step(&step);
            prop_assert!(answer.results.iter().all(Result::is_ok));
            for device in [A, B] {
                prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
            }
            guest.rig.assert_ledger_is_true();
            let log = guest.rig.mapping_calls();
            for (table, after) in guest.tables() {
                let before = before.get(&table).cloned().unwrap_or_default();
                let stays = common(&before, &after);
                prop_assert!(!log.iter().any(|logged| removes(logged, table, &stays)), "{:?}", log);
                let calls = log.iter().filter(|logged| of_table(logged, table)).count();
                let fewest = fewest_calls(&without(&before, &stays), &stays, &without(&after, &stays));
                prop_assert_eq!(calls, fewest, "{:?}", log);
            }
        }
        let stats = guest.rig.mirror.stats();
        prop_assert_eq!(stats.gaps, stats.rights_changes);
    }

    /// The same where mappings cannot be cut, but that what stayed valid may be absent where a gap was counted. Few entries,
    /// so that compaction has its part.
    #[test]
    fn host_that_cannot_cut_follows_the_tables_and_counts_its_gaps(
        steps in prop::collection::vec(step(), 1..12),
        entries in prop_oneof![Just(65_535u32), 40..80u32],
        moves in any::<bool>(),
    ) {
        let mut guest = Guest::new(if moves {
            FakeOptions::iommufd_with_large_pages()
        } else {
            FakeOptions {
                entry_limit: Some(entries),
                ..FakeOptions::type1()
            }
        });
        for step in steps {
            let before = guest.tables();
            let gaps = |guest: &Guest| {
                let stats = guest.rig.mirror.stats();
                stats.gaps - stats.rights_changes
            };
            let gaps_before = gaps(&guest);
            let _ = guest.rig.host.take_log();
            let answer = guest.step(&step);
            prop_assert!(answer.results.iter().all(Result::is_ok));
            for device in [A, B] {
                prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
            }
            guest.rig.assert_ledger_is_true();
            let log = guest.rig.mapping_calls();
            let absent = guest.tables().iter().any(|(table, after)| {
                let stays = before.get(table).map_or_else(Pages::new, |before| common(before, after));
                log.iter().any(|logged| removes(logged, *table, &stays))
            });
            prop_assert_eq!(absent, gaps(&guest) > gaps_before);
        }
    }
}

pub fn injection() -> impl Strategy<Value = Injection> {
    let kind = prop_oneof![
        3 => Just(CallKind::Map),
        2 => Just(CallKind::Remove),
        1 => Just(CallKind::Attach),
        1 => Just(CallKind::Detach),
        1 => Just(CallKind::Create),
        1 => Just(CallKind::Destroy),
    ];
    let error = prop_oneof![
        Just(HostError::EntryLimit),
        Just(HostError::LockedMemory),
        Just(HostError::Overlap),
        Just(HostError::Invalid),
        Just(HostError::Unpinnable),
        Just(HostError::Io),
        Just(HostError::Busy),
    ];
    (kind, error, 0..3u32, 1..5u32).prop_map(|(kind, error, after, times)| Injection {
        after,
        times,
        ..Injection::always(kind, error)
    })
}

/// Steps with refusals, then one without.
fn refusing(
    options: FakeOptions,
    steps: Vec<(Step, Option<Injection>)>,
) -> Result<(), TestCaseError> {
    let mut guest = Guest::new(options);
    for (step, injection) in steps {
        guest.rig.host.heal();
        if let Some(injection) = injection {
            guest.rig.host.inject(injection);
        }
        let _ = guest.step(&step);
        guest.rig.assert_ledger_is_true();
        for device in [A, B] {
            let (reached, expected) = (guest.rig.pages(device), guest.expected(device));
            let told = guest.told.contains(&device);
            prop_assert!(
                reached == expected || told,
                "{device} lacks something, and nobody knows"
            );
            let extra = without(&reached, &common(&reached, &expected));
            // A host that neither removes a mapping nor detaches the device leaves no way; that much is known.
            let named = guest.rig.mirror.still_reachable().contains(&device);
            prop_assert!(
                extra.is_empty() || told && named,
                "{device} reaches {extra:?}"
            );
        }
    }
    guest.rig.host.heal();
    let _ = guest.step(&Step::Edit(0, vec![], 1));
    for device in [A, B] {
        prop_assert_eq!(guest.rig.pages(device), guest.expected(device));
    }
    prop_assert_eq!(&guest.told, &BTreeSet::new());
    guest.rig.assert_ledger_is_true();
    Ok(())
}

proptest! {
    /// A refusal is never taken for success, nothing is reached that the tables do not say, and everything comes right
    /// with the next batch that the host does not refuse.
    #[test]
    fn host_that_cuts_and_refuses_is_known_to_lack_and_is_made_whole(
        steps in prop::collection::vec((step(), prop::option::of(injection())), 1..10),
    ) {
        refusing(FakeOptions::iommufd(), steps)?;
    }

    #[test]
    fn host_that_cannot_cut_and_refuses_is_known_to_lack_and_is_made_whole(
        steps in prop::collection::vec((step(), prop::option::of(injection())), 1..10),
        moves in any::<bool>(),
    ) {
        let moving = FakeOptions::iommufd_with_large_pages();
        refusing(if moves { moving } else { FakeOptions::type1() }, steps)?;
    }

    /// Every kind of tables, also such that make no sense, is carried out or refused without a panic, and in bounded time.
    #[test]
    fn tables_of_random_words_do_no_harm(words in prop::collection::vec((0..64u64, any::<u64>()), 1..200)) {
        let mut rig = Rig::with(FakeOptions::iommufd(), Budget { tables: 512, runs: 512, all_runs: 512 });
        let tables: Vec<u64> = (0..4).map(|_| rig.table()).collect();
        for (n, (place, word)) in words.into_iter().enumerate() {
            // Half of them name one of the tables.
            let word = if word & 0x800 == 0 { tables[n % 4] | word & 3 } else { word };
            rig.memory.set(tables[n % 4] + place * 8, word);
        }
        let event = attachment(A, rig.domain(1, tables[0]));
        let _ = rig.unit.apply(&[event]);
        rig.assert_ledger_is_true();
        prop_assert!(rig.mirror.stats().tables <= 512 + 64);
        let window = range(0xfee0_0000, 0x10_0000);
        for run in rig.reached(A) {
            prop_assert!(!run.iova.overlaps(&window) && run.iova.start() < Iova(1 << 48));
        }
    }
}
