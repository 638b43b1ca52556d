// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings against a driver that writes raw descriptors.

use super::*;
use crate::virtio::testing::{FakeUnit, Guest, RawQueue, RecordingNotifier};
use proptest::prelude::*;

const EVENT_IDX: u64 = 1 << 29;
const QUEUE: u64 = 0x4000;
const BUFFER: u64 = 0x2_0000;

fn fail_of(guest: &Guest, queue: &RawQueue<'_>) -> RingError {
    let notifier = Arc::default();
    let mut ring = guest.ring(queue, 0, &notifier);
    let failed = ring.serve(|_| Ok(0));
    assert_eq!(notifier.signals(), 0);
    failed.unwrap_err()
}

#[test]
fn ring_without_chains_serves_nothing() {
    let guest = Guest::translated();
    let queue = RawQueue::new(&guest, QUEUE);
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    assert!(!ring.serve(|_| panic!("there is no chain")).unwrap());
}

#[test]
fn chain_over_three_pages_is_read_and_written_in_order() {
    let guest = Guest::translated();
    let notifier = Arc::default();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let sent: Vec<u8> = (0..=u8::MAX).cycle().take(0x2100).collect();
    guest.write(BUFFER + 0xf80, &sent);
    let head = queue.submit(&[
        (BUFFER + 0xf80, 0x2100, false),
        (0x8_0000, 3, true),
        (0x8_1000, 2, true),
    ]);
    let mut ring = guest.ring(&queue, 0, &notifier);
    let mut seen = vec![0; 0x2100];
    let served = ring.serve(|chain| {
        chain.readable.read(&mut seen)?;
        chain.writable.write(b"abcde")?;
        Ok(5)
    });
    assert!(served.unwrap());
    assert_eq!(seen, sent);
    assert_eq!(guest.read(0x8_0000, 4), b"abc\0");
    assert_eq!(guest.read(0x8_1000, 3), b"de\0");
    assert_eq!(queue.used(), [(u32::from(head), 5)]);
    assert_eq!(notifier.signals(), 1);
}

#[test]
fn blocked_available_ring_is_an_error_with_one_fault() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true)]);
    guest.unit.block(QUEUE + 0x1000);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::AvailableRing(0x1_0000_5000)
    ));
    assert_eq!(guest.unit.faults(), [0x1_0000_5000]);
}

#[test]
fn blocked_used_ring_is_an_error() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true)]);
    guest.unit.block(QUEUE + 0x2000);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::UsedRing {
            address: 0x1_0000_6000,
            ..
        }
    ));
}

#[test]
fn blocked_descriptor_table_is_an_error() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true)]);
    guest.unit.block(QUEUE);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::BrokenChain { head: 0 }
    ));
}

#[test]
fn blocked_second_page_of_a_buffer_is_an_error_and_nothing_is_used() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER + 0xff0, 0x20, true)]);
    guest.unit.block(BUFFER + 0x1000);
    assert!(matches!(fail_of(&guest, &queue), RingError::Buffer(_)));
    assert!(queue.used().is_empty());
}

#[test]
fn device_that_is_no_bus_master_reaches_nothing() {
    let guest = Guest::identity();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true)]);
    guest.space.requester().set_bus_master(false);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::AvailableRing(0x5000)
    ));
}

#[test]
fn chain_that_loops_is_broken() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.descriptor(0, guest.iova(BUFFER), 8, 1, 1);
    queue.descriptor(1, guest.iova(BUFFER), 8, 1, 0);
    queue.offer(0);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::BrokenChain { head: 0 }
    ));
}

#[test]
fn chain_beyond_the_table_is_broken() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.offer(16);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::BrokenChain { head: 16 }
    ));
}

#[test]
fn readable_descriptor_after_a_writable_one_is_broken() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true), (BUFFER, 8, false)]);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::BrokenChain { head: 0 }
    ));
}

#[test]
fn chain_longer_than_the_limit_is_refused_before_it_is_translated() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, u32::MAX, true)]);
    assert!(matches!(
        fail_of(&guest, &queue),
        RingError::ChainTooLong { head: 0, .. }
    ));
    assert!(guest.unit.faults().is_empty());
}

#[test]
fn available_index_beyond_the_queue_is_an_error() {
    let guest = Guest::translated();
    let queue = RawQueue::new(&guest, QUEUE);
    guest.write(QUEUE + 0x1002, &17u16.to_le_bytes());
    assert!(matches!(fail_of(&guest, &queue), RingError::Available(_)));
}

#[test]
fn indirect_chain_is_followed() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let table = 0x9_0000;
    let entry = |addr: u64, len: u32, flags: u16, next: u16| {
        [
            &guest.iova(addr).to_le_bytes()[..],
            &len.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ]
        .concat()
    };
    guest.write(table, &entry(BUFFER, 4, 1, 1));
    guest.write(table + 16, &entry(BUFFER + 0x100, 4, 2, 0));
    guest.write(BUFFER, b"ping");
    queue.descriptor(3, guest.iova(table), 32, 4, 0);
    queue.offer(3);
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    let served = ring.serve(|chain| {
        let mut word = [0; 4];
        chain.readable.read(&mut word)?;
        word.reverse();
        chain.writable.write(&word)?;
        Ok(4)
    });
    assert!(served.unwrap());
    assert_eq!(guest.read(BUFFER + 0x100, 4), b"gnip");
    assert_eq!(queue.used(), [(3, 4)]);
}

