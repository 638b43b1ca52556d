// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices in legacy mode: whose context is looked at when, and what is told of tables.

use super::*;
use crate::follow::FollowError;

/// Two devices, in domain 5 with tables at 0x3_0000 and unchanged in domain 6, and translation enabled.
fn bed() -> Bed {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.context(OTHER, 0x9, 0x602);
    bed.follow(D, DEVICE);
    bed.follow(E, OTHER);
    bed.enable();
    bed
}

#[test]
fn device_is_told_of_when_followed_and_needs_a_follower() {
    let bed = Bed::legacy();
    let device = FollowedDevice {
        handle: D,
        requester: Arc::new(Requester::new(SourceId(DEVICE))),
        pasids: None,
    };
    let alone = Bench::new();
    assert_eq!(
        alone.unit.follow(device.clone()),
        Err(FollowError::NoFollower(D))
    );
    assert_eq!(bed.follow(D, DEVICE), [attach(D, Attachment::Identity)]);
    assert_eq!(
        bed.bench.unit.follow(device),
        Err(FollowError::HandleTaken(D))
    );
    let second = Arc::clone(&bed.notes) as _;
    assert_eq!(
        bed.bench.unit.set_follower(second),
        Err(FollowError::SecondFollower)
    );
    assert_eq!(bed.told(), []);
}

#[test]
fn enabling_and_disabling_tells_what_changes() {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.context(OTHER, 0x9, 0x602);
    bed.follow(D, DEVICE);
    bed.follow(E, OTHER);
    bed.follow(DeviceHandle(11), 0x18);
    let told = bed.enable();
    assert_eq!(told.len(), 2, "what passes unchanged goes on to");
    assert_eq!(
        (told[0].device(), leads_to(&told[0])),
        (Some(D), Some((5, 0x3_0000)))
    );
    assert_eq!(told[1], attach(DeviceHandle(11), Attachment::Blocked));
    bed.bench.w32(0x18, 0x0400_0000);
    let identity = |device| attach(device, Attachment::Identity);
    assert_eq!(bed.told(), [identity(D), identity(DeviceHandle(11))]);
}

#[test]
fn late_device_is_told_what_is() {
    let bed = bed();
    bed.context(0x18, 0x4_0001, 0x701);
    let told = bed.follow(DeviceHandle(11), 0x18);
    assert_eq!(told.len(), 1);
    assert_eq!(leads_to(&told[0]), Some((7, 0x4_0000)));
    let FollowEvent::Attach {
        to: Attachment::Domain(domain),
        ..
    } = told[0]
    else {
        panic!("{told:?}");
    };
    assert_eq!(domain.tables.width, 39);
}

#[test]
fn table_pointer_that_is_set_again_tells_differences_and_that_tables_may_differ() {
    let bed = bed();
    bed.set(0xb000, 0xc001);
    bed.set(0xc000 + 16 * 0x10, 0x3_0001);
    bed.set(0xc000 + 16 * 0x10 + 8, 0x502);
    bed.bench.w64(0x20, 0xb000);
    bed.bench.w32(0x18, 0xc400_0000);
    let everything = FollowEvent::Invalidated(Invalidated::ALL);
    assert_eq!(bed.told(), [attach(E, Attachment::Blocked), everything]);
}

#[test]
fn device_selective_context_invalidation_looks_at_what_it_names() {
    let bed = bed();
    bed.context(DEVICE, 0x4_0001, 0x502);
    bed.context(OTHER, 0x4_0001, 0x502);
    assert_eq!(bed.submit(&[(0x18_0000_0031, 0)]), []);
    let told = bed.submit(&[(0x11_0000_0031, 0)]);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].device(), leads_to(&told[0])),
        (Some(E), Some((5, 0x4_0000)))
    );
    // FM = 1 leaves out function bit 2 only, 3 all.
    assert_eq!(bed.submit(&[(0x1_0011_0000_0031, 0)]), []);
    let told = bed.submit(&[(0x3_0011_0000_0031, 0)]);
    assert_eq!(
        (told[0].device(), leads_to(&told[0])),
        (Some(D), Some((5, 0x4_0000)))
    );
}

#[test]
fn domain_selective_context_invalidation_leaves_other_domains_alone() {
    let bed = bed();
    bed.context(DEVICE, 0x4_0001, 0x702);
    bed.context(OTHER, 0x4_0001, 0x802);
    assert_eq!(bed.submit(&[(0x0009_0021, 0)]), []);
    let told = bed.submit(&[(0x0005_0021, 0)]);
    assert_eq!(told.len(), 1, "what said domain 5: {told:?}");
    assert_eq!(leads_to(&told[0]), Some((7, 0x4_0000)));
    let told = bed.submit(&[(0x0008_0021, 0)]);
    assert_eq!(told.len(), 1, "what says domain 8: {told:?}");
    assert_eq!(told[0].device(), Some(E));
}

