// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A host that does not remove what the guest took away: what its devices reach then, and who is told.

use super::rig::*;
use crate::backend::fake::{CallKind, Injection};
use crate::backend::{Backend, HostError};
use iommu::follow::{Attachment, Unmet};

#[test]
fn device_reaches_nothing_while_a_mapping_cannot_be_removed() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 4 * PAGE);
    rig.attached(root);
    rig.attach(B, Attachment::Identity);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    let answer = rig.unit.apply(&[pages_invalidated(1, 0, PAGE)]);
    assert_eq!(refused(&answer), [unsynced(0)]);
    assert_eq!(rig.table_of(A), None);
    assert_eq!(rig.table_of(B), rig.identity());
    // Still not: and it is not tried for ever.
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(rig.table_of(A), None);
    rig.host.heal();
    let answer = rig.unit.apply(&[domain_invalidated(1)]);
    assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
}

#[test]
fn device_that_is_refused_when_its_table_is_clean_again_is_attached_with_the_next_batch() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    rig.host.heal();
    rig.host
        .inject(Injection::once(CallKind::Attach, HostError::Io));
    rig.map(root, 0, 0x5000, RW);
    assert_eq!(rig.unit.apply(&[domain_invalidated(1)]).resynced, []);
    assert_eq!(rig.table_of(A), None);
    let answer = rig.unit.apply(&[domain_invalidated(77)]);
    assert_eq!(answer.resynced, [A]);
    assert_eq!(rig.pages(A), rig.expected(root, 0..8));
}

#[test]
fn table_of_a_device_that_cannot_be_detached_is_emptied_when_a_removal_fails() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.map(root, LARGE, 0x6000, RW);
    rig.attached(root);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::once(CallKind::Remove, HostError::Io));
    let answer = rig.unit.apply(&[pages_invalidated(1, 0, PAGE)]);
    assert_eq!(refused(&answer), [unsynced(0)]);
    assert_eq!(rig.reached(A), []);
    let answer = rig.unit.apply(&[domain_invalidated(77)]);
    assert_eq!(answer.resynced, [A]);
    assert_eq!(rig.pages(A), rig.expected(root, 0..1024));
}

#[test]
fn device_that_cannot_be_taken_off_its_mappings_is_told() {
    let mut rig = Rig::type1();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    let event = attachment(A, Attachment::Blocked);
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [unsynced(0)]);
    rig.host.heal();
    let answer = rig.unit.apply(&[domain_invalidated(77)]);
    assert_eq!(answer.resynced, [A]);
    assert_eq!(rig.reached(A), []);
}

#[test]
fn device_that_cannot_be_detached_finds_its_table_empty() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.host
        .inject(Injection::always(CallKind::Detach, HostError::Io));
    let event = attachment(A, Attachment::Blocked);
    let answer = rig.unit.apply(&[event]);
    assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
    assert_eq!(rig.reached(A), []);
    rig.host.heal();
    let answer = rig.unit.apply(&[domain_invalidated(77)]);
    assert_eq!(answer.resynced, [A]);
    assert_eq!(rig.table_of(A), None);
    assert_eq!(rig.mirror.tables(), []);
}

#[test]
fn device_that_keeps_what_the_guest_took_away_is_named_until_it_does_not() {
    for mut rig in Rig::both() {
        let root = rig.table();
        rig.map(root, 0, 0x5000, RW);
        rig.attached(root);
        rig.clear(root, 0, 1);
        for kind in [CallKind::Remove, CallKind::Detach] {
            rig.host.inject(Injection::always(kind, HostError::Io));
        }
        let answer = rig.unit.apply(&[pages_invalidated(1, 0, PAGE)]);
        assert_eq!(refused(&answer).len(), 1);
        assert_eq!(rig.reached(A).len(), 1, "the host left it nothing else");
        assert_eq!(rig.mirror.still_reachable(), [A]);
        rig.host.heal();
        rig.tell(domain_invalidated(77));
        assert_eq!(rig.reached(A), []);
        assert_eq!(rig.mirror.still_reachable(), []);
    }
}

