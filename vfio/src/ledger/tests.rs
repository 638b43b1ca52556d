// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ledger against a map of pages.

use super::*;
use proptest::prelude::*;

fn page_run(first: u64, pages: u64, gpa_page: u64, rights: Rights) -> Run {
    Run {
        iova: IovaRange::from_len(Iova(first << 12), pages << 12).unwrap(),
        gpa: GuestAddress(gpa_page << 12),
        rights,
    }
}

fn rw(first: u64, pages: u64, gpa_page: u64) -> Run {
    page_run(first, pages, gpa_page, Rights::ReadWrite)
}

fn runs(ledger: &Ledger) -> Vec<Run> {
    ledger.iter().collect()
}

#[test]
fn insert_that_continues_both_neighbours_joins_all_three() {
    let mut ledger = Ledger::new(true);
    for run in [rw(1, 1, 0x11), rw(3, 2, 0x13), rw(2, 1, 0x12)] {
        ledger.insert(&run).unwrap();
    }
    assert_eq!(runs(&ledger), [rw(1, 4, 0x11)]);
    assert_eq!(ledger.bytes(), 0x4000);
}

#[test]
fn insert_without_joining_keeps_each_mapping() {
    let mut ledger = Ledger::new(false);
    ledger.insert(&rw(1, 1, 0x11)).unwrap();
    ledger.insert(&rw(2, 1, 0x12)).unwrap();
    assert_eq!(runs(&ledger), [rw(1, 1, 0x11), rw(2, 1, 0x12)]);
}

#[test]
fn insert_next_to_other_rights_or_another_target_stays_apart() {
    let mut ledger = Ledger::new(true);
    ledger.insert(&rw(1, 1, 0x11)).unwrap();
    ledger.insert(&page_run(2, 1, 0x12, Rights::Read)).unwrap();
    ledger.insert(&page_run(3, 1, 0x14, Rights::Read)).unwrap();
    assert_eq!(ledger.len(), 3);
}

#[test]
fn insert_over_a_run_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new(true);
    ledger.insert(&rw(2, 2, 0x10)).unwrap();
    assert_eq!(ledger.insert(&rw(3, 2, 0x20)), Err(Occupied(Iova(0x3000))));
    assert_eq!(runs(&ledger), [rw(2, 2, 0x10)]);
    assert_eq!(ledger.bytes(), 0x2000);
}

#[test]
fn remove_from_the_middle_leaves_both_ends() {
    let mut ledger = Ledger::new(true);
    ledger.insert(&page_run(0, 8, 0x20, Rights::Write)).unwrap();
    let middle = IovaRange::new(Iova(0x3000), Iova(0x4fff)).unwrap();
    assert_eq!(ledger.remove(middle), 0x2000);
    assert_eq!(
        runs(&ledger),
        [
            page_run(0, 3, 0x20, Rights::Write),
            page_run(5, 3, 0x25, Rights::Write)
        ]
    );
}

#[test]
fn remove_of_everything_works_up_to_the_last_byte() {
    let mut ledger = Ledger::new(true);
    let last = (1 << 52) - 1;
    ledger.insert(&rw(last, 1, 5)).unwrap();
    ledger.insert(&rw(0, 1, 9)).unwrap();
    assert_eq!(ledger.get(Iova(u64::MAX)), Some(rw(last, 1, 5)));
    assert_eq!(ledger.remove(IovaRange::ALL), 0x2000);
    assert!(ledger.is_empty());
    assert_eq!(ledger.bytes(), 0);
}

#[test]
fn overlapping_yields_whole_runs_that_reach_into_the_range() {
    let mut ledger = Ledger::new(false);
    for run in [rw(0, 2, 0x10), rw(2, 2, 0x30), rw(6, 4, 0x50)] {
        ledger.insert(&run).unwrap();
    }
    let range = IovaRange::new(Iova(0x3000), Iova(0x6fff)).unwrap();
    let found: Vec<_> = ledger.overlapping(range).collect();
    assert_eq!(found, [rw(2, 2, 0x30), rw(6, 4, 0x50)]);
    assert_eq!(ledger.bytes_in(range), 0x2000);
}

const PAGES: u64 = 32;

fn rights() -> impl Strategy<Value = Rights> {
    prop_oneof![
        Just(Rights::Read),
        Just(Rights::Write),
        Just(Rights::ReadWrite)
    ]
}

proptest! {
    /// What is inserted and removed is there and not there, runs are in order and, joined, maximal.
    #[test]
    fn ledger_equals_a_map_of_pages(
        joining in any::<bool>(),
        steps in prop::collection::vec(
            (any::<bool>(), 0..PAGES, 1..8u64, 0..4u64, rights()), 1..60),
    ) {
        let mut ledger = Ledger::new(joining);
        let mut model: BTreeMap<u64, (u64, Rights)> = BTreeMap::new();
        for (insert, first, pages, delta, rights) in steps {
            let run = page_run(first, pages, first + 0x100 * delta, rights);
            let occupied = (first..first + pages).any(|page| model.contains_key(&page));
            if insert {
                prop_assert_eq!(ledger.insert(&run).is_err(), occupied);
                if !occupied {
                    model.extend((0..pages).map(|n| (first + n, (first + 0x100 * delta + n, rights))));
                }
            } else {
                let before = model.len();
                model.retain(|page, _| !(first..first + pages).contains(page));
                prop_assert_eq!(ledger.remove(run.iova), (before - model.len()) as u64 * PAGE_SIZE);
            }
            let mut pages = BTreeMap::new();
            for run in ledger.iter() {
                for n in 0..run.len() / PAGE_SIZE {
                    pages.insert((run.iova.start().0 >> 12) + n, ((run.gpa.0 >> 12) + n, run.rights));
                }
            }
            prop_assert_eq!(&pages, &model);
            prop_assert_eq!(ledger.bytes(), model.len() as u64 * PAGE_SIZE);
            let listed = runs(&ledger);
            prop_assert!(listed.is_sorted_by(|a, b| a.iova.last() < b.iova.start()));
            prop_assert!(!joining || listed.windows(2).all(|pair| !pair[0].continues_in(&pair[1])));
        }
    }
}
