// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Changes of the guest's tables reach the host as they are, and nothing else does.

use super::rig::*;
use crate::backend::fake::Call;
use crate::run::Rights;
use iommu::follow::Attachment;

#[test]
fn contiguous_small_pages_are_one_call_for_each_piece_of_ram() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_pages(root, 0x1_0000_0000, 0, GIB);
        rig.map_pages(root, 0x1_4000_0000, 4 * GIB, 16 * LARGE);
        rig.attach(A, rig.domain(1, root));
        assert_eq!(rig.mapping_calls().len(), 2);
        assert_eq!(
            rig.reached(A),
            [
                rw(0x1_0000_0000, GIB, 0),
                rw(0x1_4000_0000, 16 * LARGE, 4 * GIB)
            ]
        );
        assert_eq!(rig.mirror.stats().leaves, (GIB + 16 * LARGE) / PAGE);
    }
}

#[test]
fn table_of_512_pages_is_read_once() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x10_0000, LARGE);
    let before = rig.memory.reads();
    rig.attach(A, rig.domain(1, root));
    assert_eq!(rig.memory.reads() - before, 4);
    assert_eq!(rig.mirror.stats().tables, 4);
}

#[test]
fn domain_invalidation_calls_the_host_only_for_what_differs() {
    for mut rig in Rig::both() {
        let root = rig.table();
        for n in 0..64 {
            rig.map(root, 2 * n * PAGE, 0x100_0000 + n * PAGE, RW);
        }
        rig.attached(root);
        rig.tell(domain_invalidated(1));
        assert_eq!(rig.mapping_calls(), []);
        rig.clear(root, 20 * PAGE, 1);
        rig.map(root, 0x40_0000, 0x5000, R);
        rig.tell(domain_invalidated(1));
        let calls: Vec<_> = rig
            .mapping_calls()
            .iter()
            .map(|logged| logged.call)
            .collect();
        assert!(
            matches!(calls[..], [Call::Unmap(_, gone), Call::Map(_, new, _)]
                if gone == range(20 * PAGE, PAGE) && new == run(0x40_0000, PAGE, 0x5000, Rights::Read)),
            "{calls:?}"
        );
    }
}

#[test]
fn invalidation_of_another_domain_touches_nothing() {
    for mut rig in Rig::both() {
        let (one, two) = (rig.table(), rig.table());
        rig.map(one, 0, 0x5000, RW);
        rig.attached(one);
        rig.attach(B, rig.domain(2, two));
        rig.clear(one, 0, 1);
        let walks = rig.mirror.stats().walks;
        let _ = rig.host.take_log();
        rig.tell(domain_invalidated(2));
        rig.tell(domain_invalidated(7));
        assert_eq!(rig.host.take_log(), []);
        assert_eq!(rig.reached(A), [rw(0, PAGE, 0x5000)]);
        assert_eq!(rig.mirror.stats().walks, walks + 1);
    }
}

#[test]
fn changed_page_leaves_its_neighbours_mapped() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, LARGE);
    rig.attached(root);
    rig.map(root, 7 * PAGE, 0x900_0000, RW);
    rig.tell(pages_invalidated(1, 7 * PAGE, PAGE));
    let calls: Vec<_> = rig
        .mapping_calls()
        .iter()
        .map(|logged| logged.call)
        .collect();
    assert!(
        matches!(calls[..], [Call::CutOut(_, cut), Call::Map(_, new, _)]
            if cut == range(7 * PAGE, PAGE) && new == rw(7 * PAGE, PAGE, 0x900_0000)),
        "{calls:?}"
    );
    assert_eq!(rig.mirror.stats().gaps, 0);
}

#[test]
fn changed_page_on_a_host_that_cannot_cut_counts_a_gap_and_restores_the_rest() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, LARGE);
    rig.attached(root);
    rig.clear(root, 7 * PAGE, 1);
    rig.tell(pages_invalidated(1, 7 * PAGE, PAGE));
    assert_eq!(
        rig.reached(A),
        [
            rw(0, 7 * PAGE, 0x100_0000),
            rw(8 * PAGE, LARGE - 8 * PAGE, 0x100_8000)
        ]
    );
    assert_eq!(rig.mirror.stats().gaps, 1);
}

