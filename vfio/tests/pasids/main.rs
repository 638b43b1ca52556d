// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a descriptor in the guest's queue to a PASID of the host: a real unit in scalable mode, the mirror, and a host that
//! nests.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod guest;
mod properties;
mod two_stages;

use guest::{
    A, B, CONTEXT_GLOBAL, DIRECTORY, Guest, PASID_CACHE_GLOBAL, Reach, both, endpoint, first,
    pasid_cache_domain, pasid_cache_one, pasid_iotlb_all, pasid_iotlb_pages, pass_through, second,
};
use iommu::address::{Iova, IovaRange};
use vfio::backend::HostError;
use vfio::backend::fake::{Call, CallKind, FakeOptions, Injection, Logged};
use vfio::hardware::Support;
use vfio::nested::Flush;

const TABLE: u64 = 0x30_0000;
/// Guests' tables: nobody reads those of the first stage, and those of the second are empty.
const X: u64 = 0x38_0000;
const Y: u64 = 0x38_1000;

/// A guest with device A and one PASID table for PASIDs 0 to 63.
fn guest(options: FakeOptions) -> Guest {
    let guest = Guest::boot(options);
    guest.directory(0, TABLE);
    guest.plug(A);
    guest
}

fn calls(guest: &Guest) -> Vec<Call> {
    let log = guest.host.take_log();
    log.into_iter().map(|Logged { call, .. }| call).collect()
}

#[test]
fn each_kind_of_entry_binds_what_it_says() {
    let mut guest = guest(FakeOptions::nesting());
    guest.entry(TABLE, 0, first(X, 1));
    guest.entry(TABLE, 1, first(Y, 1));
    guest.entry(TABLE, 2, second(Y, 2));
    guest.entry(TABLE, 3, pass_through(3));
    guest.entry(TABLE, 4, both(X, Y, 4));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    assert_eq!(guest.reach(A, None), Reach::First(X), "RID_PASID is 0");
    assert_eq!(guest.reach(A, Some(1)), Reach::First(Y));
    assert_eq!(guest.reach(A, Some(2)), Reach::Second(Y));
    assert_eq!(guest.reach(A, Some(3)), Reach::AllRam);
    assert_eq!(guest.reach(A, Some(4)), Reach::Both(X, Y));
    assert_eq!(guest.reach(A, Some(5)), Reach::Nothing);
    assert_eq!(guest.fault(), None);
}