#[test]
fn global_context_invalidation_tells_only_what_differs() {
    let bed = bed();
    assert_eq!(bed.submit(&[(0x11, 0)]), []);
    bed.context(OTHER, 0, 0);
    assert_eq!(bed.submit(&[(0x11, 0)]), [attach(E, Attachment::Blocked)]);
    assert_eq!(bed.submit(&[(0x11, 0)]), []);
}

/// Fault processing disabled says nothing of what requests go through.
#[test]
fn context_bits_that_translate_nothing_else_are_not_told() {
    let bed = bed();
    bed.context(DEVICE, 0x3_0003, 0x502);
    bed.context(OTHER, 0x9, 0x702);
    assert_eq!(bed.submit(&[(0x11, 0)]), []);
}

#[test]
fn invalidation_through_registers_is_told() {
    let bed = bed();
    bed.bench.w32(0x18, 0x8000_0000);
    bed.context(OTHER, 0, 0);
    bed.bench.w64(0x28, 0xa000_0000_0000_0000);
    assert_eq!(bed.told(), [attach(E, Attachment::Blocked)]);
    bed.bench.w64(0xf8, 0xa000_0005_0000_0000);
    assert_eq!(bed.told(), [invalidated(5, None, ALL, false)]);
}

#[test]
fn tables_are_told_of_where_a_device_goes_through_them() {
    let bed = bed();
    let everything = FollowEvent::Invalidated(Invalidated::ALL);
    assert_eq!(bed.submit(&[(0xd2, 0)]), [everything]);
    assert_eq!(
        bed.submit(&[(0x0005_00e2, 0)]),
        [invalidated(5, None, ALL, false)]
    );
    assert_eq!(
        bed.submit(&[(0x0005_00f2, 0x1_3042)]),
        [invalidated(5, None, (0x1_0000, 0x1_3fff), true)]
    );
    // Domain 6 passes unchanged, and nobody is in domain 8.
    assert_eq!(bed.submit(&[(0x0006_00e2, 0), (0x0008_00e2, 0)]), []);
    bed.context(DEVICE, 0x9, 0x502);
    bed.submit(&[(0x11, 0)]);
    assert_eq!(bed.submit(&[(0xd2, 0), (0x0005_00e2, 0)]), []);
}

/// One batch for each wait; neighbours are one event, and what devices go through comes first.
#[test]
fn batch_ends_at_a_wait_and_is_answered_before_its_status() {
    let bed = bed();
    bed.notes.statuses.lock().unwrap().clear();
    bed.context(OTHER, 0, 0);
    let wait = |number: u64| (number << 32 | 0x25, STATUS);
    bed.bench.submit(&[
        (0x0005_00f2, 0x1000),
        (0x0005_00f2, 0x2000),
        (0x11, 0),
        (0x0005_00f2, 0x1000),
        wait(1),
        (0x0005_00f2, 0x8000),
        wait(2),
        (0x11, 0),
        wait(3),
    ]);
    assert_eq!(
        bed.batches(),
        [
            vec![
                attach(E, Attachment::Blocked),
                invalidated(5, None, (0x1000, 0x2fff), false),
            ],
            vec![invalidated(5, None, (0x8000, 0x8fff), false)],
        ]
    );
    assert_eq!(*bed.notes.statuses.lock().unwrap(), [0, 1]);
    assert_eq!(bed.bench.memory32(STATUS), 3);
}

#[test]
fn reset_is_one_event() {
    let bed = bed();
    bed.bench.unit.reset();
    assert_eq!(bed.told(), [FollowEvent::Reset]);
    bed.bench.w64(0x20, 0x8000);
    bed.bench.w32(0x18, 0x4000_0000);
    bed.bench.w32(0x18, 0x8000_0000);
    let told = bed.told();
    assert_eq!(told.len(), 1);
    assert_eq!(leads_to(&told[0]), Some((5, 0x3_0000)));
}

/// A follower that looks at GSTS and RTADDR whenever it is told.
#[derive(Debug)]
struct Reader {
    unit: std::sync::Weak<Unit>,
    seen: Mutex<Vec<(FollowEvent, u32, u64)>>,
}

impl Follower for Reader {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        let unit = self.unit.upgrade().unwrap();
        let (mut status, mut root) = ([0; 4], [0; 8]);
        unit.read(0x1c, &mut status);
        unit.read(0x20, &mut root);
        let registers = (u32::from_le_bytes(status), u64::from_le_bytes(root));
        let mut seen = self.seen.lock().unwrap();
        seen.extend(
            events
                .iter()
                .map(|event| (*event, registers.0, registers.1)),
        );
        Answer::done(events)
    }
}

