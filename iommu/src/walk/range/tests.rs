// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Walks of ranges over tables of raw entries.

mod hostile;
mod properties;
mod trace;

use super::*;
use crate::capabilities::{AddressWidth, LegacyOptions, ScalableOptions};
use crate::testing::FakeMem;
use vm_memory::GuestAddress;

/// Capabilities with every page size, first stage included, and 57 bits.
fn capabilities() -> Capabilities {
    let options = ScalableOptions {
        base: LegacyOptions {
            address_width: AddressWidth::Bits57,
            ..LegacyOptions::default()
        },
        ..ScalableOptions::default()
    };
    Capabilities::scalable(&options).unwrap()
}

fn second(levels: u32) -> SecondStage {
    SecondStage::plain(GuestAddress(0x1000), levels)
}

fn first(levels: u32) -> FirstStage {
    FirstStage {
        table: GuestAddress(0x1000),
        levels,
        no_execute: false,
        extended_accessed: false,
    }
}

fn range(start: u64, last: u64) -> IovaRange {
    IovaRange::new(Iova(start), Iova(last)).unwrap()
}

const READ: Perms = Perms {
    read: true,
    write: false,
    execute: false,
};
const WRITE: Perms = Perms {
    read: false,
    write: true,
    execute: false,
};
const BOTH: Perms = Perms::READ_WRITE;

fn run(iova: u64, gpa: u64, len: u64, perms: Perms) -> Run {
    Run {
        iova: Iova(iova),
        gpa: GuestAddress(gpa),
        len,
        perms,
    }
}

fn finish(memory: &FakeMem, mut walk: RangeWalk) -> (Vec<Run>, WalkCounts) {
    let mut runs = Vec::new();
    let capabilities = capabilities();
    let progress = walk.advance(memory, &capabilities, WalkBudget::UNLIMITED, &mut runs);
    assert_eq!(progress, Progress::Done);
    (runs, walk.counts())
}

/// The runs of `range` through second-stage tables of `levels` levels at 0x1000.
fn runs(memory: &FakeMem, levels: u32, range: &IovaRange) -> (Vec<Run>, WalkCounts) {
    let walk = RangeWalk::second_stage(second(levels), &capabilities(), range);
    finish(memory, walk)
}

/// The runs of `range` through first-stage tables of `levels` levels at 0x1000, for users.
fn user_runs(memory: &FakeMem, levels: u32, range: &IovaRange) -> (Vec<Run>, WalkCounts) {
    let walk = RangeWalk::first_stage(first(levels), Rules::default(), false, range);
    finish(memory, walk)
}

/// Three levels down to the table at 0x3000, which maps the first 2 MiB; the table at 0x2000 maps the first GiB.
fn memory() -> FakeMem {
    let memory = FakeMem::new(1 << 20);
    memory.set(0x1000, 0x2003);
    memory.set(0x2000, 0x3003);
    memory
}

#[test]
fn leaves_that_follow_each_other_are_one_run_across_tables() {
    let memory = memory();
    memory.set(0x2008, 0x4003);
    for page in 0..1024 {
        memory.set(0x3000 + 8 * page, 0x1000_0003 + page * 0x1000);
    }
    let (runs, counts) = runs(&memory, 3, &IovaRange::ALL);
    assert_eq!(runs, [run(0, 0x1000_0000, 0x40_0000, BOTH)]);
    assert_eq!((counts.tables, counts.leaves), (4, 1024));
    assert_eq!(counts.smallest_leaf, Some(12));
    assert_eq!(counts.skips.not_present, 511 + 510);
}

#[test]
fn pages_of_different_sizes_can_be_one_run() {
    let memory = memory();
    memory.set(0x3000 + 8 * 511, 0x11ff_f003);
    memory.set(0x2008, 0x1200_0083);
    memory.set(0x2010, 0x4003);
    memory.set(0x4000, 0x1220_0003);
    let (runs, counts) = runs(&memory, 3, &IovaRange::ALL);
    assert_eq!(runs, [run(0x1f_f000, 0x11ff_f000, 0x20_2000, BOTH)]);
    assert_eq!((counts.leaves, counts.smallest_leaf), (3, Some(12)));
}

