// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plans, by hand and against what single pages say.

use super::*;
use crate::run::{Rights, push_joined};
use iommu::address::Iova;
use proptest::prelude::*;
use std::collections::BTreeMap;
use vm_memory::GuestAddress;

fn page_run(first: u64, pages: u64, gpa_page: u64, rights: Rights) -> Run {
    Run {
        iova: pages_range(first, pages),
        gpa: GuestAddress(gpa_page << 12),
        rights,
    }
}

fn rw(first: u64, pages: u64, gpa_page: u64) -> Run {
    page_run(first, pages, gpa_page, Rights::ReadWrite)
}

fn pages_range(first: u64, pages: u64) -> IovaRange {
    IovaRange::from_len(Iova(first << 12), pages << 12).unwrap()
}

fn ledger(runs: &[Run], joining: bool) -> Ledger {
    let mut ledger = Ledger::new(joining);
    for run in runs {
        ledger.insert(run).unwrap();
    }
    ledger
}

fn removal(first: u64, pages: u64, cuts: bool) -> Removal {
    Removal {
        range: pages_range(first, pages),
        cuts,
    }
}

#[test]
fn plan_for_the_same_is_empty() {
    for can_cut in [true, false] {
        let ledger = ledger(&[rw(0, 4, 0x10), rw(8, 4, 0x30)], can_cut);
        let wanted = [rw(0, 4, 0x10), rw(8, 4, 0x30)];
        assert!(plan(&ledger, IovaRange::ALL, &wanted, can_cut).is_empty());
        let part = [rw(2, 2, 0x12), rw(8, 1, 0x30)];
        assert!(plan(&ledger, pages_range(2, 7), &part, can_cut).is_empty());
    }
}

#[test]
fn plan_that_cuts_touches_only_the_page_that_went() {
    let plan = plan(
        &ledger(&[rw(0, 512, 0x200)], true),
        pages_range(7, 1),
        &[],
        true,
    );
    assert_eq!(plan.removals, [removal(7, 1, true)]);
    assert_eq!((plan.calls(), plan.gaps), (1, 0));
}

#[test]
fn plan_that_cannot_cut_takes_the_mapping_and_restores_both_ends() {
    let plan = plan(
        &ledger(&[rw(0, 512, 0x200)], false),
        pages_range(7, 1),
        &[],
        false,
    );
    assert_eq!(plan.reopened, [removal(0, 512, false)]);
    assert_eq!(plan.restored, [rw(0, 7, 0x200), rw(8, 504, 0x208)]);
    assert_eq!((plan.added.len(), plan.gaps), (0, 1));
}

#[test]
fn plan_that_cannot_cut_joins_what_stays_inside_with_the_ends() {
    let ledger = ledger(&[rw(0, 8, 0x20)], false);
    let plan = plan(
        &ledger,
        pages_range(2, 4),
        &[rw(2, 1, 0x22), rw(4, 2, 0x24)],
        false,
    );
    assert_eq!(plan.reopened, [removal(0, 8, false)]);
    assert_eq!(plan.restored, [rw(0, 3, 0x20), rw(4, 4, 0x24)]);
}

#[test]
fn plan_removes_several_mappings_and_holes_in_one_call() {
    let runs = [
        rw(0, 1, 0x10),
        rw(2, 1, 0x30),
        rw(5, 1, 0x50),
        rw(9, 1, 0x70),
    ];
    for can_cut in [true, false] {
        let plan = plan(
            &ledger(&runs, can_cut),
            IovaRange::ALL,
            &[rw(9, 1, 0x70)],
            can_cut,
        );
        assert_eq!(plan.removals, [removal(0, 6, false)]);
    }
}

#[test]
fn plan_for_other_rights_maps_anew_and_says_so() {
    for can_cut in [true, false] {
        let ledger = ledger(&[page_run(0, 2, 0x10, Rights::Read)], can_cut);
        let plan = plan(&ledger, pages_range(0, 2), &[rw(0, 2, 0x10)], can_cut);
        assert_eq!(plan.reopened, [removal(0, 2, false)]);
        assert_eq!(plan.restored, [rw(0, 2, 0x10)]);
        assert_eq!((plan.gaps, plan.rights_changes), (0, 1));
    }
}

