// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What becomes of events that fail: the guest's faults, what is told again, and that nothing else suffers.

use super::scalable::{bed as scalable, second, shorts, unbind};
use super::*;

/// Every attachment fails.
fn no_attachment(event: &FollowEvent) -> Option<Unmet> {
    match event {
        FollowEvent::Attach { device, .. } => Some(Unmet::Attachment(*device)),
        _ => None,
    }
}

/// Every binding fails.
fn no_binding(event: &FollowEvent) -> Option<Unmet> {
    match event {
        FollowEvent::Bind { device, pasid, .. } | FollowEvent::Rebind { device, pasid, .. } => {
            Some(Unmet::Binding(*device, *pasid))
        }
        _ => None,
    }
}

/// The page at 0x5000 of device D cannot be mapped.
fn no_page(event: &FollowEvent) -> Option<Unmet> {
    let first = Iova(0x5123);
    match event {
        FollowEvent::Invalidated(_) => Some(Unmet::Unsynced {
            device: D,
            pasid: None,
            first,
        }),
        _ => None,
    }
}

/// The record in register `index`: source, page, reason, PASID if there is one. Clears it.
fn record(bed: &Bed, index: u64) -> Option<(u64, u64, u64, Option<u64>)> {
    let at = 0x220 + 16 * index;
    let (low, high) = (bed.bench.r64(at), bed.bench.r64(at + 8));
    bed.bench.w32(at + 12, 0x8000_0000);
    let pasid = (high >> 31 & 1 == 1).then_some(high >> 40 & 0xf_ffff);
    (high >> 63 == 1).then_some((high & 0xffff, low & !0xfff, high >> 32 & 0xff, pasid))
}

#[test]
fn refused_context_faults_once_and_is_told_again() {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.context(OTHER, 0x4_0001, 0x602);
    bed.follow(D, DEVICE);
    bed.follow(E, OTHER);
    bed.judge(|event| no_attachment(event).filter(|unmet| unmet.device() == D));
    assert_eq!(bed.enable().len(), 2, "the other one is told");
    assert_eq!(record(&bed, 0), Some((u64::from(DEVICE), 0, 0x3, None)));
    assert_eq!(bed.submit(&[(0xd2, 0)]).len(), 1, "no attachment is named");
    let again = bed.submit(&[(0x11, 0)]);
    assert_eq!(shorts(&again), [("attach", 0, Some((5, 0x3_0000)))]);
    assert_eq!(bed.faults(), [(0x3, 1)], "the guest knows");
    bed.judge(|_| None);
    assert_eq!(bed.submit(&[(0x11, 0)]), again);
    assert_eq!(bed.submit(&[(0x11, 0)]), []);
    bed.judge(no_attachment);
    bed.context(DEVICE, 0x5_0001, 0x502);
    bed.submit(&[(0x11, 0)]);
    assert_eq!(bed.faults(), [(0x3, 2)], "a new failure is news");
    assert_eq!(bed.bench.unit.counters().follow.refused, 3);
}

#[test]
fn refused_attachment_in_scalable_mode_is_a_context_fault_of_its_own() {
    let bed = scalable();
    bed.judge(no_attachment);
    bed.follow(D, DEVICE);
    assert_eq!(record(&bed, 0), Some((u64::from(DEVICE), 0, 0x43, None)));
    assert_eq!(bed.faults(), [(0x43, 1)]);
    let again = bed.submit(&[(0x37, 0)]);
    assert_eq!(shorts(&again), [("attach", 0, Some((5, 0x3_0000)))]);
}