#[test]
fn runs_of_different_batches_stay_apart_where_mappings_cannot_be_cut() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.attached(root);
    for n in 0..4 {
        rig.map(root, n * PAGE, 0x100_0000 + n * PAGE, RW);
        rig.tell(pages_invalidated(1, n * PAGE, PAGE));
    }
    assert_eq!(rig.reached(A).len(), 4);
    for n in 0..4 {
        rig.clear(root, n * PAGE, 1);
        rig.tell(pages_invalidated(1, n * PAGE, PAGE));
    }
    assert_eq!(rig.mirror.stats().gaps, 0);
}

#[test]
fn large_page_that_becomes_small_ones_leaves_nothing_stale() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_large(root, LARGE, 8 * LARGE, RW);
        rig.attached(root);
        rig.clear(root, LARGE, 2);
        for n in (0..512).step_by(2) {
            rig.map(root, LARGE + n * PAGE, 8 * LARGE + n * PAGE, RW);
        }
        rig.tell(pages_invalidated(1, LARGE, LARGE));
        assert_eq!(rig.pages(A), rig.expected(root, 512..1024));
        rig.map_large(root, LARGE, 8 * LARGE, RW);
        rig.tell(pages_invalidated(1, LARGE, LARGE));
        assert_eq!(rig.pages(A), rig.expected(root, 512..1024));
        assert_eq!(rig.pages(A).len(), 512);
    }
}

#[test]
fn large_page_that_becomes_the_same_small_ones_costs_no_call() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_large(root, LARGE, 8 * LARGE, RW);
        rig.attached(root);
        rig.clear(root, LARGE, 2);
        rig.map_pages(root, LARGE, 8 * LARGE, LARGE);
        rig.tell(pages_invalidated(1, LARGE, LARGE));
        assert_eq!(rig.mapping_calls(), []);
    }
}

#[test]
fn page_whose_entry_gets_reserved_bits_goes() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_pages(root, 0, 0x100_0000, 4 * PAGE);
        rig.attached(root);
        rig.map(root, PAGE, 0x100_1000, RW | RESERVED);
        rig.tell(pages_invalidated(1, PAGE, PAGE));
        assert_eq!(rig.pages(A).keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(rig.mirror.stats().skips.reserved, 1);
    }
}

#[test]
fn pages_below_a_table_that_is_no_memory_go() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_pages(root, 0, 0x100_0000, 4 * PAGE);
        rig.attached(root);
        let place = rig.entry(root, 0, 2);
        rig.memory.set(place, 0x80_0000_0000 | RW);
        rig.tell(domain_invalidated(1));
        assert_eq!(rig.reached(A), []);
        assert_eq!(rig.mirror.stats().skips.unreadable, 1);
    }
}

#[test]
fn page_that_may_only_be_read_or_written_is_mapped_so() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, R);
        rig.map(root, PAGE, 0x6000, W);
        rig.attached(root);
        assert_eq!(
            rig.reached(A),
            [
                run(0, PAGE, 0x5000, Rights::Read),
                run(PAGE, PAGE, 0x6000, Rights::Write)
            ]
        );
        rig.map(root, 0, 0x5000, RW);
        rig.tell(pages_invalidated(1, 0, PAGE));
        assert_eq!(rig.reached(A)[0], rw(0, PAGE, 0x5000));
        assert_eq!(rig.mirror.stats().rights_changes, 1);
    }
}