#[test]
fn plan_takes_away_last_and_maps_first_what_only_changes_its_rights() {
    for can_cut in [true, false] {
        let held = [
            rw(0, 1, 0x10),
            rw(2, 1, 0x20),
            rw(4, 1, 0x30),
            rw(6, 1, 0x40),
        ];
        let read = |first, gpa| page_run(first, 1, gpa, Rights::Read);
        let wanted = [
            read(0, 0x10),
            rw(2, 1, 0x20),
            rw(5, 1, 0x90),
            rw(6, 1, 0x40),
        ];
        let ledger = ledger(&held, can_cut);
        let plan = plan(&ledger, pages_range(0, 8), &wanted, can_cut);
        assert_eq!(plan.removals, [removal(4, 1, false)]);
        assert_eq!(plan.reopened, [removal(0, 1, false)]);
        assert_eq!(plan.restored, [read(0, 0x10)]);
        assert_eq!(plan.added, [rw(5, 1, 0x90)]);
    }
}

#[test]
fn plan_for_rights_without_a_common_one_is_no_gap() {
    let ledger = ledger(&[page_run(0, 1, 0x10, Rights::Read)], true);
    let write = page_run(0, 1, 0x10, Rights::Write);
    let plan = plan(&ledger, pages_range(0, 1), &[write], true);
    assert_eq!((plan.removals.len(), plan.reopened.len()), (1, 0));
    assert_eq!((plan.gaps, plan.rights_changes), (0, 0));
}

#[test]
fn plan_for_another_target_is_no_change_of_rights() {
    let plan = plan(
        &ledger(&[rw(0, 2, 0x10)], true),
        pages_range(0, 2),
        &[rw(0, 2, 0x80)],
        true,
    );
    assert_eq!((plan.removals.len(), plan.added.len()), (1, 1));
    assert_eq!(plan.rights_changes, 0);
}

#[test]
fn plan_from_a_large_page_to_the_same_small_pages_is_empty() {
    let small: Vec<Run> = (0..512).map(|n| rw(n, 1, 0x400 + n)).collect();
    let mut wanted = Vec::new();
    for run in small {
        push_joined(&mut wanted, run);
    }
    let large = ledger(&[rw(0, 512, 0x400)], true);
    assert!(plan(&large, pages_range(0, 512), &wanted, true).is_empty());
}

#[test]
fn compact_takes_the_longest_rows_first() {
    let runs = [
        rw(0, 1, 0x10),
        rw(1, 1, 0x11),
        rw(4, 1, 0x20),
        rw(5, 1, 0x21),
        rw(6, 1, 0x22),
        rw(9, 1, 0x40),
    ];
    let ledger = ledger(&runs, false);
    let rows = compact(&ledger, 2, |_, _| true);
    assert_eq!(
        rows,
        [Compaction {
            run: rw(4, 3, 0x20),
            mappings: 3
        }]
    );
    assert_eq!(compact(&ledger, 3, |_, _| true).len(), 2);
    assert_eq!(compact(&ledger, 9, |_, _| false), []);
    assert_eq!(compact(&ledger, 0, |_, _| true), []);
}

/// As many as [`any_pages`] makes.
const PAGES: u64 = 24;

/// Page number to what it reaches.
type Pages = BTreeMap<u64, (u64, Rights)>;

fn pages_of(runs: impl IntoIterator<Item = Run>) -> Pages {
    let mut pages = Pages::new();
    for run in runs {
        for n in 0..run.len() >> 12 {
            let before = pages.insert(
                (run.iova.start().0 >> 12) + n,
                ((run.gpa.0 >> 12) + n, run.rights),
            );
            assert_eq!(before, None, "runs overlap");
        }
    }
    pages
}

/// Maximal runs.
fn runs_of(pages: &Pages) -> Vec<Run> {
    let mut runs = Vec::new();
    for (page, (gpa, rights)) in pages {
        push_joined(&mut runs, page_run(*page, 1, *gpa, *rights));
    }
    runs
}

/// Few targets, so that neighbours often continue each other.
fn any_pages() -> impl Strategy<Value = Pages> {
    let rights = prop_oneof![4 => Just(Rights::ReadWrite), 1 => Just(Rights::Read)];
    let target = prop_oneof![2 => Just(None), 5 => (0..2u64, rights).prop_map(Some)];
    prop::collection::vec(target, 24).prop_map(|targets| {
        (0..)
            .zip(targets)
            .filter_map(|(page, target)| {
                target.map(|(base, rights)| (page, (page + base * 0x100, rights)))
            })
            .collect()
    })
}

/// How many calls remove `gone` without touching `stays`.
fn fewest_removals(gone: &Pages, stays: &Pages) -> usize {
    let mut all: Vec<(u64, bool)> = gone.keys().map(|page| (*page, true)).collect();
    all.extend(stays.keys().map(|page| (*page, false)));
    all.sort_unstable();
    let mut count = 0;
    let mut open = false;
    for (_, goes) in all {
        count += usize::from(goes && !open);
        open = goes;
    }
    count
}

