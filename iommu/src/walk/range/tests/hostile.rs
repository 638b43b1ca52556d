// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables that map more than there is, and walks in slices.

use super::*;

/// Walks in slices of `budget`, at most `most` of them.
fn slices(memory: &FakeMem, levels: u32, budget: WalkBudget, most: usize) -> (Vec<Run>, usize) {
    let capabilities = capabilities();
    let mut walk = RangeWalk::second_stage(second(levels), &capabilities, &IovaRange::ALL);
    let (mut runs, mut below) = (Vec::new(), Iova(0));
    for slice in 1..=most {
        let reported = runs.len();
        let tables = walk.counts().tables;
        let progress = walk.advance(memory, &capabilities, budget, &mut runs);
        let read = walk.counts().tables - tables;
        assert!(
            read <= budget.tables.max(u64::from(levels)),
            "{read} tables"
        );
        assert!((runs.len() - reported) as u64 <= budget.runs.max(1));
        let Progress::More(next) = progress else {
            return (runs, slice);
        };
        assert!(next >= below, "a slice never goes back");
        assert!(runs.iter().all(|run| run.last() < next));
        below = next;
    }
    (runs, most)
}

/// One table that names itself in all entries maps 2^45 pages.
#[test]
fn table_that_refers_to_itself_costs_its_budget() {
    let memory = FakeMem::new(1 << 20);
    for index in 0..512 {
        memory.set(0x1000 + 8 * index, 0x1003);
    }
    let budget = WalkBudget {
        tables: 100,
        runs: 1000,
    };
    let (runs, count) = slices(&memory, 4, budget, 5);
    assert_eq!(count, 5);
    // At the lowest level each entry maps the table itself: 512 runs of one page a table.
    assert!(runs.len() <= 5000);
    assert!(memory.reads() <= 5 * 100);
}

/// One table of each level, each entry of which names the one below: 2^36 leaves.
#[test]
fn aliased_tables_cost_their_budget() {
    let memory = FakeMem::new(1 << 20);
    for (table, entry) in [(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x4003)] {
        for index in 0..512 {
            memory.set(table + 8 * index, entry);
        }
    }
    memory.set(0x4000, 0x7_7003);
    let budget = WalkBudget {
        tables: 1000,
        runs: u64::MAX,
    };
    let (runs, _) = slices(&memory, 4, budget, 3);
    assert!((2900..3000).contains(&runs.len()), "{}", runs.len());
    assert!(memory.reads() <= 3000);
}

/// What a slice cannot do the next one does, down to one entry a slice.
#[test]
fn smallest_budget_gets_to_the_end() {
    let memory = memory();
    memory.set(0x2008, 0x4003);
    for page in 0..1024 {
        let displaced = if page % 100 == 99 { 0x1000 } else { 0 };
        memory.set(0x3000 + 8 * page, 0x1000_0003 + page * 0x1000 + displaced);
    }
    let (whole, once) = slices(&memory, 3, WalkBudget::UNLIMITED, 1);
    assert_eq!(once, 1);
    let none = WalkBudget { tables: 0, runs: 0 };
    let (parts, count) = slices(&memory, 3, none, 10_000);
    assert_eq!(parts, whole);
    assert_eq!(whole.len(), 21);
    assert!(count >= whole.len() && count < 10_000);
}

/// A run that goes on over slices is one run.
#[test]
fn run_is_not_cut_by_slices() {
    let memory = memory();
    for table in 0..16 {
        memory.set(0x2000 + 8 * table, 0x1_0003 + 0x1000 * table);
        for page in 0..512 {
            memory.set(
                0x1_0000 + 0x1000 * table + 8 * page,
                0x1000_0003 + (table * 512 + page) * 0x1000,
            );
        }
    }
    let budget = WalkBudget { tables: 3, runs: 1 };
    let (runs, count) = slices(&memory, 3, budget, 100);
    assert_eq!(runs, [run(0, 0x1000_0000, 0x200_0000, BOTH)]);
    assert!(count > 8);
}

/// What changes below the address where a slice ended is not looked at again, and what changes above is.
#[test]
fn tables_may_change_between_slices() {
    let memory = memory();
    memory.set(0x2008, 0x4003);
    memory.set(0x3000, 0x10_0003);
    memory.set(0x4000, 0x20_0003);
    let capabilities = capabilities();
    let mut walk = RangeWalk::second_stage(second(3), &capabilities, &IovaRange::ALL);
    let mut runs = Vec::new();
    let budget = WalkBudget { tables: 3, runs: 9 };
    let progress = walk.advance(&memory, &capabilities, budget, &mut runs);
    assert_eq!(progress, Progress::More(Iova(0)), "the run may go on");
    memory.set(0x3000, 0);
    memory.set(0x4000, 0x30_0003);
    let progress = walk.advance(&memory, &capabilities, WalkBudget::UNLIMITED, &mut runs);
    assert_eq!(progress, Progress::Done);
    let expected = [
        run(0, 0x10_0000, 0x1000, BOTH),
        run(0x20_0000, 0x30_0000, 0x1000, BOTH),
    ];
    assert_eq!(runs, expected);
}

/// The number of the last page that 52 bits name, with all ignored bits and XD above it, is followed by none: least of all
/// by that of the first page.
#[test]
fn last_page_with_all_upper_bits_is_followed_by_none() {
    let options = ScalableOptions {
        base: LegacyOptions {
            host_address_width: 52,
            ..LegacyOptions::default()
        },
        ..ScalableOptions::default()
    };
    let capabilities = Capabilities::scalable(&options).unwrap();
    let memory = FakeMem::new(1 << 20);
    for (at, entry) in [
        (0x1000, 0x2007),
        (0x2000, 0x3007),
        (0x3000, 0x4007),
        (0x4000, 0xffff_ffff_ffff_f007),
        (0x4008, 0x0000_0000_0000_0007),
    ] {
        memory.set(at, entry);
    }
    let range = range(0, 0xffff);
    let mut walk = RangeWalk::first_stage(first(4), Rules::default(), false, &range);
    let mut runs = Vec::new();
    let progress = walk.advance(&memory, &capabilities, WalkBudget::UNLIMITED, &mut runs);
    assert_eq!(progress, Progress::Done);
    let pages = runs.iter().map(|run| (run.iova.0, run.gpa.0, run.len));
    let expected = [(0, 0xf_ffff_ffff_f000, 0x1000), (0x1000, 0, 0x1000)];
    assert!(pages.eq(expected), "{runs:x?}");
}
