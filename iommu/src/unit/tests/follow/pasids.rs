// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much is read and told of many PASIDs, and what a directory that names one table again and again comes to.

use super::scalable::{DIRECTORY, second, short};
use super::*;

/// 1,000 bound PASIDs in 16 tables.
fn thousand() -> Bed {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 7, 0);
    for pasid in 0..1000 {
        let table = 0x4_0000 + pasid / 64 * 0x1000;
        bed.directory(pasid, table);
        bed.entry(
            table,
            pasid,
            second(0x3_0000 + pasid % 7 * 0x1000, pasid % 7),
        );
    }
    bed.enable();
    assert_eq!(bed.follow(D, DEVICE).len(), 1000);
    bed
}

#[test]
fn one_change_among_a_thousand_is_one_event_and_reads_what_is_populated() {
    let bed = thousand();
    let before = bed.bench.unit.counters().follow;
    bed.entry(0x4_0000 + 0x7000, 500, second(0x3_8000, 9));
    let told = bed.submit(&[(0x37, 0)]);
    assert_eq!(told.len(), 1);
    assert_eq!(short(&told[0]), ("rebind", 500, Some((9, 0x3_8000))));
    let after = bed.bench.unit.counters().follow;
    assert_eq!(
        (after.batches, after.events),
        (before.batches + 1, before.events + 1)
    );
    let tables = |counters: crate::counters::FollowCounters| counters.pasid_walks.tables;
    assert_eq!(tables(after) - tables(before), 16);
}

/// However often a batch names everything, it is looked at once.
#[test]
fn batch_looks_at_each_device_once() {
    let bed = thousand();
    let before = bed.bench.unit.counters().follow.pasid_walks;
    let mut batch: Vec<_> = (0..40u64).map(|domain| (0x07 | domain << 16, 0)).collect();
    batch.extend([(0x37, 0); 10]);
    assert_eq!(bed.submit(&batch), []);
    let after = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!(after.tables - before.tables, 16);
    batch.extend([(0x11, 0); 10]);
    assert_eq!(bed.submit(&batch), []);
    let last = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!(last.tables - after.tables, 16);
}

#[test]
fn sparse_space_reads_a_table_for_each_populated_part() {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 7, 0);
    for (pasid, table) in [(1, 0x2_0000), (0x1_2345, 0x2_1000), (0xf_fffe, 0x2_2000)] {
        bed.directory(pasid, table);
        bed.entry(table, pasid, second(0x3_0000, 5));
    }
    bed.enable();
    let told = bed.follow(D, DEVICE);
    let pasids: Vec<_> = told[1..].iter().map(|event| short(event).1).collect();
    assert_eq!(pasids, [1, 0x1_2345, 0xf_fffe]);
    let walks = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!((walks.directory_pages, walks.tables), (32, 3));
}

/// All 2^14 directory entries name one full table: 2^20 PASIDs.
fn aliased() -> Bed {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 7, 0);
    for index in 0..1 << 14 {
        bed.directory(index * 64, 0x4_0000);
    }
    for pasid in 0..64 {
        bed.entry(0x4_0000, pasid, second(0x3_0000, 5));
    }
    bed.enable();
    bed
}