#[test]
fn rewound_chain_is_taken_again() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let head = queue.submit(&[(BUFFER, 8, true)]);
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    let first = ring.batch(|batch| {
        let chain = batch.pop()?;
        batch.rewind(1);
        Ok(chain.map(|chain| chain.head()))
    });
    assert_eq!(first.unwrap(), Some(head));
    assert!(queue.used().is_empty());
    assert!(ring.serve(|_| Ok(1)).unwrap());
    assert_eq!(queue.used(), [(u32::from(head), 1)]);
}

#[test]
fn signal_waits_for_the_used_event_of_the_driver() {
    let guest = Guest::translated();
    let notifier = Arc::default();
    let mut queue = RawQueue::new(&guest, QUEUE);
    // used_event, behind the 16 entries of the available ring: signal when the second buffer is used.
    guest.write(QUEUE + 0x1000 + 4 + 32, &1u16.to_le_bytes());
    queue.submit(&[(BUFFER, 8, true)]);
    queue.submit(&[(BUFFER, 8, true)]);
    let mut ring = guest.ring(&queue, EVENT_IDX, &notifier);
    assert!(ring.serve(|_| Ok(0)).unwrap());
    assert_eq!(notifier.signals(), 0);
    assert!(ring.serve(|_| Ok(0)).unwrap());
    assert_eq!(notifier.signals(), 1);
}

#[test]
fn notifications_are_asked_for_by_flag_without_event_index() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    ring.set_notifications(false).unwrap();
    assert_eq!(guest.read(QUEUE + 0x2000, 2), [1, 0]);
    assert!(!ring.set_notifications(true).unwrap());
    assert_eq!(guest.read(QUEUE + 0x2000, 2), [0, 0]);
    queue.submit(&[(BUFFER, 8, true)]);
    assert!(ring.set_notifications(true).unwrap());
}

#[test]
fn queue_of_an_impossible_size_is_refused() {
    let guest = Guest::translated();
    for size in [0, 3, 512] {
        let layout = QueueLayout {
            size,
            ..RawQueue::new(&guest, QUEUE).layout()
        };
        let notifier = Arc::<RecordingNotifier>::default();
        let ring = Ring::new(0, layout, 256, 0, Arc::clone(&guest.space), notifier);
        assert!(ring.is_err(), "size {size}");
    }
}

#[test]
fn quiesce_returns_only_after_the_section_of_a_request() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 8, true)]);
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    let space = Arc::clone(&guest.space);
    let ram = Arc::clone(&guest.ram);
    let mut invalidation = None;
    let served = ring.serve(|chain| {
        let (space, ram) = (Arc::clone(&space), Arc::clone(&ram));
        let (begin, begun) = std::sync::mpsc::channel();
        // Whatever the quiesce sees is what the memory holds when the invalidation completes.
        invalidation = Some(std::thread::spawn(move || {
            begin.send(()).unwrap();
            space.quiesce();
            let mut byte = [0];
            iommu::memory::PhysMem::read(&*ram, GuestAddress(BUFFER), &mut byte).unwrap();
            byte[0]
        }));
        begun.recv().unwrap();
        chain.writable.write(&[0x77])?;
        Ok(1)
    });
    assert!(served.unwrap());
    assert_eq!(invalidation.unwrap().join().unwrap(), 0x77);
}

/// Descriptors that are mostly near something real.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![
        4 => crate::virtio::testing::SHIFT..crate::virtio::testing::SHIFT + 0x10_1000,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0..0x3000u32, 1 => any::<u32>()];
    (address, len, 0..8u16, 0..20u16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ring_of_random_descriptors_never_panics_and_ends(
        table in prop::collection::vec(descriptor(), 16),
        heads in prop::collection::vec(0..20u16, 1..16),
        blocked in 0..0x100u64,
    ) {
        let guest = Guest::translated();
        let unit: &FakeUnit = &guest.unit;
        unit.block(blocked * 0x1000);
        let mut queue = RawQueue::new(&guest, QUEUE);
        for (index, (address, len, flags, next)) in (0..).zip(table) {
            queue.descriptor(index, address, len, flags, next);
        }
        heads.iter().for_each(|head| queue.offer(*head));
        let mut ring = guest.ring(&queue, 0, &Arc::default());
        for _ in 0..=heads.len() {
            let served = ring.serve(|chain| {
                let mut bytes = vec![0; chain.readable.len()];
                chain.readable.read(&mut bytes)?;
                let room = chain.writable.len();
                chain.writable.write(&vec![0xaa; room])?;
                Ok(u32::try_from(room).unwrap())
            });
            if !matches!(served, Ok(true)) {
                return Ok(());
            }
        }
        prop_assert!(false, "more chains than were offered");
    }
}