#[test]
fn refused_binding_faults_for_its_pasid_and_is_told_again() {
    let bed = scalable();
    bed.judge(|event| no_binding(event).filter(|_| shorts(&[*event])[0].1 != 63));
    assert_eq!(bed.follow(D, DEVICE).len(), 4);
    let source = u64::from(DEVICE);
    assert_eq!(record(&bed, 0), Some((source, 0, 0x5b, Some(0))));
    assert_eq!(record(&bed, 1), Some((source, 0, 0x5b, Some(0xf_ffff))));
    // Of the refused, those that are named.
    let told = bed.submit(&[(0x17 | 6 << 16, 0)]);
    assert_eq!(shorts(&told), [("bind", 0, Some((6, 0x3_1000)))]);
    let told = bed.submit(&[(0x0005_0007, 0)]);
    assert_eq!(shorts(&told), [("bind", 0xf_ffff, Some((5, 0x3_0000)))]);
    assert_eq!(bed.faults(), [(0x5b, 2)]);
    // A binding that is replaced and refused is bound afresh.
    bed.judge(no_binding);
    bed.entry(0x2_0000, 63, second(0x3_0000, 7));
    let told = bed.submit(&[(0x17 | 7 << 16 | 63 << 32, 0)]);
    assert_eq!(shorts(&told), [("rebind", 63, Some((7, 0x3_0000)))]);
    let told = bed.submit(&[(0x17 | 7 << 16 | 63 << 32, 0)]);
    assert_eq!(shorts(&told), [("bind", 63, Some((7, 0x3_0000)))]);
    assert_eq!(bed.faults(), [(0x5b, 3)]);
    // One that goes is not asked for any more.
    bed.entry(0x2_0000, 0, [0; 3]);
    assert_eq!(bed.submit(&[(0x17 | 6 << 16, 0)]), [unbind(0)]);
    assert_eq!(bed.submit(&[(0x17 | 6 << 16, 0)]), []);
}

#[test]
fn unsynced_page_faults_once_until_the_device_is_whole() {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.follow(D, DEVICE);
    bed.enable();
    bed.judge(no_page);
    bed.submit(&[(0x0005_00f2, 0x5000)]);
    assert_eq!(
        record(&bed, 0),
        Some((u64::from(DEVICE), 0x5000, 0x7, None))
    );
    bed.submit(&[(0x0005_00f2, 0x6000), (0x0005_00f2, 0x9000)]);
    assert_eq!(bed.faults(), [(0x7, 1)]);
    bed.judge(|_| None);
    bed.notes.resynced.lock().unwrap().push(D);
    bed.submit(&[(0x0005_00f2, 0x6000)]);
    bed.judge(no_page);
    bed.submit(&[(0x0005_00f2, 0x6000)]);
    assert_eq!(bed.faults(), [(0x7, 2)]);
}

#[test]
fn unsynced_page_of_a_pasid_names_it() {
    let bed = scalable();
    bed.follow(D, DEVICE);
    let first = Iova(u64::MAX);
    let unmet = Unmet::Unsynced {
        device: D,
        pasid: Pasid::new(0xf_ffff),
        first,
    };
    bed.bench.unit.host_changed(&[unmet], &[]);
    let source = u64::from(DEVICE);
    assert_eq!(
        record(&bed, 0),
        Some((source, !0xfff, 0x78, Some(0xf_ffff)))
    );
    bed.bench.unit.host_changed(&[unmet], &[]);
    assert_eq!(bed.faults(), [(0x78, 1)]);
    bed.bench.unit.host_changed(&[unmet], &[D]);
    assert_eq!(bed.faults(), [(0x78, 2)]);
    let stranger = Unmet::Attachment(E);
    let unbound = Unmet::Binding(D, Pasid::new(8).unwrap());
    bed.bench.unit.host_changed(&[stranger, unbound], &[E]);
    assert_eq!(bed.faults(), [(0x78, 2)], "of what is not followed");
}

/// A PASID that the host does not let go of.
#[test]
fn unbinding_that_is_refused_faults_once_until_the_device_is_whole() {
    let bed = scalable();
    bed.follow(D, DEVICE);
    bed.judge(|event| match event {
        FollowEvent::Unbind { device, pasid } => Some(Unmet::Binding(*device, *pasid)),
        _ => None,
    });
    bed.entry(0x2_0000, 0, [0; 3]);
    bed.entry(0x2_0000, 63, [0; 3]);
    assert_eq!(bed.submit(&[(0x37, 0)]), [unbind(0), unbind(63)]);
    let source = u64::from(DEVICE);
    assert_eq!(record(&bed, 0), Some((source, 0, 0x5b, Some(0))));
    assert_eq!(bed.faults(), [(0x5b, 1)]);
    bed.bench.unit.host_changed(&[], &[D]);
    bed.entry(0x2_1000, 0xf_ffff, [0; 3]);
    assert_eq!(bed.submit(&[(0x37, 0)]), [unbind(0xf_ffff)]);
    assert_eq!(bed.faults(), [(0x5b, 2)]);
}