#[test]
fn reset_is_told_when_the_registers_show_it() {
    let bench = Bench::with_queue();
    let reader = Arc::new(Reader {
        unit: Arc::downgrade(&bench.unit),
        seen: Mutex::default(),
    });
    bench.unit.set_follower(Arc::clone(&reader) as _).unwrap();
    let device = FollowedDevice {
        handle: D,
        requester: Arc::new(Requester::new(SourceId(DEVICE))),
        pasids: None,
    };
    bench.w64(0x20, 0x8000);
    bench.w32(0x18, 0x4400_0000);
    bench.w32(0x18, 0x8400_0000);
    bench.unit.follow(device).unwrap();
    bench.unit.reset();
    let seen = reader.seen.lock().unwrap();
    assert_eq!(
        *seen,
        [
            (attach(D, Attachment::Blocked), 0xc400_0000, 0x8000),
            (FollowEvent::Reset, 0, 0),
        ]
    );
}

#[test]
fn restore_tells_differences_and_that_tables_may_differ() {
    let bed = bed();
    let saved = bed.bench.unit.save();
    bed.bench.w32(0x18, 0x0400_0000);
    assert_eq!(bed.told(), [attach(D, Attachment::Identity)]);
    bed.bench.unit.restore(&saved).unwrap();
    let told = bed.told();
    assert_eq!(leads_to(&told[0]), Some((5, 0x3_0000)));
    assert_eq!(told[1..], [FollowEvent::Invalidated(Invalidated::ALL)]);
    bed.bench.unit.restore(&saved).unwrap();
    assert_eq!(bed.told(), [FollowEvent::Invalidated(Invalidated::ALL)]);
}

#[test]
fn renumbered_device_is_looked_at_again() {
    let bed = bed();
    let requester = Arc::new(Requester::new(SourceId(0x18)));
    let device = FollowedDevice {
        handle: DeviceHandle(11),
        requester: Arc::clone(&requester),
        pasids: None,
    };
    bed.bench.unit.follow(device).unwrap();
    let handle = DeviceHandle(11);
    assert_eq!(bed.told(), [attach(handle, Attachment::Blocked)]);
    requester.set_source(SourceId(OTHER));
    bed.bench.unit.refollow(handle);
    assert_eq!(bed.told(), [attach(handle, Attachment::Identity)]);
    // Nobody says so this time, but some invalidation comes: a global one of the IOTLB.
    requester.set_source(SourceId(0x18));
    let told = bed.submit(&[(0xd2, 0)]);
    assert_eq!(told[0], attach(handle, Attachment::Blocked));
}

#[test]
fn nobody_is_told_of_devices_that_are_followed_no_longer() {
    let bed = bed();
    bed.bench.unit.unfollow(E);
    bed.context(OTHER, 0, 0);
    assert_eq!(bed.submit(&[(0x11, 0)]), []);
    bed.bench.unit.unfollow(D);
    bed.context(DEVICE, 0, 0);
    assert_eq!(bed.submit(&[(0x11, 0), (0xd2, 0)]), []);
    bed.bench.unit.reset();
    assert_eq!(bed.told(), []);
    assert_eq!(bed.follow(E, OTHER), [attach(E, Attachment::Identity)]);
}

/// A device that arrives during a step is told of after it, and before the next one.
#[test]
fn late_device_waits_for_the_step_and_is_told_before_the_next() {
    let bed = bed();
    let (arrived_tx, arrived) = std::sync::mpsc::channel();
    let (proceed, proceed_rx) = std::sync::mpsc::channel();
    *bed.notes.gate.lock().unwrap() = Some(Gate {
        arrived: arrived_tx,
        proceed: proceed_rx,
    });
    let (unit, bench) = (&bed.bench.unit, &bed.bench);
    thread::scope(|scope| {
        scope.spawn(|| bench.submit(&[(0xd2, 0), (1 << 32 | 0x25, STATUS)]));
        arrived.recv().unwrap();
        scope.spawn(|| {
            let device = FollowedDevice {
                handle: DeviceHandle(11),
                requester: Arc::new(Requester::new(SourceId(0x18))),
                pasids: None,
            };
            unit.follow(device).unwrap();
        });
        while unit.turns.waiting() == 0 {
            thread::yield_now();
        }
        assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0, 0));
        proceed.send(()).unwrap();
        arrived.recv().unwrap();
        proceed.send(()).unwrap();
    });
    let batches = bed.batches();
    assert_eq!(batches[1], [attach(DeviceHandle(11), Attachment::Blocked)]);
}