#[test]
fn run_ends_where_addresses_or_rights_part() {
    let memory = memory();
    for (index, entry) in [
        (0, 0x10_0003),
        (1, 0x10_1003),
        (2, 0x10_2001),
        (3, 0x10_3002),
        (4, 0x10_5002),
        (6, 0x10_6002),
        (7, 0x10_5002),
    ] {
        memory.set(0x3000 + 8 * index, entry);
    }
    let (runs, counts) = runs(&memory, 3, &range(0, 0x1f_ffff));
    assert_eq!(
        runs,
        [
            run(0, 0x10_0000, 0x2000, BOTH),
            run(0x2000, 0x10_2000, 0x1000, READ),
            run(0x3000, 0x10_3000, 0x1000, WRITE),
            run(0x4000, 0x10_5000, 0x1000, WRITE),
            run(0x6000, 0x10_6000, 0x1000, WRITE),
            run(0x7000, 0x10_5000, 0x1000, WRITE),
        ]
    );
    assert_eq!((counts.leaves, counts.skips.not_present), (7, 505));
}

/// Accessed and dirty bits, snoop and what is ignored do not part runs.
#[test]
fn run_goes_on_over_bits_that_map_nothing_else() {
    let memory = memory();
    for (index, bits) in [(0, 0), (1, 0x300), (2, 0x800), (3, 0x80 << 52), (4, 0x400)] {
        memory.set(0x3000 + 8 * index, (0x10_0003 + 0x1000 * index) | bits);
    }
    let (runs, counts) = runs(&memory, 3, &range(0, 0x4fff));
    assert_eq!(runs, [run(0, 0x10_0000, 0x5000, BOTH)]);
    assert_eq!(counts.leaves, 5);
}

#[test]
fn range_inside_a_page_gives_its_bytes() {
    let memory = memory();
    memory.set(0x3008, 0x10_0003);
    let (runs, counts) = runs(&memory, 3, &range(0x1234, 0x1235));
    assert_eq!(runs, [run(0x1234, 0x10_0234, 2, BOTH)]);
    assert_eq!((counts.tables, counts.leaves), (3, 1));
    assert_eq!(counts.skips, Skips::default());
}

#[test]
fn range_that_straddles_pages_and_tables_is_cut_at_both_ends() {
    let memory = memory();
    memory.set(0x2008, 0x4003);
    memory.set(0x3000 + 8 * 511, 0x10_0001);
    memory.set(0x4000, 0x10_1001);
    memory.set(0x4008, 0x10_2001);
    let (runs, counts) = runs(&memory, 3, &range(0x1f_fff8, 0x20_1007));
    assert_eq!(runs, [run(0x1f_fff8, 0x10_0ff8, 0x1010, READ)]);
    assert_eq!((counts.tables, counts.leaves), (4, 3));
}

#[test]
fn large_page_partly_in_the_range_is_cut() {
    let memory = memory();
    memory.set(0x1008, 0x8000_0083);
    memory.set(0x2000, 0x20_0083);
    let parts = [
        (
            range(0x1000, 0x1fff),
            run(0x1000, 0x20_1000, 0x1000, BOTH),
            21,
        ),
        (
            range(0x4000_1000, 0x7fff_ffff),
            run(0x4000_1000, 0x8000_1000, 0x3fff_f000, BOTH),
            30,
        ),
        (
            range(0x7fff_f000, 0x8000_0fff),
            run(0x7fff_f000, 0xbfff_f000, 0x1000, BOTH),
            30,
        ),
    ];
    for (range, expected, shift) in parts {
        let (runs, counts) = runs(&memory, 3, &range);
        assert_eq!(runs, [expected]);
        assert_eq!(counts.smallest_leaf, Some(shift));
    }
}

#[test]
fn rights_stack_down_the_levels() {
    let memory = memory();
    memory.set(0x1000, 0x2001);
    memory.set(0x2008, 0x4002);
    memory.set(0x3000, 0x10_0003);
    memory.set(0x3008, 0x10_1002);
    let (runs, counts) = runs(&memory, 3, &IovaRange::ALL);
    assert_eq!(runs, [run(0, 0x10_0000, 0x1000, READ)]);
    assert_eq!(counts.skips.no_permission, 2, "a leaf and a table");
    assert_eq!(counts.tables, 3, "the table without rights is not read");
}