/// The host may lose at any time what it had.
#[test]
fn binding_that_is_lost_later_is_told_again() {
    let bed = scalable();
    bed.follow(D, DEVICE);
    let lost = Unmet::Binding(D, Pasid::new(0).unwrap());
    bed.bench.unit.host_changed(&[lost], &[]);
    assert_eq!(bed.faults(), [(0x5b, 1)]);
    let told = bed.submit(&[(0x37, 0)]);
    assert_eq!(shorts(&told), [("bind", 0, Some((6, 0x3_1000)))]);
    bed.bench.unit.host_changed(&[lost], &[]);
    bed.bench.unit.host_changed(&[], &[D]);
    assert_eq!(bed.submit(&[(0x37, 0)]), [], "made up for meanwhile");
    assert_eq!(bed.faults(), [(0x5b, 2)]);
}

/// FPD of a context and of a PASID entry.
#[test]
fn fault_that_the_guest_keeps_silent_is_counted_and_not_recorded() {
    let bed = scalable();
    bed.entry(0x2_0000, 0, [0x3_1000 | 0x8b, 6, 0]);
    bed.judge(no_binding);
    bed.follow(D, DEVICE);
    assert_eq!(bed.faults(), [(0x5b, 3)]);
    let source = u64::from(DEVICE);
    assert_eq!(record(&bed, 0), Some((source, 0, 0x5b, Some(63))));
    assert_eq!(record(&bed, 1), Some((source, 0, 0x5b, Some(0xf_ffff))));
    assert_eq!(record(&bed, 2), None);
}

#[test]
fn status_tells_what_was_told_and_what_was_refused() {
    let bed = scalable();
    bed.judge(|event| no_binding(event).filter(|_| shorts(&[*event])[0].1 == 63));
    bed.follow(D, DEVICE);
    let [status] = &bed.bench.unit.followed()[..] else {
        panic!("one device");
    };
    assert_eq!((status.device, status.source), (D, SourceId(DEVICE)));
    assert_eq!(
        status.without_pasid.map(|told| (told.domain, told.refused)),
        Some((Some(DomainId(5)), false))
    );
    let pasids: Vec<_> = status
        .pasids
        .iter()
        .map(|(pasid, told)| (pasid.get(), told.domain, told.refused))
        .collect();
    let expected = [(0, 6, false), (63, 7, true), (0xf_ffff, 5, false)]
        .map(|(pasid, domain, refused)| (pasid, Some(DomainId(domain)), refused));
    assert_eq!(pasids, expected);
    assert!(!status.unsynced);
}

/// While translation is off there is no fault to be had.
#[test]
fn failure_while_nothing_is_translated_is_no_fault() {
    let bed = Bed::legacy();
    bed.judge(no_attachment);
    bed.follow(D, DEVICE);
    assert_eq!(bed.faults(), []);
    assert_eq!(bed.bench.unit.counters().follow.refused, 1);
    // The guest did not learn of it, so it learns of the next one.
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.enable();
    assert_eq!(bed.faults(), [(0x3, 1)]);
}

/// What guest RAM lacks is told to whoever starts the machine, though there is no guest yet to learn of it.
#[test]
fn lack_while_nothing_is_translated_is_in_the_status_and_no_fault() {
    let bed = Bed::legacy();
    let lacks_page = |event: &FollowEvent| match event {
        FollowEvent::Attach { device, .. } => Some(Unmet::Unsynced {
            device: *device,
            pasid: None,
            first: Iova(0x5123),
        }),
        _ => None,
    };
    bed.judge(lacks_page);
    bed.follow(D, DEVICE);
    assert!(bed.bench.unit.followed()[0].unsynced);
    assert_eq!(bed.faults(), []);
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.enable();
    assert_eq!(
        bed.faults(),
        [(0x7, 1)],
        "the guest did not learn of it yet"
    );
    bed.judge(|_| None);
    bed.notes.resynced.lock().unwrap().push(D);
    bed.submit(&[(0x0005_00f2, 0x6000)]);
    assert!(!bed.bench.unit.followed()[0].unsynced);
}

/// What the host cannot do when a unit is restored is recorded where the guest can see it.
#[test]
fn attachment_that_is_refused_during_a_restore_faults_in_the_restored_state() {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.follow(D, DEVICE);
    bed.enable();
    let saved = bed.bench.unit.save();
    bed.bench.w32(0x18, 0x0400_0000);
    bed.told();
    bed.judge(no_attachment);
    bed.bench.unit.restore(&saved).unwrap();
    assert_eq!(bed.told().len(), 2, "the device, and its tables");
    assert_eq!(bed.bench.r32(0x34), 0x2, "PPF");
    assert_eq!(record(&bed, 0), Some((u64::from(DEVICE), 0, 0x3, None)));
    assert_eq!(bed.faults(), [(0x3, 1)]);
}
