// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host that refuses: what is told, what is tried again, and what no device may reach meanwhile.

use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{CallKind, Injection};
use crate::mirror::UnitId;
use iommu::follow::{Attachment, Unmet};
use iommu::ids::Pasid;

#[test]
fn refused_mapping_is_not_taken_for_done_and_is_tried_again() {
    let errors = [
        HostError::EntryLimit,
        HostError::LockedMemory,
        HostError::Invalid,
        HostError::Unpinnable,
        HostError::Io,
    ];
    for error in errors {
        for mut rig in Rig::both() {
            let root = rig.table();
            rig.attached(root);
            rig.map(root, 0x5000, 0x5000, RW);
            rig.host.inject(Injection::always(CallKind::Map, error));
            let answer = rig.unit.apply(&[pages_invalidated(1, 0x5000, PAGE)]);
            assert_eq!(refused(&answer), [unsynced(0x5000)], "{error}");
            assert_eq!(rig.mirror.tables()[0].last_refusal, Some(error));
            assert_eq!(rig.mirror.tables()[0].runs, 0);
            assert!(rig.mirror.stats().refusals.of(error) >= 1);
            rig.host.heal();
            // Whatever the next event is.
            let answer = rig.unit.apply(&[domain_invalidated(77)]);
            assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
            assert_eq!(rig.pages(A), rig.expected(root, 0..8));
            assert_eq!(rig.mirror.stats().retries, 1);
        }
    }
}

#[test]
fn refused_mapping_does_not_stop_the_others() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.attached(root);
        for n in 0..3 {
            rig.map(root, 2 * n * PAGE, 0x100_0000, RW);
        }
        let injection = Injection::always(CallKind::Map, HostError::Io);
        rig.host.inject(injection.within(range(2 * PAGE, PAGE)));
        let events = [0, 1, 2].map(|n| pages_invalidated(1, 2 * n * PAGE, PAGE));
        let answer = rig.unit.apply(&events);
        assert!(
            answer.results.iter().all(Result::is_err),
            "all are of one domain"
        );
        assert_eq!(rig.pages(A).keys().copied().collect::<Vec<_>>(), [0, 4]);
    }
}

#[test]
fn refused_mapping_hits_every_device_of_the_domain_and_no_other() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.attached(one);
    rig.attach(B, rig.domain(1, one));
    let device = iommu::follow::DeviceHandle(3);
    rig.attach(device, rig.domain(2, two));
    rig.map(one, 0x5000, 0x5000, RW);
    rig.map(two, 0x8000, 0x6000, RW);
    let injection = Injection::always(CallKind::Map, HostError::Io);
    rig.host.inject(injection.within(range(0x5000, PAGE)));
    let answer = rig
        .unit
        .apply(&[domain_invalidated(1), domain_invalidated(2)]);
    let refusal = answer.results[0].clone().unwrap_err();
    let devices: Vec<_> = refusal.unmet.iter().map(Unmet::device).collect();
    assert_eq!(devices, [A, B]);
    assert_eq!(answer.results[1], Ok(()));
    assert_eq!(rig.reached(device).len(), 1);
}

#[test]
fn mapping_that_the_host_has_unasked_is_replaced() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.attached(root);
        rig.map(root, 0x5000, 0x5000, RW);
        rig.host
            .inject(Injection::once(CallKind::Map, HostError::Overlap));
        rig.tell(pages_invalidated(1, 0x5000, PAGE));
        assert_eq!(rig.pages(A), rig.expected(root, 0..8));
        assert_eq!(rig.mirror.stats().refusals.of(HostError::Overlap), 1);
    }
}

#[test]
fn host_that_is_busy_for_a_moment_is_asked_again() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0x5000, 0x5000, RW);
        rig.attached(root);
        rig.clear(root, 0x5000, 1);
        rig.host.inject(Injection {
            times: 2,
            ..Injection::always(CallKind::Remove, HostError::Busy)
        });
        rig.tell(pages_invalidated(1, 0x5000, PAGE));
        assert_eq!(rig.reached(A), []);
        assert_eq!(rig.mirror.stats().quarantines, 0);
    }
}