#[test]
fn aliased_directory_meets_the_budget_of_bindings() {
    let bed = aliased();
    let budget = PasidBudget {
        bindings: 100,
        ..BUDGET
    };
    let told = bed.follow_with(D, DEVICE, budget);
    assert_eq!(told.len(), 1 + 100);
    assert_eq!(short(&told[100]).1, 100, "the lowest come first");
    assert_eq!(bed.faults(), [(0x5b, 1)]);
    // The record names the first PASID that found no room: PP is bit 31, the PASID 59:40, the reason 39:32.
    let record = bed.bench.r64(0x228);
    assert_eq!(record & 0xffff, u64::from(DEVICE));
    assert_eq!((record >> 31 & 1, record >> 40 & 0xf_ffff), (1, 101));
    bed.submit(&[(0x37, 0)]);
    let one = |pasid: u64| (0x17 | 5 << 16 | pasid << 32, 0);
    assert_eq!(bed.submit(&[one(5000), one(5001)]), []);
    assert_eq!(bed.faults(), [(0x5b, 1)], "the guest learns it once");
    let walks = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!((walks.tables, walks.over_budget), (4, 4));
    // With room again, the next failure is news.
    for index in 1..1 << 14 {
        bed.directory(index * 64, 0);
    }
    assert_eq!(bed.submit(&[(0x37, 0)]).len(), 100 - 63);
    for index in 1..1 << 14 {
        bed.directory(index * 64, 0x4_0000);
    }
    assert_eq!(bed.submit(&[(0x37, 0)]).len(), 100 - 63);
    assert_eq!(bed.faults(), [(0x5b, 2)]);
}

#[test]
fn aliased_directory_meets_the_budget_of_tables() {
    let bed = aliased();
    for pasid in 1..64 {
        bed.entry(0x4_0000, pasid, [0; 3]);
    }
    let budget = PasidBudget {
        tables: 10,
        ..BUDGET
    };
    let told = bed.follow_with(D, DEVICE, budget);
    assert_eq!(told.len(), 1 + 9, "PASID 0 is the device's own");
    assert_eq!(bed.faults(), [(0x5b, 1)]);
    assert_eq!(bed.bench.r64(0x228) >> 40 & 0xf_ffff, 640);
    assert_eq!(bed.bench.unit.counters().follow.pasid_walks.tables, 10);
}

/// Entries of other domains that went without being named keep their place in the budget.
#[test]
fn budget_holds_for_domains_one_after_the_other() {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 0, 0);
    bed.directory(0, 0x4_0000);
    for pasid in 1..=4 {
        bed.entry(0x4_0000, pasid, second(0x3_0000, 5));
    }
    bed.enable();
    let budget = PasidBudget {
        bindings: 4,
        ..BUDGET
    };
    assert_eq!(bed.follow_with(D, DEVICE, budget).len(), 1 + 4);
    for pasid in 1..=4 {
        bed.entry(0x4_0000, pasid, [0; 3]);
        bed.entry(0x4_0000, pasid + 10, second(0x3_0000, 6));
    }
    assert_eq!(bed.submit(&[(0x0006_0007, 0)]), []);
    assert_eq!(bed.faults(), [(0x5b, 1)]);
    assert_eq!(bed.submit(&[(0x37, 0)]).len(), 4 + 4);
}

#[test]
fn pasid_that_the_device_cannot_send_is_not_bound() {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 0, 0);
    bed.directory(0, 0x4_0000);
    bed.entry(0x4_0000, 31, second(0x3_0000, 5));
    bed.entry(0x4_0000, 32, second(0x3_0000, 5));
    bed.enable();
    let budget = PasidBudget { bits: 5, ..BUDGET };
    let told = bed.follow_with(D, DEVICE, budget);
    assert_eq!(told.len(), 2);
    assert_eq!(short(&told[1]).1, 31);
    assert_eq!(bed.submit(&[(0x17 | 5 << 16 | 32 << 32, 0)]), []);
}

#[test]
fn directory_that_is_no_memory_binds_nothing() {
    let bed = Bed::scalable();
    let at = 0x9000 + 32 * u64::from(DEVICE);
    // One page of the directory of four lies at the end of RAM.
    bed.set(at, 0xf_f000 | 4 << 9 | 9);
    bed.set(0xf_f000, 0x4_0001);
    bed.entry(0x4_0000, 1, second(0x3_0000, 5));
    bed.enable();
    let told = bed.follow(D, DEVICE);
    assert_eq!(told.len(), 2);
    let walks = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!((walks.directory_pages, walks.skipped), (4, 511 + 3 * 512));
    assert_eq!(DIRECTORY % 0x1000, 0);
}