#[test]
fn devices_and_pasids_with_one_table_share_one_nested_table() {
    let mut guest = guest(FakeOptions::nesting());
    guest.plug(B);
    guest.entry(TABLE, 1, first(X, 1));
    guest.entry(TABLE, 2, first(X, 2));
    // Write protection says nothing where there are no supervisors; with them it does.
    guest.entry(TABLE, 3, first(X | 0x10, 1));
    guest.entry(TABLE, 4, first(X | 0x11, 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    let tables = guest.host.nested_tables();
    assert_eq!(tables.len(), 2, "{tables:?}");
    assert_eq!(guest.reach(B, Some(3)), Reach::First(X));
    // One without page requests is another one.
    let plain = Support {
        page_requests: false,
        ..Support::EVERYTHING
    };
    guest.host.set_support(B, plain);
    for (device, _) in [(A, ()), (B, ())] {
        guest.unplug(device);
        guest.plug(device);
    }
    assert_eq!(guest.host.nested_tables().len(), 4);
    for device in [A, B] {
        guest.unplug(device);
    }
    assert!(guest.host.nested_tables().is_empty());
    assert!(guest.host.attached().is_empty());
}

#[test]
fn entry_that_moves_is_one_replacement_and_nobody_else_is_touched() {
    let mut guest = guest(FakeOptions::nesting());
    for pasid in 1..8 {
        guest.entry(TABLE, pasid, first(X, 1));
    }
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    let _ = calls(&guest);
    guest.entry(TABLE, 5, second(Y, 2));
    guest.submit(&[(pasid_cache_one(1, 5), 0), (pasid_iotlb_all(1, 5), 0)]);
    assert_eq!(guest.reach(A, Some(5)), Reach::Second(Y));
    let attached: Vec<Call> = calls(&guest)
        .into_iter()
        .filter(|call| !matches!(call, Call::Create(_)))
        .collect();
    let [Call::Attach(to, _)] = attached[..] else {
        panic!("{attached:?}");
    };
    assert_eq!(to, endpoint(A, Some(5)));
    assert_eq!(guest.host.replaced(to), 1);
    assert_eq!(guest.mirror.stats().replaced, 1);
}

#[test]
fn own_requests_with_page_requests_are_detached_before_they_move() {
    let mut guest = guest(FakeOptions::nesting());
    guest.entry(TABLE, 0, first(X, 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    guest.entry(TABLE, 0, first(Y, 1));
    guest.submit(&[(pasid_cache_one(1, 0), 0)]);
    assert_eq!(guest.reach(A, None), Reach::First(Y));
    assert_eq!(guest.host.leaks(), 0);
    assert_eq!(guest.mirror.stats().replaced, 1, "nothing, X, Y");
}

#[test]
fn invalidations_of_a_batch_are_one_call_a_table() {
    let mut guest = guest(FakeOptions::nesting());
    guest.entry(TABLE, 1, first(X, 1));
    guest.entry(TABLE, 2, first(Y, 1));
    guest.entry(TABLE, 3, first(Y, 3));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    assert_eq!(guest.host.take_flushes(), [], "nobody has cached anything");
    let pages = |start: u64, last: u64| IovaRange::new(Iova(start), Iova(last)).unwrap();
    // Two neighbours of PASID 1, then 2 MiB of PASID 2, leaves only (IH is bit 6).
    guest.submit(&[
        (pasid_iotlb_pages(1, 1), 0x5000 | 0x40),
        (pasid_iotlb_pages(1, 1), 0x6000 | 0x40),
        (pasid_iotlb_pages(1, 2), 0x20_0000 | 9),
        (pasid_iotlb_pages(7, 2), 0x9000),
    ]);
    let flushes: Vec<_> = guest
        .host
        .take_flushes()
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    let expected = [
        vec![Flush {
            range: pages(0x5000, 0x6fff),
            leaf_only: true,
        }],
        vec![Flush {
            range: pages(0x20_0000, 0x3f_ffff),
            leaf_only: false,
        }],
    ];
    assert_eq!(flushes, expected);
    // The whole domain, by an IOTLB descriptor: both tables, one of which has another tag as well.
    guest.submit(&[(0x1_0022, 0)]);
    let flushes = guest.host.take_flushes();
    assert_eq!(flushes.len(), 2);
    assert!(flushes.iter().all(|(_, what)| *what == [Flush::ALL]));
    guest.submit(&[(pasid_iotlb_all(3, 2), 0)]);
    assert_eq!(guest.host.take_flushes(), [], "no such entry");
}

#[test]
fn refused_pasid_is_blocked_and_one_fault_until_it_is_named_again() {
    let mut guest = guest(FakeOptions::nesting());
    guest.entry(TABLE, 1, first(X, 1));
    guest.entry(TABLE, 2, first(X, 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    for error in [HostError::Busy, HostError::Invalid, HostError::EntryLimit] {
        guest.entry(TABLE, 1, first(Y, 1));
        guest.host.inject(Injection::once(CallKind::Attach, error));
        guest.submit(&[(pasid_cache_one(1, 1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::Nothing, "{error}");
        assert_eq!(guest.reach(A, Some(2)), Reach::First(X));
        assert_eq!(guest.fault(), Some((0x5b, 0x10, 1)));
        guest.submit(&[(pasid_cache_one(9, 1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::Nothing, "not named");
        guest.submit(&[(pasid_cache_domain(1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::First(Y));
        assert_eq!(guest.fault(), None);
        guest.entry(TABLE, 1, first(X, 1));
        guest.submit(&[(pasid_cache_one(1, 1), 0)]);
    }
}

#[test]
fn what_the_host_does_not_have_is_refused_before_anything_is_torn_down() {
    let mut guest = Guest::boot(FakeOptions::nesting());
    guest.directory(0, TABLE);
    guest.directory(0x100, TABLE + 0x1000);
    let small = Support {
        pasid_bits: 8,
        extended_accessed: false,
        supervisor: false,
        ..Support::EVERYTHING
    };
    guest.host.set_support(A, small);
    guest.plug(A);
    guest.entry(TABLE, 1, first(X, 1));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    for bits in [0x1, 0x80] {
        let _ = calls(&guest);
        guest.entry(TABLE, 1, first(X | bits, 1));
        guest.submit(&[(pasid_cache_one(1, 1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
        assert_eq!(guest.fault(), Some((0x5b, 0x10, 1)));
        let attached = |call: &Call| matches!(call, Call::Attach(..));
        assert!(!calls(&guest).iter().any(attached));
        guest.entry(TABLE, 1, first(X, 1));
        guest.submit(&[(pasid_cache_one(1, 1), 0)]);
        assert_eq!(guest.reach(A, Some(1)), Reach::First(X));
    }
    guest.entry(TABLE + 0x1000, 0x100, first(X, 1));
    guest.submit(&[(pasid_cache_one(1, 0x100), 0)]);
    assert_eq!(guest.fault(), Some((0x5b, 0x10, 0x100)), "nine bits");
}

#[test]
fn host_that_does_not_nest_binds_second_stage_tables_and_refuses_first() {
    let mut guest = guest(FakeOptions::iommufd());
    guest.entry(TABLE, 1, first(X, 1));
    guest.entry(TABLE, 2, second(Y, 2));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
    assert_eq!(guest.reach(A, Some(2)), Reach::Second(Y));
    assert_eq!(guest.fault(), Some((0x5b, 0x10, 1)));
}

#[test]
fn table_that_the_host_does_not_invalidate_is_out_of_use_until_it_does() {
    let mut guest = guest(FakeOptions::nesting());
    guest.entry(TABLE, 1, first(X, 1));
    guest.entry(TABLE, 2, first(Y, 2));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    let refusal = Injection::always(CallKind::Invalidate, HostError::Io);
    guest.host.inject(refusal);
    guest.submit(&[(pasid_iotlb_all(1, 1), 0)]);
    assert_eq!(guest.reach(A, Some(1)), Reach::Nothing);
    assert_eq!(guest.reach(A, Some(2)), Reach::First(Y));
    assert!(guest.fault().is_some());
    guest.host.heal();
    guest.submit(&[(pasid_iotlb_all(2, 2), 0)]);
    assert_eq!(
        guest.reach(A, Some(1)),
        Reach::First(X),
        "any batch tries again"
    );
}

#[test]
fn off_on_and_late_arrival_replay_everything_and_nothing_is_left() {
    let mut guest = Guest::boot(FakeOptions::nesting());
    guest.directory(0, TABLE);
    guest.directory(0xf_ffff, TABLE + 0x1000);
    guest.entry(TABLE, 0, second(Y, 9));
    guest.entry(TABLE, 63, first(X, 1));
    guest.entry(TABLE + 0x1000, 0xf_ffff, pass_through(2));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    guest.plug(A);
    let bound = |guest: &Guest| [None, Some(63), Some(0xf_ffff)].map(|pasid| guest.reach(A, pasid));
    let all = [Reach::Second(Y), Reach::First(X), Reach::AllRam];
    assert_eq!(bound(&guest), all);
    guest.translate(false);
    assert_eq!(
        bound(&guest),
        [Reach::AllRam, Reach::Nothing, Reach::Nothing]
    );
    guest.translate(true);
    assert_eq!(bound(&guest), all);
    guest.set(0x10_4000 + 32 * 0x10, 0);
    guest.submit(&[(CONTEXT_GLOBAL, 0)]);
    assert_eq!(bound(&guest), [Reach::Nothing; 3]);
    guest.set(0x10_4000 + 32 * 0x10, DIRECTORY | 7 << 9 | 9);
    guest.submit(&[(CONTEXT_GLOBAL, 0)]);
    assert_eq!(bound(&guest), all);
    guest.unit.reset();
    assert_eq!(
        bound(&guest),
        [Reach::AllRam, Reach::Nothing, Reach::Nothing]
    );
    assert!(guest.host.nested_tables().is_empty());
    assert_eq!(guest.host.tables(), [guest.host.identity().unwrap()]);
    assert_eq!(guest.host.attached(), [endpoint(A, None)]);
}

#[test]
fn sparse_directory_costs_the_tables_that_are_there() {
    let guest = Guest::boot(FakeOptions::nesting());
    for (table, pasid) in [(0, 5), (1, 0x8_0000), (2, 0xf_ffff)] {
        guest.directory(pasid, TABLE + table * 0x1000);
        guest.entry(TABLE + table * 0x1000, pasid, first(X, 1));
    }
    guest.plug(A);
    let walks = guest.unit.counters().follow.pasid_walks;
    assert_eq!((walks.tables, walks.directory_pages), (3, 32));
    assert_eq!(guest.reach(A, Some(0x8_0000)), Reach::First(X));
}

#[test]
fn one_change_among_a_thousand_bindings_is_the_hosts_work_for_one() {
    let mut guest = Guest::boot(FakeOptions::nesting());
    for table in 0..16 {
        guest.directory(table * 64, TABLE + table * 0x1000);
    }
    for pasid in 1..1001 {
        guest.entry(
            TABLE + pasid / 64 * 0x1000,
            pasid,
            first(X + pasid % 4 * 0x1000, 1),
        );
    }
    guest.plug(A);
    assert_eq!(guest.host.nested_tables().len(), 4);
    let _ = calls(&guest);
    let before = guest.unit.counters().follow;
    guest.entry(TABLE + 7 * 0x1000, 500, second(Y, 2));
    guest.submit(&[(PASID_CACHE_GLOBAL, 0)]);
    let after = guest.unit.counters().follow;
    assert_eq!(after.events - before.events, 1);
    assert_eq!(after.pasid_walks.tables - before.pasid_walks.tables, 16);
    let calls = calls(&guest);
    assert!(
        matches!(calls[..], [Call::Create(_), Call::Attach(to, _)] if to == endpoint(A, Some(500))),
        "{calls:?}"
    );
}
