// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The accessed and dirty bits that requests leave behind.

use super::*;
use crate::address::IovaRange;
use crate::ids::DomainId;
use crate::invalidation::Invalidation;

/// Words of the tables after one request of `pasid` to 0x1000, which need not be allowed.
fn after<const N: usize>(
    edits: &[(u64, u64)],
    pasid: u32,
    access: Access,
    words: [u64; N],
) -> [u64; N] {
    let bench = Bench::scalable();
    for (gpa, word) in edits {
        bench.memory.set(*gpa, *word);
    }
    let _outcome = bench.with_pasid(pasid, 0x1000, access);
    words.map(|gpa| bench.memory.word(gpa))
}

/// First-stage tables as processors make them, nothing used yet.
const FRESH: [(u64, u64); 4] = [
    (0x2_0000, 0x2_1007),
    (0x2_1000, 0x2_2007),
    (0x2_2000, 0x2_3007),
    (0x2_3008, 0x9007),
];
const LEVELS: [u64; 4] = [0x2_0000, 0x2_1000, 0x2_2000, 0x2_3008];
const TRACKED_LEVELS: [u64; 4] = [0x7_0000, 0x7_1000, 0x7_2000, 0x7_3008];

#[test]
fn first_stage_read_sets_accessed_at_every_level() {
    assert_eq!(
        after(&FRESH, FIRST, Access::Read, LEVELS),
        [0x2_1027, 0x2_2027, 0x2_3027, 0x9027]
    );
}

#[test]
fn first_stage_write_sets_dirty_in_the_leaf() {
    for access in [Access::Write, Access::Atomic] {
        assert_eq!(
            after(&FRESH, FIRST, access, LEVELS),
            [0x2_1027, 0x2_2027, 0x2_3027, 0x9067]
        );
    }
}

#[test]
fn extended_accessed_is_set_where_it_is_enabled() {
    let mut edits = FRESH.to_vec();
    edits.push((0x5050, 0x2_0080));
    assert_eq!(
        after(&edits, FIRST, Access::Read, LEVELS),
        [0x2_1427, 0x2_2427, 0x2_3427, 0x9427]
    );
}

#[test]
fn second_stage_is_marked_where_that_is_enabled() {
    assert_eq!(
        after(&[], TRACKED, Access::Read, TRACKED_LEVELS),
        [0x7_1103, 0x7_2103, 0x7_3103, 0x9103]
    );
    assert_eq!(
        after(&[], TRACKED, Access::Write, TRACKED_LEVELS),
        [0x7_1103, 0x7_2103, 0x7_3103, 0x9303]
    );
    let untracked = [(0x5180, 0x7_0089)];
    assert_eq!(
        after(&untracked, TRACKED, Access::Write, TRACKED_LEVELS),
        [0x7_1003, 0x7_2003, 0x7_3003, 0x9003]
    );
}

#[test]
fn refused_request_leaves_nothing() {
    let mut no_write = FRESH.to_vec();
    no_write.push((0x2_3008, 0x9005));
    assert_eq!(
        after(&no_write, FIRST, Access::Write, LEVELS),
        [0x2_1007, 0x2_2007, 0x2_3007, 0x9005]
    );
    let interrupt_range = [(0x7_3008, 0xfee0_0003)];
    assert_eq!(
        after(&interrupt_range, TRACKED, Access::Write, TRACKED_LEVELS),
        [0x7_1003, 0x7_2003, 0x7_3003, 0xfee0_0003]
    );
}

/// An update of the first stage is a write to the page that holds it; the target page is written too.
#[test]
fn nested_updates_mark_the_second_stage_too() {
    let bench = Bench::scalable();
    bench.memory.set(0x5080, 0x1_02c9);
    bench.memory.set(0x8_3008, 0x1007);
    bench.with_pasid(NESTED, 0x1000, Access::Write).unwrap();
    assert_eq!(bench.memory.word(0x8_3008), 0x1067, "first-stage leaf");
    assert_eq!(bench.memory.word(0x1_3198), 0x8_3303, "page of that leaf");
    assert_eq!(
        bench.memory.word(0x1_3180),
        0x8_0103,
        "page of the top table"
    );
    assert_eq!(bench.memory.word(0x1_3008), 0x9303, "target");
    assert_eq!(bench.memory.word(0x1_0000), 0x1_1103, "second-stage top");
}

