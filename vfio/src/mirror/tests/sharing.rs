// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices, PASIDs and units that share tables, and groups that have to.

use super::rig::*;
use crate::backend::Endpoint;
use crate::mirror::UnitId;
use iommu::follow::{Attachment, DeviceHandle, FollowEvent, Unmet};
use iommu::ids::Pasid;

fn attach_all(rig: &Rig, devices: impl IntoIterator<Item = u32>, root: u64) {
    let events: Vec<_> = devices
        .into_iter()
        .map(|device| FollowEvent::Attach {
            device: DeviceHandle(device),
            to: rig.domain(1, root),
        })
        .collect();
    let answer = rig.unit.apply(&events);
    assert!(answer.results.iter().all(Result::is_ok));
}

#[test]
fn eight_devices_of_one_domain_cost_what_one_costs() {
    let mut calls = [0, 0];
    for (devices, calls) in [1, 8].into_iter().zip(&mut calls) {
        let mut rig = Rig::iommufd();
        let root = rig.table();
        for n in 0..100 {
            rig.map(root, 2 * n * PAGE, 0x100_0000 + n * PAGE, RW);
        }
        attach_all(&rig, 1..=devices, root);
        for n in 0..50 {
            rig.clear(root, 4 * n * PAGE, 1);
        }
        rig.tell(domain_invalidated(1));
        *calls = rig.mapping_calls().len();
        assert_eq!(rig.mirror.stats().walks, 2);
        assert_eq!(rig.mirror.tables().len(), 1);
    }
    assert_eq!(calls[0], calls[1]);
}

#[test]
fn devices_that_cannot_share_a_table_share_the_walk() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    attach_all(&rig, [1, 2], root);
    assert_eq!(rig.mirror.stats().walks, 1);
    assert_ne!(rig.table_of(A), rig.table_of(B));
    for device in [A, B] {
        assert_eq!(rig.pages(device), rig.expected(root, 0..8));
    }
}

#[test]
fn same_tables_under_two_tags_are_one_table_that_either_tag_invalidates() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 4 * PAGE);
    rig.attach(A, rig.domain(1, root));
    rig.attach(B, rig.domain(2, root));
    assert_eq!(rig.table_of(A), rig.table_of(B));
    for (tag, page) in [(1, 0), (2, 1)] {
        rig.clear(root, page * PAGE, 1);
        rig.tell(pages_invalidated(tag, page * PAGE, PAGE));
        assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    }
    rig.attach(A, Attachment::Blocked);
    rig.clear(root, 2 * PAGE, 1);
    rig.tell(pages_invalidated(1, 2 * PAGE, PAGE));
    assert_eq!(rig.pages(B).len(), 2, "nobody goes by tag 1 any more");
}

#[test]
fn domain_ids_of_two_units_do_not_mix() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    for root in [one, two] {
        rig.map(root, 0, 0x5000, RW);
    }
    let other = rig.mirror.follower(UnitId(1), rig.capabilities);
    rig.attach(A, rig.domain(1, one));
    let event = attachment(B, rig.domain(1, two));
    assert_eq!(other.apply(&[event]).results, [Ok(())]);
    for root in [one, two] {
        rig.clear(root, 0, 1);
    }
    assert_eq!(other.apply(&[domain_invalidated(1)]).results, [Ok(())]);
    assert_eq!(rig.reached(A).len(), 1);
    assert_eq!(rig.reached(B), []);
    assert_eq!(other.apply(&[FollowEvent::Reset]).results, [Ok(())]);
    assert_eq!(rig.table_of(B), rig.identity());
    assert_ne!(rig.table_of(A), rig.identity());
}

#[test]
fn pasids_with_the_same_tables_share_a_host_table_with_the_device() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map(one, 0, 0x5000, RW);
    rig.map(two, 0, 0x6000, RW);
    rig.attached(one);
    let to = rig.domain(1, one);
    let other = rig.domain(2, two);
    let events = [
        bind(A, 5, to),
        bind(A, 6, to),
        bind(B, 5, to),
        bind(A, 7, other),
    ];
    assert!(rig.unit.apply(&events).results.iter().all(Result::is_ok));
    let of = |device, pasid| {
        rig.host.reaches(Endpoint {
            device,
            pasid: Pasid::new(pasid),
        })
    };
    assert_eq!(of(A, 5), rig.table_of(A));
    assert_eq!((of(A, 6), of(B, 5)), (of(A, 5), of(A, 5)));
    assert_ne!(of(A, 7), of(A, 5));
    assert_eq!(rig.mapping_calls().len(), 1);
    let pasid = Pasid::new(5).unwrap();
    rig.tell(FollowEvent::Rebind {
        device: A,
        pasid,
        to: other,
    });
    assert_eq!(of(A, 5), of(A, 7));
    rig.tell(FollowEvent::Unbind { device: A, pasid });
    assert_eq!(of(A, 5), None);
    rig.tell(FollowEvent::Reset);
    assert_eq!((of(A, 6), of(B, 5), of(A, 7)), (None, None, None));
}

#[test]
fn pasid_on_a_host_without_pasids_is_refused_and_the_others_are_not() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    let to = rig.domain(1, root);
    let events = [bind(A, 5, to), attachment(A, to)];
    let answer = rig.unit.apply(&events);
    let refusal = answer.results[0].clone().unwrap_err();
    assert_eq!(refusal.unmet, [Unmet::Binding(A, Pasid::new(5).unwrap())]);
    assert_eq!(answer.results[1], Ok(()));
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
}

#[test]
fn group_whose_devices_disagree_reaches_nothing_and_says_so() {
    let mut rig = Rig::type1();
    let (one, two) = (rig.table(), rig.table());
    rig.map(one, 0, 0x5000, RW);
    rig.map(two, 0, 0x6000, RW);
    let mate = DeviceHandle(9);
    rig.host.open_beside(mate, A);
    attach_all(&rig, [1, 9], one);
    assert_eq!(rig.pages(mate), rig.expected(one, 0..8));
    let event = attachment(mate, rig.domain(2, two));
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [Unmet::Attachment(mate)]);
    assert_eq!(rig.reached(A), []);
    rig.attach(A, rig.domain(2, two));
    assert_eq!(rig.pages(mate), rig.expected(two, 0..8));
}

#[test]
fn group_whose_devices_move_in_one_batch_is_not_refused() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.host.open_beside(DeviceHandle(9), A);
    attach_all(&rig, [1, 9], root);
    let events = [1, 9].map(|device| FollowEvent::Attach {
        device: DeviceHandle(device),
        to: Attachment::Identity,
    });
    assert!(rig.unit.apply(&events).results.iter().all(Result::is_ok));
    assert_eq!(rig.reached(A).len(), 2);
}