#[test]
fn device_that_stays_on_a_table_which_another_one_needs_is_named() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.attach(B, rig.domain(1, root));
    rig.host
        .inject(Injection::always(CallKind::Detach, HostError::Io));
    let event = attachment(A, Attachment::Blocked);
    assert_eq!(refused(&rig.unit.apply(&[event])), [Unmet::Attachment(A)]);
    assert_eq!(rig.reached(A).len(), 1);
    assert_eq!(rig.mirror.still_reachable(), [A]);
    rig.host.heal();
    rig.tell(domain_invalidated(77));
    assert_eq!(rig.table_of(A), None);
    assert_eq!(rig.mirror.still_reachable(), []);
}

#[test]
fn device_that_is_blocked_or_goes_through_an_empty_table_is_not_named() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map(root, 0, 0x5000, RW);
    rig.attached(root);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(rig.mirror.still_reachable(), [], "it is detached");
    rig.host.heal();
    rig.tell(domain_invalidated(1));
    rig.host
        .inject(Injection::always(CallKind::Detach, HostError::Io));
    let event = attachment(A, Attachment::Blocked);
    assert!(rig.unit.apply(&[event]).results[0].is_err());
    assert_eq!(rig.mirror.still_reachable(), [], "its table is empty");
}

#[test]
fn device_that_cannot_be_stopped_is_refused_and_named_until_it_can() {
    let mut rig = Rig::iommufd();
    let (one, two) = (rig.table(), rig.table());
    rig.map(one, 0, 0x5000, RW);
    rig.map(two, 0, 0x6000, RW);
    rig.attached(one);
    for kind in [CallKind::Remove, CallKind::Detach] {
        rig.host.inject(Injection::always(kind, HostError::Io));
    }
    for _ in 0..3 {
        let answer = rig.unit.apply(&[attachment(A, Attachment::Blocked)]);
        assert_eq!(refused(&answer), [Unmet::Attachment(A)]);
        let answer = rig.unit.apply(&[domain_invalidated(1)]);
        assert_eq!(answer.resynced, []);
        assert_eq!(rig.mirror.still_reachable(), [A]);
        assert_eq!(rig.reached(A), [rw(0, PAGE, 0x5000)], "the host keeps it");
    }
    let report = rig.mirror.report();
    assert!(report.devices[0].still_reachable && report.devices[0].refused.is_some());
    assert_eq!(
        report.devices[0].counters.faults, 1,
        "one fault, until it is resynced"
    );
    rig.host.heal();
    rig.attach(A, rig.domain(2, two));
    assert_eq!(rig.reached(A), [rw(0, PAGE, 0x6000)]);
    assert_eq!(rig.mirror.still_reachable(), []);
    assert_eq!(rig.mirror.tables().len(), 1);
}

#[test]
fn host_whose_mappings_have_other_borders_than_it_was_given_is_emptied_and_filled_anew() {
    let mut rig = Rig::iommufd();
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 2 * PAGE);
    rig.map(root, 8 * PAGE, 0x5000, RW);
    rig.attached(root);
    // What the ledger has as two runs is one mapping and a hole.
    let table = rig.table_of(A).unwrap();
    rig.host.lose(table, range(8 * PAGE, PAGE));
    let wide = rw(8 * PAGE, 4 * PAGE, 0x5000);
    let host = crate::ram::HostVa(0x7000_0000_5000);
    rig.host.clone().map(table, &wide, host).unwrap();
    rig.clear(root, 0, 1);
    rig.clear(root, PAGE, 1);
    rig.clear(root, 8 * PAGE, 1);
    let _ = rig.unit.apply(&[domain_invalidated(1)]);
    assert_eq!(rig.mirror.stats().quarantines, 1);
    assert_eq!(rig.reached(A), []);
    rig.map(root, 3 * PAGE, 0x6000, RW);
    let answer = rig.unit.apply(&[domain_invalidated(1)]);
    assert_eq!((answer.results, answer.resynced), (vec![Ok(())], vec![A]));
    assert_eq!(rig.pages(A), rig.expected(root, 0..16));
    rig.assert_ledger_is_true();
}