#[test]
fn nested_read_marks_nothing_dirty() {
    let bench = Bench::scalable();
    bench.memory.set(0x5080, 0x1_02c9);
    bench.with_pasid(NESTED, 0x1000, Access::Read).unwrap();
    assert_eq!(bench.memory.word(0x1_3198), 0x8_3103);
    assert_eq!(bench.memory.word(0x1_3008), 0x9103);
}

/// A page that was read is cached clean: the first write walks again, the second does not.
#[test]
fn write_to_a_clean_cached_page_walks_again() {
    let bench = Bench::scalable();
    bench.with_pasid(TRACKED, 0x1000, Access::Read).unwrap();
    let write = |bench: &Bench| {
        bench.with_pasid(TRACKED, 0x1000, Access::Write).unwrap();
    };
    assert_eq!(bench.reads_of(write), 4);
    assert_eq!(bench.memory.word(0x7_3008), 0x9303);
    assert_eq!(bench.reads_of(write), 0);
}

/// The first stage's dirty bit says nothing of the second's.
#[test]
fn nested_page_is_clean_until_both_stages_are_dirty() {
    for (first, second) in [(0x1067, 0x9003), (0x1027, 0x9303)] {
        let bench = Bench::scalable();
        bench.memory.set(0x5080, 0x1_02c9);
        bench.memory.set(0x8_3008, first);
        bench.memory.set(0x1_3008, second);
        bench.with_pasid(NESTED, 0x1000, Access::Read).unwrap();
        bench.with_pasid(NESTED, 0x1000, Access::Write).unwrap();
        assert_eq!(bench.memory.word(0x8_3008), 0x1067);
        assert_eq!(bench.memory.word(0x1_3008), 0x9303);
    }
}

/// As Linux reads its dirty log: it clears D, invalidates the page, and the next write must say so again.
#[test]
fn cleared_dirty_bit_is_set_again_after_the_invalidation() {
    let bench = Bench::scalable();
    bench.with_pasid(TRACKED, 0x1000, Access::Write).unwrap();
    bench.memory.set(0x7_3008, 0x9103);
    bench.translator.invalidate(&[Invalidation::IotlbPages {
        domain: DomainId(11),
        range: IovaRange::aligned_block(Iova(0x1000), 0),
        leaf_only: true,
    }]);
    bench.with_pasid(TRACKED, 0x1000, Access::Write).unwrap();
    assert_eq!(bench.memory.word(0x7_3008), 0x9303);
}

/// Between the walk and the update the guest moves the page: the bits go to the new entry, and so does the write.
#[test]
fn entry_that_changes_before_its_update_is_walked_again() {
    let bench = Bench::scalable();
    bench.memory.race(0x7_3008, 0xd003);
    assert_eq!(bench.with_pasid(TRACKED, 0x1000, Access::Write), Ok(0xd000));
    assert_eq!(bench.memory.word(0x7_3008), 0xd303);
}

#[test]
fn entry_that_vanishes_before_its_update_faults() {
    let bench = Bench::scalable();
    bench.memory.race(0x7_3008, 0);
    assert_eq!(
        bench.with_pasid(TRACKED, 0x1000, Access::Write),
        Err((0x79, true))
    );
    assert_eq!(bench.memory.word(0x7_3008), 0);
}

/// A right that is taken away in between leaves no dirty bit.
#[test]
fn right_that_vanishes_before_the_update_leaves_no_dirty_bit() {
    let bench = Bench::scalable();
    bench.memory.set(0x2_3008, 0x9027);
    bench.memory.race(0x2_3008, 0x9025);
    assert_eq!(
        bench.with_pasid(FIRST, 0x1000, Access::Write),
        Err((0x85, true))
    );
    assert_eq!(bench.memory.word(0x2_3008), 0x9025);
}

/// An entry that never holds still ends in a fault and not in a loop.
#[test]
fn entry_that_never_holds_still_faults() {
    let bench = Bench::scalable();
    for round in 0..40 {
        bench.memory.race(0x7_3008, 0xd003 + round * 0x1000);
    }
    assert_eq!(
        bench.with_pasid(TRACKED, 0x1000, Access::Write),
        Err((0x7d, true))
    );
    let bench = Bench::scalable();
    for round in 0..40 {
        bench.memory.race(0x2_3008, 0xd007 + round * 0x1000);
    }
    bench.memory.set(0x2_3008, 0xc007);
    assert_eq!(
        bench.with_pasid(FIRST, 0x1000, Access::Write),
        Err((0x91, true))
    );
}