#[test]
fn each_skip_is_counted_by_its_reason() {
    let memory = memory();
    memory.set(0x1008, 0x20_0003);
    memory.set(0x1010, 0x4000_0000_0000_2003);
    memory.set(0x3000, 0x10_0803);
    memory.set(0x3008, 0x1_0000_0010_0003);
    memory.set(0x3010, 0xfee0_0003);
    memory.set(0x3018, 0xfeef_f003);
    memory.set(0x3020, 0xfef0_0003);
    memory.set(0x2010, 0xfec0_0083);
    memory.set(0x2018, 0x1000_1083);
    let (runs, counts) = runs(&memory, 3, &IovaRange::ALL);
    let skips = Skips {
        not_present: 509 + 509 + 507,
        unreadable: 1,
        reserved: 3,
        no_permission: 0,
        interrupt_range: 2,
        beyond_width: 1,
    };
    assert_eq!(counts.skips, skips);
    let expected = [
        run(0, 0x10_0000, 0x1000, BOTH),
        run(0x4000, 0xfef0_0000, 0x1000, BOTH),
        run(0x40_0000, 0xfec0_0000, 0x20_0000, BOTH),
    ];
    assert_eq!(runs, expected);
}

/// The pages right below and right above the interrupt range are one another's neighbours nowhere.
#[test]
fn run_stops_short_of_the_interrupt_range() {
    let memory = memory();
    for page in 0..0x1ff {
        memory.set(0x3000 + 8 * page, 0xfede_f003 + page * 0x1000);
    }
    let (runs, counts) = runs(&memory, 3, &range(0, 0x1f_ffff));
    assert_eq!(
        runs,
        [
            run(0, 0xfede_f000, 0x1_1000, BOTH),
            run(0x11_1000, 0xfef0_0000, 0xe_e000, BOTH),
        ]
    );
    assert_eq!(counts.skips.interrupt_range, 0x100);
}

/// The last page of the host's addresses has no successor.
#[test]
fn run_stops_at_the_host_address_width() {
    let memory = memory();
    memory.set(0x3000, 0xffff_ffff_f003);
    memory.set(0x3008, 0x1_0000_0000_0003);
    let (runs, counts) = runs(&memory, 3, &range(0, 0x1fff));
    assert_eq!(runs, [run(0, 0xffff_ffff_f000, 0x1000, BOTH)]);
    assert_eq!(counts.skips.reserved, 1);
}

#[test]
fn unreadable_top_table_is_skipped_whole() {
    let memory = FakeMem::new(0x1000);
    let (runs, counts) = runs(&memory, 4, &range(0x1234, 0x5678));
    assert_eq!(runs, []);
    assert_eq!((counts.tables, counts.skips.unreadable), (0, 1));
}

#[test]
fn range_beyond_the_width_is_skipped_or_cut() {
    let memory = memory();
    memory.set(0x1000 + 8 * 511, 0x4000_0083);
    let (cut, counts) = runs(&memory, 3, &range(0x7f_ffff_f000, 0x80_0000_0fff));
    assert_eq!(cut, [run(0x7f_ffff_f000, 0x7fff_f000, 0x1000, BOTH)]);
    assert_eq!((counts.tables, counts.skips.beyond_width), (1, 1));
    let (none, counts) = runs(&memory, 3, &range(0x80_0000_0000, u64::MAX));
    assert_eq!(none, []);
    assert_eq!((counts.tables, counts.skips.beyond_width), (0, 1));
}

/// The unit's width cuts tables that are wider.
#[test]
fn width_of_the_unit_cuts_wider_tables() {
    let options = LegacyOptions {
        address_width: AddressWidth::Bits39,
        ..LegacyOptions::default()
    };
    let capabilities = Capabilities::legacy(&options).unwrap();
    let memory = memory();
    memory.set(0x1008, 0x2003);
    let mut walk = RangeWalk::second_stage(second(4), &capabilities, &IovaRange::ALL);
    let mut runs = Vec::new();
    walk.advance(&memory, &capabilities, WalkBudget::UNLIMITED, &mut runs);
    let counts = walk.counts();
    assert_eq!((counts.tables, counts.skips.beyond_width), (3, 1));
}

#[test]
fn last_page_of_the_space_is_walked() {
    let memory = FakeMem::new(1 << 20);
    for (at, entry) in [
        (0x1ff8, 0x2007),
        (0x2ff8, 0x3007),
        (0x3ff8, 0x4007),
        (0x4ff0, 0x10_0007),
        (0x4ff8, 0x10_1007),
    ] {
        memory.set(at, entry);
    }
    let (all, counts) = user_runs(&memory, 4, &IovaRange::ALL);
    assert_eq!(all, [run(u64::MAX - 0x1fff, 0x10_0000, 0x2000, BOTH)]);
    assert_eq!(all[0].last(), Iova(u64::MAX));
    assert_eq!((counts.tables, counts.skips.beyond_width), (4, 1));
    let (last, counts) = user_runs(&memory, 4, &range(u64::MAX - 0xfff, u64::MAX));
    assert_eq!(last, [run(u64::MAX - 0xfff, 0x10_1000, 0x1000, BOTH)]);
    assert_eq!((counts.tables, counts.leaves), (4, 1));
    assert_eq!(counts.skips, Skips::default());
}

