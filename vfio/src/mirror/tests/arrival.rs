// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that come, move and go while the guest's tables are full.

use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{Call, CallKind, Injection};
use iommu::follow::{Attachment, DeviceHandle, FollowEvent};

#[test]
fn device_that_arrives_late_gets_exactly_what_is_mapped() {
    for mut rig in Rig::both() {
        let root = rig.table();
        for n in 0..600 {
            rig.map(root, n * 3 * PAGE, 0x100_0000 + n * 5 * PAGE, RW);
        }
        rig.attach(A, rig.domain(1, root));
        assert_eq!(rig.pages(A), rig.expected(root, 0..2048));
        assert_eq!(rig.mapping_calls().len(), 600);
    }
}

#[test]
fn device_that_arrives_late_finds_everything_before_it_is_attached() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 8 * PAGE);
    rig.map(root, LARGE, 0x5000, RW);
    rig.attach(A, rig.domain(1, root));
    let log = rig.host.take_log();
    let attach = log
        .iter()
        .position(|logged| matches!(logged.call, Call::Attach(..)));
    assert_eq!(attach, Some(log.len() - 1));
}

#[test]
fn second_device_of_a_domain_costs_no_walk_and_no_mapping() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 8 * PAGE);
    rig.attached(root);
    let walks = rig.mirror.stats().walks;
    rig.attach(B, rig.domain(1, root));
    assert_eq!(rig.mapping_calls(), []);
    assert_eq!(rig.mirror.stats().walks, walks);
    assert_eq!(rig.table_of(A), rig.table_of(B));
}

#[test]
fn device_that_moves_leaves_the_other_ones_mappings_alone() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map_pages(one, 0, 0x100_0000, 8 * PAGE);
    rig.map_pages(two, 0x8000, 0x200_0000, 8 * PAGE);
    rig.attached(one);
    rig.attach(B, rig.domain(1, one));
    let shared = rig.table_of(A);
    let _ = rig.host.take_log();
    rig.attach(B, rig.domain(2, two));
    assert!(rig.mapping_calls().iter().all(|logged| match logged.call {
        Call::Map(table, ..) => Some(table) != shared,
        _ => false,
    }));
    assert_eq!(rig.pages(A), rig.expected(one, 0..512));
    assert_eq!(rig.pages(B), rig.expected(two, 0..512));
}

#[test]
fn device_that_moves_on_a_host_without_moves_keeps_what_both_domains_map() {
    let mut rig = Rig::type1();
    let (one, two) = (rig.table(), rig.table());
    for root in [one, two] {
        rig.map_pages(root, 0x8000, 0x200_0000, 8 * PAGE);
    }
    rig.map(one, 0, 0x5000, RW);
    rig.map(two, 0x4_0000, 0x6000, RW);
    rig.attached(one);
    rig.attach(A, rig.domain(2, two));
    assert_eq!(rig.mapping_calls().len(), 2);
    assert_eq!(rig.pages(A), rig.expected(two, 0..512));
}

#[test]
fn invalidation_told_with_the_arrival_is_not_lost() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.attached(root);
        rig.clear(root, 0, 1);
        rig.map(root, PAGE, 0x6000, RW);
        let events = [
            attachment(B, rig.domain(1, root)),
            pages_invalidated(1, 0, 2 * PAGE),
        ];
        assert!(rig.unit.apply(&events).results.iter().all(Result::is_ok));
        assert_eq!(rig.pages(A), rig.expected(root, 0..8));
        assert_eq!(rig.pages(B), rig.expected(root, 0..8));
    }
}

#[test]
fn only_the_net_effect_of_a_batch_reaches_the_host() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map(one, 0, 0x5000, RW);
    rig.map(two, 0, 0x6000, RW);
    rig.attached(one);
    let device = A;
    let events = [
        attachment(device, Attachment::Blocked),
        attachment(device, rig.domain(2, two)),
        attachment(device, rig.domain(1, one)),
    ];
    assert!(rig.unit.apply(&events).results.iter().all(Result::is_ok));
    assert_eq!(rig.host.take_log(), []);
    assert_eq!(rig.pages(A), rig.expected(one, 0..8));
}

#[test]
fn reset_lets_every_device_pass_unchanged_and_forgets_the_tables() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.attached(root);
        rig.tell(FollowEvent::Reset);
        match rig.identity() {
            Some(identity) => {
                assert_eq!(rig.table_of(A), Some(identity));
                assert_eq!(rig.mirror.tables(), []);
            }
            None => assert_eq!(rig.reached(A).len(), 2),
        }
        rig.clear(root, 0, 1);
        let _ = rig.host.take_log();
        rig.tell(domain_invalidated(1));
        assert_eq!(rig.host.take_log(), []);
    }
}

#[test]
fn device_that_leaves_takes_its_table_along() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.attached(root);
        rig.mirror.forget(A);
        assert_eq!(rig.reached(A), []);
        assert_eq!(rig.mirror.tables(), []);
        rig.attach(A, rig.domain(1, root));
        assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    }
}

/// A host on which A goes through tables with one page and could be detached neither when it left nor later, until it was
/// closed.
fn left_attached_and_closed() -> (Rig, u64) {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.host
        .inject(Injection::always(CallKind::Detach, HostError::Io));
    rig.mirror.forget(A);
    assert_eq!(rig.reached(A), [], "its table was emptied at least");
    rig.host.close(A);
    rig.host.heal();
    (rig, root)
}

#[test]
fn closed_device_that_was_not_detached_keeps_no_table() {
    let (rig, _) = left_attached_and_closed();
    rig.tell(domain_invalidated(77));
    assert_eq!(rig.mirror.tables(), []);
    let _ = rig.host.take_log();
    rig.tell(domain_invalidated(77));
    assert_eq!(rig.host.take_log(), [], "nothing is left to be tried");
}

#[test]
fn device_that_takes_over_a_name_takes_over_no_place() {
    let (rig, root) = left_attached_and_closed();
    rig.host.open(A);
    rig.attach(A, rig.domain(1, root));
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    assert_eq!(rig.mirror.tables().len(), 1);
}

#[test]
fn device_that_takes_over_a_name_is_attached_to_the_table_that_the_other_one_was_left_on() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.attach(B, rig.domain(1, root));
    rig.host
        .inject(Injection::always(CallKind::Detach, HostError::Io));
    rig.mirror.forget(A);
    rig.host.close(A);
    rig.host.heal();
    rig.host.open(A);
    rig.attach(A, rig.domain(1, root));
    assert_eq!(rig.table_of(A), rig.table_of(B));
}

#[test]
fn work_grows_with_populated_tables_only() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.map(root, (1 << 46) + 0x7000, 0x6000, RW);
    let before = rig.memory.reads();
    rig.attach(A, rig.domain(1, root));
    assert_eq!(rig.memory.reads() - before, 7);
    assert_eq!(rig.reached(A).len(), 2);
}

#[test]
fn unknown_device_on_a_host_without_moves_is_refused() {
    let mut rig = Rig::type1();
    let root = rig.table();
    let device = DeviceHandle(77);
    let event = attachment(device, rig.domain(1, root));
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [iommu::follow::Unmet::Attachment(device)]);
}