#[test]
fn host_that_removes_less_than_it_had_is_not_trusted_with_the_rest() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.map(root, LARGE, 0x6000, RW);
        rig.map(root, 2 * LARGE, 0x7000, RW);
        rig.attached(root);
        rig.host.lose(rig.table_of(A).unwrap(), range(0, PAGE));
        for page in [0, LARGE] {
            rig.clear(root, page, 1);
        }
        let answer = rig.unit.apply(&[pages_invalidated(1, 0, 2 * LARGE)]);
        assert_eq!(refused(&answer), [unsynced(0)]);
        assert_eq!(rig.reached(A), []);
        let answer = rig.unit.apply(&[domain_invalidated(77)]);
        assert_eq!(answer.resynced, [A]);
        assert_eq!(rig.pages(A), rig.expected(root, 0..2048));
    }
}

#[test]
fn device_of_another_unit_is_told_to_be_whole_by_its_own() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    let other = rig.mirror.follower(UnitId(1), rig.capabilities);
    let event = attachment(B, rig.domain(1, root));
    rig.map(root, 0, 0x5000, RW);
    rig.host
        .inject(Injection::once(CallKind::Map, HostError::Io));
    assert_eq!(refused(&other.apply(&[event])).len(), 1);
    let answer = rig.unit.apply(&[domain_invalidated(77)]);
    assert_eq!(answer.resynced, []);
    assert_eq!(rig.pages(B), rig.expected(root, 0..8));
    assert_eq!(other.apply(&[domain_invalidated(77)]).resynced, [B]);
}

#[test]
fn refused_attachment_blocks_the_device_until_it_is_told_again() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map(one, 0, 0x5000, RW);
    rig.attached(one);
    rig.host
        .inject(Injection::once(CallKind::Attach, HostError::Invalid));
    let move_it = |root| attachment(A, rig.domain(2, root));
    let answer = rig.unit.apply(&[move_it(two)]);
    assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
    assert_eq!(rig.table_of(A), None);
    // Back to the table that the host remembers: it must really be attached again.
    rig.attach(A, rig.domain(1, one));
    assert_eq!(rig.pages(A), rig.expected(one, 0..8));
}

#[test]
fn refused_binding_is_told_by_its_pasid_and_stops_no_other() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.attached(root);
    let to = rig.domain(1, root);
    rig.host
        .inject(Injection::once(CallKind::Attach, HostError::Invalid));
    let answer = rig.unit.apply(&[bind(A, 5, to), bind(A, 6, to)]);
    let refusal = answer.results[0].clone().unwrap_err();
    assert_eq!(refusal.unmet, [Unmet::Binding(A, Pasid::new(5).unwrap())]);
    assert_eq!(answer.results[1], Ok(()));
}

#[test]
fn table_that_cannot_be_made_refuses_the_attachment() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.attached(one);
    rig.host
        .inject(Injection::once(CallKind::Create, HostError::LockedMemory));
    let event = attachment(A, rig.domain(2, two));
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
    assert_eq!(rig.table_of(A), None);
    assert_eq!(rig.unit.apply(&[event]).results, [Ok(())]);
}

#[test]
fn table_that_is_neither_usable_nor_taken_back_is_the_only_one_however_often_the_guest_tries() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    let before = rig.host.tables().len();
    for kind in [CallKind::Limits, CallKind::Destroy] {
        rig.host.inject(Injection::always(kind, HostError::Io));
    }
    let event = attachment(A, rig.domain(1, root));
    for _ in 0..3 {
        let answer = rig.unit.apply(&[event]);
        assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
    }
    assert_eq!(rig.host.tables().len(), before + 1);
    rig.host.heal();
    rig.tell(event);
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
    assert_eq!(rig.host.tables().len(), before + 1);
}

#[test]
fn first_stage_tables_are_refused_because_their_changes_are_not_told() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    let first = iommu::walk::first_stage::FirstStage {
        table: vm_memory::GuestAddress(root),
        levels: 4,
        no_execute: false,
        extended_accessed: false,
    };
    let to = Attachment::Domain(iommu::follow::Domain::new(
        iommu::ids::DomainId(1),
        iommu::translate::paging::Stages::First(first),
        iommu::translate::rights::Rules::default(),
        false,
        &rig.capabilities,
    ));
    let answer = rig.unit.apply(&[attachment(A, to)]);
    assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
    assert_eq!(rig.table_of(A), None);
}