/// What lies between the two halves of first-stage addresses is mapped by nothing, though the top table has entries there.
#[test]
fn first_stage_addresses_that_are_not_canonical_are_skipped() {
    let memory = FakeMem::new(1 << 20);
    memory.set(0x1000 + 8 * 255, 0x2007);
    memory.set(0x1000 + 8 * 256, 0x2007);
    memory.set(0x2000, 0x4000_0087);
    memory.set(0x2ff8, 0x4000_0087);
    let (runs, _) = user_runs(&memory, 4, &range(0x7fff_c000_0000, 0xffff_8000_3fff_ffff));
    assert_eq!(
        runs,
        [
            run(0x7fff_c000_0000, 0x4000_0000, 0x4000_0000, BOTH),
            run(0xffff_8000_0000_0000, 0x4000_0000, 0x4000_0000, BOTH),
        ]
    );
}

#[test]
fn first_stage_rights_follow_privilege() {
    let memory = FakeMem::new(1 << 20);
    for (at, entry) in [
        (0x1000, 0x2007),
        (0x2000, 0x3007),
        (0x3000, 0x4007),
        (0x3008, 0x5003),
        (0x4000, 0x10_0007),
        (0x4008, 0x10_1005),
        (0x4010, 0x10_2003),
        (0x5000, 0x10_3007),
    ] {
        memory.set(at, entry);
    }
    let all = range(0, 0x7fff_ffff_ffff);
    let (user, counts) = user_runs(&memory, 4, &all);
    let expected = [
        run(0, 0x10_0000, 0x1000, BOTH),
        run(0x1000, 0x10_1000, 0x1000, READ),
    ];
    assert_eq!(user, expected);
    assert_eq!((counts.skips.no_permission, counts.tables), (2, 4));
    let supervisor = |write_protect| {
        let rules = Rules::new().with_write_protect(write_protect);
        finish(&memory, RangeWalk::first_stage(first(4), rules, true, &all)).0
    };
    let last = run(0x20_0000, 0x10_3000, 0x1000, BOTH);
    assert_eq!(supervisor(false), [run(0, 0x10_0000, 0x3000, BOTH), last]);
    let expected = [
        expected[0],
        expected[1],
        run(0x2000, 0x10_2000, 0x1000, BOTH),
        last,
    ];
    assert_eq!(supervisor(true), expected);
}

/// Pages scattered over 57 bits: one table of each level for each of them, the top one shared, and nothing else is read.
#[test]
fn sparse_space_reads_exactly_the_tables_that_are_there() {
    let memory = FakeMem::new(1 << 20);
    let mut next = 0x2000;
    let indices = [
        [0, 0, 0, 0, 0],
        [3, 511, 7, 0, 1],
        [200, 1, 2, 3, 4],
        [511; 5],
    ];
    for path in indices {
        let mut table = 0x1000;
        for index in &path[..4] {
            memory.set(table + 8 * index, next | 3);
            table = next;
            next += 0x1000;
        }
        memory.set(table + 8 * path[4], 0x7_7003);
    }
    let (runs, counts) = runs(&memory, 5, &IovaRange::ALL);
    assert_eq!(runs.len(), 4);
    assert_eq!((counts.tables, counts.leaves), (1 + 4 * 4, 4));
    assert_eq!(memory.reads(), counts.tables, "each with one read");
    assert_eq!(counts.skips.not_present, 508 + 16 * 511);
    assert_eq!(runs[1].iova, Iova(3 << 48 | 511 << 39 | 7 << 30 | 1 << 12));
}

#[test]
fn empty_space_reads_one_table() {
    let memory = FakeMem::new(1 << 20);
    let (runs, counts) = runs(&memory, 5, &IovaRange::ALL);
    assert_eq!(runs, []);
    assert_eq!((counts.tables, memory.reads()), (1, 1));
    assert_eq!(counts.skips.not_present, 512);
}

/// Both halves of first-stage addresses are in one top table.
#[test]
fn empty_first_stage_space_reads_one_table() {
    let memory = FakeMem::new(1 << 20);
    let (runs, counts) = user_runs(&memory, 5, &IovaRange::ALL);
    assert_eq!(runs, []);
    assert_eq!((counts.tables, memory.reads()), (1, 1));
    assert_eq!(counts.skips.not_present, 512);
}
