// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables that map more than there is memory.

use super::rig::*;
use crate::backend::fake::FakeOptions;
use crate::mirror::Budget;
use iommu::follow::Attachment;

const SMALL: Budget = Budget {
    tables: 4096,
    runs: 4096,
    all_runs: 6000,
};

fn rigs() -> [Rig; 2] {
    [FakeOptions::iommufd(), FakeOptions::type1()].map(|options| Rig::with(options, SMALL))
}

/// A table of each level whose entries all name the next one: 2^36 pages behind four pages of tables.
fn aliased(rig: &mut Rig) -> u64 {
    let tables: Vec<u64> = (0..4).map(|_| rig.table()).collect();
    for level in 0..4 {
        for n in 0..512 {
            let next = tables.get(level + 1).copied().unwrap_or(0x100_0000);
            rig.memory.set(tables[level] + 8 * n, next | RW);
        }
    }
    tables[0]
}

/// A table whose entries all name itself.
fn recursive(rig: &mut Rig) -> u64 {
    let table = rig.table();
    for n in 0..512 {
        rig.memory.set(table + 8 * n, table | RW);
    }
    table
}

/// The same with nothing in the lowest table: 2^27 visits that find no page.
fn hollow(rig: &mut Rig) -> u64 {
    let root = aliased(rig);
    let lowest = root + 3 * PAGE;
    for n in 0..512 {
        rig.memory.set(lowest + 8 * n, 0);
    }
    root
}

#[test]
fn tables_that_cost_too_much_block_the_domain_and_no_other() {
    for build in [aliased, recursive, hollow] {
        for mut rig in rigs() {
            let bad = build(&mut rig);
            let good = rig.table();
            rig.map(good, 0, 0x5000, RW);
            rig.attach(B, rig.domain(2, good));
            let event = attachment(A, rig.domain(1, bad));
            let answer = rig.unit.apply(&[event]);
            assert_eq!(refused(&answer).len(), 1);
            assert_eq!(rig.reached(A), []);
            assert_eq!(rig.pages(B), rig.expected(good, 0..8));
            let stats = rig.mirror.stats();
            assert_eq!(stats.over_budget, 1);
            assert!(stats.tables <= SMALL.tables + 16, "{} tables", stats.tables);
        }
    }
}

#[test]
fn domain_that_is_blocked_is_not_walked_for_single_pages() {
    for mut rig in rigs() {
        let bad = aliased(&mut rig);
        let event = attachment(A, rig.domain(1, bad));
        let _ = rig.unit.apply(&[event]);
        let before = rig.mirror.stats().tables;
        let answer = rig.unit.apply(&[pages_invalidated(1, 0, PAGE)]);
        assert_eq!(refused(&answer).len(), 1);
        assert!(rig.mirror.stats().tables - before <= 4);
        assert_eq!(rig.reached(A), []);
    }
}

#[test]
fn domain_that_was_blocked_comes_back_when_its_tables_are_mended() {
    for mut rig in rigs() {
        let root = aliased(&mut rig);
        let event = attachment(A, rig.domain(1, root));
        let _ = rig.unit.apply(&[event]);
        for n in 0..512 {
            rig.memory.set(root + 8 * n, 0);
        }
        rig.map(root, 0x5000, 0x5000, RW);
        let answer = rig.unit.apply(&[domain_invalidated(1)]);
        assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
        assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    }
}

#[test]
fn runs_that_pile_up_batch_by_batch_block_the_domain() {
    for mut rig in rigs() {
        let root = rig.table();
        rig.attached(root);
        let mut blocked = false;
        for chunk in 0..9 {
            let start = chunk * 2 * LARGE;
            for n in 0..512 {
                rig.map(root, start + 2 * n * PAGE, 0x100_0000, RW);
            }
            let answer = rig.unit.apply(&[pages_invalidated(1, start, 2 * LARGE)]);
            blocked = answer.results[0].is_err();
        }
        assert!(blocked);
        assert_eq!(rig.reached(A), []);
        rig.attach(A, Attachment::Identity);
    }
}

#[test]
fn runs_that_pile_up_domain_by_domain_block_the_one_that_is_too_much() {
    for mut rig in rigs() {
        let roots = [rig.table(), rig.table()];
        for root in roots {
            for n in 0..3500 {
                rig.map(root, 2 * n * PAGE, 0x100_0000, RW);
            }
        }
        rig.attach(A, rig.domain(1, roots[0]));
        let event = attachment(B, rig.domain(2, roots[1]));
        assert_eq!(refused(&rig.unit.apply(&[event])).len(), 1);
        assert_eq!((rig.reached(A).len(), rig.reached(B).len()), (3500, 0));
        rig.attach(A, Attachment::Blocked);
        let answer = rig.unit.apply(&[domain_invalidated(2)]);
        assert_eq!(answer.resynced, [B]);
        assert_eq!(rig.reached(B).len(), 3500);
    }
}

#[test]
fn budget_of_a_guest_grows_with_its_ram() {
    let small = Budget::for_ram(64 << 20);
    let large = Budget::for_ram(64 << 30);
    assert_eq!(small.tables, 1 << 16);
    assert_eq!(large.tables, 1 << 24);
    assert_eq!((large.runs, large.all_runs), (1 << 25, 1 << 26));
}
