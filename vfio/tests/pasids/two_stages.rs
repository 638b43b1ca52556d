// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries of two stages: the guest's first-stage table, walked by the host, on a copy of its second-stage tables.

mod properties;
mod tables;

use super::guest::{
    A, B, Guest, PASID_CACHE_GLOBAL, Reach, both, endpoint, first, pasid_cache_one,
    pasid_iotlb_pages, second,
};
use super::{TABLE, X, Y, calls, guest};
use tables::{IOTLB_GLOBAL, PAGE, iotlb_domain, iotlb_page, map, naive, root};
use vfio::backend::HostError;
use vfio::backend::fake::{Call, CallKind, FakeOptions, Injection};
use vfio::hardware::Support;
use vfio::nested::Flush;

/// First-stage and second-stage tables of PASID 1, whose domain is 1: two pages are mapped.
fn nested() -> (Guest, u64) {
    let mut guest = guest(FakeOptions::nesting());
    let below = root(0);
    map(&guest, 0, 0, Some((0x100_0000, true)));
    map(&guest, 0, 3, Some((0x200_0000, true)));
    guest.entry(TABLE, 1, both(X, below, 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Both(X, below));
    let _ = calls(&guest);
    let _ = guest.host.take_flushes();
    (guest, below)
}

#[test]
fn copy_beneath_holds_what_the_second_stage_maps_before_anything_goes_through_it() {
    let mut guest = guest(FakeOptions::nesting());
    map(&guest, 0, 0, Some((0x100_0000, true)));
    guest.entry(TABLE, 1, both(X, root(0), 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    let calls = calls(&guest);
    assert!(
        matches!(
            calls[..],
            [
                Call::Create(parent),
                Call::CreateNested(nested, table, on),
                Call::Map(filled, ..),
                Call::Attach(to, through),
            ] if on == parent && filled == parent && through == nested
                && table.table.0 == X && to == endpoint(A, Some(1))
        ),
        "{calls:?}"
    );
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
}

#[test]
fn change_of_the_second_stage_is_a_change_of_the_copy_and_nothing_else() {
    let (mut guest, below) = nested();
    map(&guest, 0, 3, None);
    map(&guest, 0, 7, Some((0x300_0000, true)));
    guest.submit(&[iotlb_page(1, 3), iotlb_page(1, 7)]);
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
    assert_eq!(guest.reach(A, Some(1)), Reach::Both(X, below));
    let calls = calls(&guest);
    let [Call::Invalidate(..), changes @ ..] = &calls[..] else {
        panic!("{calls:?}");
    };
    let changes_only = |call: &Call| matches!(call, Call::Map(..) | Call::Unmap(..));
    assert!(
        changes.len() == 2 && changes.iter().all(changes_only),
        "{calls:?}"
    );
}

#[test]
fn invalidations_of_the_first_stage_reach_the_nested_table_alone() {
    let (mut guest, _) = nested();
    guest.submit(&[(pasid_iotlb_pages(1, 1), 0x5000)]);
    let flushes = guest.host.take_flushes();
    assert_eq!(flushes.len(), 1);
    assert!(matches!(calls(&guest)[..], [Call::Invalidate(..)]));
    // Of the second stage: nobody can say which addresses of the first that is.
    guest.submit(&[iotlb_page(1, 3)]);
    assert_eq!(guest.host.take_flushes()[0].1, [Flush::ALL]);
}

#[test]
fn either_stage_that_moves_is_one_replacement_and_nobody_else_is_touched() {
    let (mut guest, below) = nested();
    guest.entry(TABLE, 2, both(X, below, 1));
    guest.submit(&[(pasid_cache_one(0, 2), 0)]);
    for (words, reach, domain) in [
        (both(Y, below, 1), Reach::Both(Y, below), 1),
        (both(Y, root(1), 2), Reach::Both(Y, root(1)), 1),
        (first(Y, 3), Reach::First(Y), 2),
        (second(below, 4), Reach::Second(below), 3),
        (both(X, below, 1), Reach::Both(X, below), 4),
    ] {
        let before = guest.host.replaced(endpoint(A, Some(1)));
        let _ = calls(&guest);
        guest.entry(TABLE, 1, words);
        guest.submit(&[(pasid_cache_one(domain, 1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), reach);
        assert_eq!(guest.reach(A, Some(2)), Reach::Both(X, below));
        assert_eq!(guest.host.replaced(endpoint(A, Some(1))), before + 1);
        let other = |call: &Call| match call {
            Call::Attach(to, _) | Call::Detach(to) => *to != endpoint(A, Some(1)),
            _ => false,
        };
        assert!(!calls(&guest).iter().any(other));
    }
    assert_eq!(guest.host.nested_tables().len(), 1, "what they share");
    guest.unplug(A);
    assert!(guest.host.nested_tables().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
}

#[test]
fn devices_and_pasids_share_both_tables_and_a_copy_without_a_first_stage_is_another() {
    let (mut guest, below) = nested();
    guest.plug(B);
    guest.entry(TABLE, 2, both(Y, below, 2));
    guest.entry(TABLE, 3, second(below, 3));
    map(&guest, 0, 5, Some((0x500_0000 / 4, false)));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0), IOTLB_GLOBAL]);
    assert_eq!(guest.host.nested_tables().len(), 2);
    let ground = |device, pasid| guest.host.ground(endpoint(device, Some(pasid)));
    assert_eq!(ground(A, 1), ground(B, 2));
    assert_ne!(ground(A, 1), ground(A, 3));
    assert_eq!(guest.mapped(A, Some(3)), naive(&guest, 0, false));
    assert_eq!(guest.mapped(B, Some(1)), naive(&guest, 0, true));
}

#[test]
fn page_for_reading_only_is_lacking_beneath_and_the_guest_learns_it() {
    let (mut guest, _) = nested();
    map(&guest, 0, 3, Some((0x200_0000, false)));
    guest.submit(&[iotlb_page(1, 3)]);
    assert_eq!(guest.fault(), Some((0x78, 0x10, 1)));
    assert_eq!(guest.mapped(A, Some(1)).len(), 1);
    assert_eq!(guest.mirror.stats().dropped.read_only, 1);
    // The others work on, and so does this one when it may be written again.
    map(&guest, 0, 3, Some((0x200_0000, true)));
    guest.submit(&[iotlb_page(1, 3)]);
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
    assert_eq!(guest.fault(), None);
}

#[test]
fn copy_that_the_host_does_not_clean_takes_what_stands_on_it_out_of_use() {
    let (mut guest, below) = nested();
    guest.entry(TABLE, 2, first(X, 2));
    guest.submit(&[(pasid_cache_one(0, 2), 0)]);
    map(&guest, 0, 3, None);
    let refusal = Injection::always(CallKind::Remove, HostError::Io);
    guest.host.inject(refusal);
    guest.submit(&[iotlb_page(1, 3)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
    assert_eq!(guest.reach(A, Some(2)), Reach::First(X));
    assert!(guest.fault().is_some());
    assert!(guest.mirror.still_reachable().is_empty());
    guest.host.heal();
    guest.submit(&[iotlb_domain(1)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Both(X, below));
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
}

#[test]
fn device_that_stays_on_an_unclean_copy_is_named() {
    let (mut guest, _) = nested();
    map(&guest, 0, 3, None);
    for kind in [CallKind::Remove, CallKind::Detach] {
        guest.host.inject(Injection::always(kind, HostError::Io));
    }
    guest.submit(&[iotlb_page(1, 3)]);
    assert_eq!(guest.mirror.still_reachable(), [A]);
    // Not even taking the entry away helps.
    guest.entry(TABLE, 1, [0; 3]);
    guest.submit(&[(pasid_cache_one(1, 1), 0)]);
    assert_eq!(guest.mirror.still_reachable(), [A]);
    guest.host.heal();
    guest.entry(TABLE, 2, first(Y, 2));
    guest.submit(&[(pasid_cache_one(0, 2), 0)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Nothing, "any batch");
    assert!(guest.mirror.still_reachable().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
}

#[test]
fn copy_that_the_host_does_not_take_back_serves_nobody_again() {
    let (mut guest, below) = nested();
    let refusal = Injection::always(CallKind::Destroy, HostError::Busy);
    guest.host.inject(refusal);
    guest.entry(TABLE, 1, [0; 3]);
    guest.submit(&[(pasid_cache_one(1, 1), 0)]);
    // Nobody is told of this.
    map(&guest, 0, 3, None);
    guest.entry(TABLE, 1, both(X, below, 1));
    guest.submit(&[(pasid_cache_one(0, 1), 0)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Both(X, below));
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
    guest.host.heal();
    guest.entry(TABLE, 1, [0; 3]);
    guest.submit(&[(pasid_cache_one(1, 1), 0)]);
    assert!(guest.host.nested_tables().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
}

#[test]
fn second_stage_that_costs_too_much_blocks_what_stands_on_it_until_all_of_it_is_invalidated() {
    let (mut guest, below) = nested();
    // A table that is all levels of itself.
    for index in 0..512 {
        guest.set(Y + index * 8, Y | 3);
    }
    let entry = below + 8;
    guest.set(entry, Y | 3);
    guest.submit(&[iotlb_domain(1)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
    assert!(guest.fault().is_some());
    guest.set(entry, 0);
    guest.submit(&[iotlb_domain(1)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Both(X, below));
    assert_eq!(guest.mapped(A, Some(1)), naive(&guest, 0, true));
}

#[test]
fn host_that_does_not_nest_refuses_two_stages_and_the_guest_learns_it() {
    for (options, support) in [
        (FakeOptions::iommufd(), None),
        (
            FakeOptions::nesting(),
            Some(Support::EVERYTHING.without_first_stage()),
        ),
    ] {
        let mut guest = Guest::boot(options);
        guest.directory(0, TABLE);
        if let Some(support) = support {
            guest.host.set_support(A, support);
        }
        guest.plug(A);
        guest.entry(TABLE, 1, both(X, root(0), 1));
        guest.entry(TABLE, 2, second(root(0), 2));
        map(&guest, 0, 0, Some((0x100 * PAGE, true)));
        guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
        assert_eq!(guest.reach(A, Some(2)), Reach::Second(root(0)));
        assert_eq!(guest.fault(), Some((0x5b, 0x10, 1)));
        assert_eq!(guest.host.tables().len(), 2, "all RAM, and PASID 2's");
        assert!(guest.host.nested_tables().is_empty());
    }
}