/// Does what `plan` says to `held`, and checks each step.
fn carry_out(plan: &Plan, held: &[Run]) -> Pages {
    let mut pages = pages_of(held.iter().copied());
    for removal in plan.all_removals() {
        let inside = |page: &u64| removal.range.contains(Iova(*page << 12));
        pages.retain(|page, _| !inside(page));
        let cut = held.iter().any(|run| {
            let clipped = run.clip(removal.range);
            clipped.is_some_and(|part| part != *run)
        });
        assert_eq!(cut, removal.cuts);
    }
    for run in plan.restored.iter().chain(&plan.added) {
        for (page, target) in pages_of([*run]) {
            assert_eq!(pages.insert(page, target), None, "mapped twice");
        }
    }
    pages
}

proptest! {
    /// Where the host can cut: the outcome is right, nothing that stays is touched, no plan is shorter.
    #[test]
    fn plan_that_cuts_is_right_hitless_and_minimal(
        before in any_pages(), after in any_pages(), first in 0..PAGES, pages in 1..PAGES,
    ) {
        let range = pages_range(first, pages);
        let inside = |page: u64| range.contains(Iova(page << 12));
        let wanted: Pages = after.into_iter().filter(|(page, _)| inside(*page)).collect();
        let held = runs_of(&before);
        let plan = plan(&ledger(&held, true), range, &runs_of(&wanted), true);

        let mut expected: Pages = before.clone().into_iter().filter(|(page, _)| !inside(*page)).collect();
        expected.extend(wanted);
        let stays: Pages = before.clone().into_iter().filter(|(page, target)| expected.get(page) == Some(target)).collect();
        let gone: Pages = before.into_iter().filter(|(page, _)| !stays.contains_key(page)).collect();
        let new: Pages = expected.clone().into_iter().filter(|(page, _)| !stays.contains_key(page)).collect();

        prop_assert_eq!(carry_out(&plan, &held), expected);
        for removal in plan.all_removals() {
            prop_assert!(stays.keys().all(|page| !removal.range.contains(Iova(*page << 12))));
        }
        prop_assert_eq!(plan.all_removals().count(), fewest_removals(&gone, &stays));
        prop_assert_eq!(plan.restored.len() + plan.added.len(), runs_of(&new).len());
        prop_assert_eq!(plan.gaps, 0);
        prop_assert_eq!(plan.restored.is_empty(), plan.rights_changes == 0);
    }

    /// Where it cannot: the outcome is right, mappings that stay whole are not touched, and every other that stays in
    /// part is counted.
    #[test]
    fn plan_that_cannot_cut_is_right_and_counts_its_gaps(
        before in any_pages(), after in any_pages(), first in 0..PAGES, pages in 1..PAGES, most in 1..6u64,
    ) {
        let range = pages_range(first, pages);
        let inside = |page: u64| range.contains(Iova(page << 12));
        let wanted: Pages = after.into_iter().filter(|(page, _)| inside(*page)).collect();
        // Mappings of at most `most` pages, so that some continue each other.
        let mut held: Vec<Run> = Vec::new();
        for run in runs_of(&before) {
            let mut at = 0;
            while at < run.len() >> 12 {
                let piece = pages_range((run.iova.start().0 >> 12) + at, most.min((run.len() >> 12) - at));
                held.extend(run.clip(piece));
                at += most;
            }
        }
        let plan = plan(&ledger(&held, false), range, &runs_of(&wanted), false);

        let mut expected: Pages = before.into_iter().filter(|(page, _)| !inside(*page)).collect();
        expected.extend(wanted);
        let stays_of = |run: &Run| pages_of([*run]).iter().filter(|(page, target)| expected.get(page) == Some(target)).count() as u64;
        let whole: Vec<Run> = held.iter().copied().filter(|run| stays_of(run) == run.len() >> 12).collect();
        let gaps = held.iter().filter(|run| (1..run.len() >> 12).contains(&stays_of(run))).count() as u64;
        let stays = pages_of(whole.iter().copied());
        let gone: Pages = pages_of(held.iter().copied()).into_iter().filter(|(page, _)| !stays.contains_key(page)).collect();
        let new: Pages = expected.clone().into_iter().filter(|(page, _)| !stays.contains_key(page)).collect();

        prop_assert_eq!(carry_out(&plan, &held), expected.clone());
        for removal in plan.all_removals() {
            prop_assert!(stays.keys().all(|page| !removal.range.contains(Iova(*page << 12))));
        }
        prop_assert_eq!(plan.gaps, gaps);
        prop_assert_eq!(plan.all_removals().count(), fewest_removals(&gone, &stays));
        // What continues a mapping outside the range may not be one with it: that would be another batch's.
        prop_assert!(plan.restored.len() + plan.added.len() <= runs_of(&new).len() + 2);
    }
}