#[test]
fn leaf_that_straddles_the_interrupt_window_is_split_round_it() {
    for mut rig in Rig::both() {
        let root = rig.table();
        let place = rig.entry(root, 0xc000_0000, 3);
        rig.memory.set(place, (4 * GIB) | RW | PS);
        rig.attached(root);
        assert_eq!(
            rig.reached(A),
            [
                rw(0xc000_0000, 0x3ee0_0000, 4 * GIB),
                rw(0xfef0_0000, 0x110_0000, 4 * GIB + 0x3ef0_0000)
            ]
        );
        assert_eq!(rig.mirror.stats().dropped.interrupt_window, 1);
        rig.memory.set(place, 0);
        rig.tell(pages_invalidated(1, 0xfee0_0000, PAGE));
        rig.tell(domain_invalidated(1));
        assert_eq!(rig.reached(A), []);
    }
}

#[test]
fn leaf_that_points_at_nothing_is_dropped_and_counted() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map_large(root, 0, GIB - LARGE, RW);
        rig.map_large(root, LARGE, GIB, RW);
        rig.map(root, 2 * LARGE, 0xfed0_0000, RW);
        rig.attached(root);
        assert_eq!(rig.reached(A), [rw(0, LARGE, GIB - LARGE)]);
        assert_eq!(rig.mirror.stats().dropped.nothing_there, 2);
        assert!(rig.mirror.tables().iter().all(|table| table.unsynced == 0));
    }
}

#[test]
fn invalidations_of_one_batch_are_one_walk_of_each_merged_range() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.attached(root);
    rig.map_pages(root, 0, 0x100_0000, 64 * PAGE);
    let events: Vec<_> = (0..64)
        .rev()
        .map(|n| pages_invalidated(1, n * PAGE, PAGE))
        .collect();
    let walks = rig.mirror.stats().walks;
    let answer = rig.unit.apply(&events);
    assert!(answer.results.iter().all(Result::is_ok));
    assert_eq!(answer.results.len(), 64);
    assert_eq!(rig.mirror.stats().walks, walks + 1);
    assert_eq!(rig.mapping_calls().len(), 1);
}

#[test]
fn pages_freed_apart_with_nothing_between_go_in_one_call() {
    for mut rig in Rig::both() {
        let root = rig.table();
        for n in [0, 2, 4] {
            rig.map(root, n * PAGE, 0x100_0000 + n * LARGE, RW);
        }
        rig.attached(root);
        for n in [0, 2, 4] {
            rig.clear(root, n * PAGE, 1);
        }
        let events = [0, 2, 4].map(|n| pages_invalidated(1, n * PAGE, PAGE));
        let _ = rig.unit.apply(&events);
        assert_eq!(rig.mapping_calls().len(), 1);
        assert_eq!(rig.reached(A), []);
    }
}

#[test]
fn device_that_is_blocked_reaches_nothing() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.attached(root);
        rig.attach(A, Attachment::Blocked);
        assert_eq!(rig.reached(A), []);
        if rig.identity().is_some() {
            assert_eq!(rig.mirror.tables(), [], "the table served nobody");
        }
    }
}

#[test]
fn device_that_passes_unchanged_reaches_all_ram_and_nothing_else() {
    for rig in Rig::both() {
        rig.attach(A, Attachment::Identity);
        match rig.identity() {
            Some(identity) => assert_eq!(rig.table_of(A), Some(identity)),
            None => assert_eq!(rig.reached(A), [rw(0, GIB, 0), rw(4 * GIB, GIB, 4 * GIB)]),
        }
    }
}

#[test]
fn translation_switched_on_and_off_never_reaches_more_than_before_or_after() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0x5000, 0x5000, RW);
    rig.map(root, 0x8000, 0x20_0000, RW);
    rig.attach(A, Attachment::Identity);
    let _ = rig.host.take_log();
    rig.attach(A, rig.domain(1, root));
    let calls = rig.mapping_calls();
    let first_map = calls
        .iter()
        .position(|logged| matches!(logged.call, Call::Map(..)));
    let last_unmap = calls
        .iter()
        .rposition(|logged| matches!(logged.call, Call::Unmap(..)));
    assert!(last_unmap < first_map, "{calls:?}");
    assert_eq!(rig.pages(A), rig.expected(root, 0..512));
}
