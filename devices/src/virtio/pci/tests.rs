// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The transport against register accesses as a driver makes them.

mod rig;

use super::*;
use crate::virtio::testing::RawQueue;
use rig::*;
use std::sync::mpsc::channel;

#[test]
fn identity_is_that_of_a_modern_device() {
    let rig = Rig::new();
    assert_eq!(rig.config(0x00), 0x1044_1af4);
    assert_eq!(rig.config(0x08), 0x1234_5601);
    let ids: Vec<u8> = rig.capabilities().iter().map(|c| c.1).collect();
    assert_eq!(ids, [0x11, 9, 9, 9, 9, 9, 0x01, 0x10]);
}

#[test]
fn vendor_capabilities_name_each_structure() {
    let rig = Rig::new();
    let vendor = rig.capabilities().into_iter().filter(|c| c.1 == 9);
    let named: Vec<_> = vendor
        .map(|(at, _)| {
            (
                rig.config(at) >> 16,
                rig.config(at + 4),
                rig.config(at + 8),
                rig.config(at + 12),
            )
        })
        .collect();
    // (type << 8 | length, BAR and id, offset, bytes)
    assert_eq!(
        named,
        [
            (0x0110, 0, 0x0000, 56),
            (0x0214, 0, 0x3000, 8),
            (0x0310, 0, 0x1000, 1),
            (0x0410, 0, 0x2000, 13),
            (0x0514, 0, 0x0000, 0),
        ]
    );
    let notify = rig.capabilities()[2].0;
    assert_eq!(rig.config(notify + 16), 4);
}

#[test]
fn offered_features_are_the_device_s_and_the_transport_s() {
    let rig = Rig::new();
    rig.put(DEVICE_FEATURE_SELECT, 4, 0);
    assert_eq!(rig.get(DEVICE_FEATURE, 4), 0x3000_0020);
    rig.put(DEVICE_FEATURE_SELECT, 4, 1);
    assert_eq!(rig.get(DEVICE_FEATURE, 4), 0x3);
    rig.put(DEVICE_FEATURE_SELECT, 4, 2);
    assert_eq!(rig.get(DEVICE_FEATURE, 4), 0);
}

#[test]
fn features_are_refused_without_version_1_or_the_iommu_or_when_not_offered() {
    let rig = Rig::new();
    assert_eq!(rig.negotiate(0x20, 0x0), 0x03);
    assert_eq!(rig.negotiate(0x20, 0x1), 0x03, "no ACCESS_PLATFORM");
    assert_eq!(rig.negotiate(0x20, 0x2), 0x03, "no VERSION_1");
    assert_eq!(rig.negotiate(0x40, 0x3), 0x03, "not offered");
    assert_eq!(rig.negotiate(0x20, 0x7), 0x03, "packed ring");
    assert_eq!(rig.negotiate(0x20, 0x3), 0x0b);
}

#[test]
fn driver_that_goes_on_after_a_refusal_gets_no_device() {
    let rig = Rig::new();
    assert_eq!(rig.negotiate(0, 0x1), 0x03);
    rig.put(STATUS, 1, 0x0f);
    assert_eq!(rig.status(), 0x03);
    assert_eq!(Arc::strong_count(&rig.alive), 2);
}

#[test]
fn features_are_frozen_once_agreed() {
    let rig = Rig::new();
    rig.negotiate(0, 0x3);
    rig.put(DRIVER_FEATURE_SELECT, 4, 1);
    rig.put(DRIVER_FEATURE, 4, 0);
    assert_eq!(rig.get(DRIVER_FEATURE, 4), 0x3);
}

#[test]
fn queue_registers_read_back_and_freeze_when_enabled() {
    let rig = Rig::new();
    assert_eq!(rig.get(NUM_QUEUES, 2), 2);
    rig.put(QUEUE_SELECT, 2, 1);
    assert_eq!(
        (rig.get(QUEUE_SIZE, 2), rig.get(QUEUE_NOTIFY_OFF, 2)),
        (16, 1)
    );
    assert_eq!(rig.get(QUEUE_VECTOR, 2), 0xffff);
    rig.put(QUEUE_VECTOR, 2, 2);
    assert_eq!(rig.get(QUEUE_VECTOR, 2), 2);
    rig.put(QUEUE_VECTOR, 2, 3);
    assert_eq!(rig.get(QUEUE_VECTOR, 2), 0xffff, "there are 3 vectors");
    rig.put(QUEUE_DESC, 8, 0x1122_3344_5566_7000);
    rig.put(QUEUE_DRIVER + 4, 4, 0xaabb_ccdd);
    assert_eq!(rig.get(QUEUE_DESC, 8), 0x1122_3344_5566_7000);
    assert_eq!(rig.get(QUEUE_DRIVER, 8), 0xaabb_ccdd_0000_0000);
    rig.put(QUEUE_SIZE, 2, 8);
    rig.put(QUEUE_ENABLE, 2, 1);
    rig.put(QUEUE_SIZE, 2, 4);
    rig.put(QUEUE_DESC, 4, 0);
    assert_eq!(rig.get(QUEUE_SIZE, 2), 8);
    assert_eq!(rig.get(QUEUE_DESC, 8), 0x1122_3344_5566_7000);
    rig.put(QUEUE_SELECT, 2, 2);
    assert_eq!(rig.get(QUEUE_SIZE, 2), 0, "no such queue");
    rig.put(STATUS, 1, 0);
    rig.put(QUEUE_SELECT, 2, 1);
    assert_eq!((rig.get(QUEUE_SIZE, 2), rig.get(QUEUE_ENABLE, 2)), (16, 0));
}

#[test]
fn device_configuration_is_read_only_and_zero_beyond_its_end() {
    let rig = Rig::new();
    assert_eq!(
        rig.get(DEVICE_CONFIG, 4),
        u64::from(u32::from_le_bytes(*b"conf"))
    );
    rig.put(DEVICE_CONFIG, 4, 0);
    assert_eq!(rig.get(DEVICE_CONFIG + 12, 4), u64::from(b'n'));
    assert_eq!(rig.get(DEVICE_CONFIG + 0x800, 4), 0);
}

#[test]
fn notified_request_is_answered_with_the_queue_s_message() {
    let rig = Rig::new();
    rig.enable_msix();
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    rig.start(&queue);
    assert_eq!(rig.status(), RUNNING);
    queue.submit(&[(BUFFER, 4, true)]);
    rig.put(NOTIFY, 2, 0);
    assert_eq!(rig.messages.wait_for(1), [(0x0018, 0xfee0_0000, 0x41)]);
    assert_eq!(rig.guest.read(BUFFER, 2), b"!\0");
    assert_eq!(queue.used(), [(0, 1)]);
    assert!(!rig.line.levels().contains(&true));
    rig.function.stop();
    assert_eq!(rig.status(), 0);
    assert_eq!(Arc::strong_count(&rig.alive), 2, "no worker is left");
}

#[test]
fn request_made_available_before_the_driver_was_ready_is_served() {
    let rig = Rig::new();
    rig.enable_msix();
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    queue.submit(&[(BUFFER, 4, true)]);
    rig.start(&queue);
    rig.messages.wait_for(1);
    assert_eq!(queue.used(), [(0, 1)]);
}

#[test]
fn pin_is_asserted_without_msix_and_taken_back_by_the_status_byte() {
    let rig = Rig::new();
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    queue.submit(&[(BUFFER, 4, true)]);
    rig.start(&queue);
    // The worker's last act before it waits is the pin.
    for _ in 0..60_000 {
        if rig.line.levels().contains(&true) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(rig.get(ISR, 1), 1);
    assert_eq!(rig.line.levels().last(), Some(&false));
    assert_eq!(rig.get(ISR, 1), 0);
    assert!(rig.messages.seen.lock().unwrap().is_empty());
}

#[test]
fn ring_that_the_unit_blocks_leaves_a_device_that_needs_a_reset() {
    let rig = Rig::new();
    rig.enable_msix();
    let queue = RawQueue::new(&rig.guest, QUEUE);
    rig.guest.unit.block(QUEUE + 0x1000);
    rig.start(&queue);
    assert_eq!(rig.messages.wait_for(1), [(0x0018, 0xfee0_0000, 0x40)]);
    assert_eq!(rig.status(), RUNNING | NEEDS_RESET);
    rig.put(NOTIFY, 2, 0);
    rig.put(STATUS, 1, 0x0f);
    assert_eq!(
        rig.status(),
        RUNNING | NEEDS_RESET,
        "the driver cannot clear it"
    );
    rig.put(STATUS, 1, 0);
    assert_eq!(rig.status(), 0);
    assert_eq!(rig.guest.unit.faults().len(), 1);
}

#[test]
fn queue_of_an_impossible_size_leaves_a_device_that_needs_a_reset() {
    let rig = Rig::new();
    let queue = RawQueue::new(&rig.guest, QUEUE);
    rig.negotiate(0, 0x3);
    rig.put(QUEUE_SELECT, 2, 0);
    rig.put(QUEUE_SIZE, 2, 3);
    rig.place_queue(1, &queue, 0xffff);
    rig.put(QUEUE_SELECT, 2, 0);
    rig.put(QUEUE_ENABLE, 2, 1);
    rig.put(STATUS, 1, 0x0f);
    assert_eq!(rig.status(), RUNNING | NEEDS_RESET);
    assert_eq!(Arc::strong_count(&rig.alive), 2);
}

/// Starts a request that stays inside its section, lets `reset` run meanwhile, then lets the request finish.
fn reset_during_a_request(reset: impl FnOnce(&VirtioPci) + Send + 'static) {
    let (entered, has_entered) = channel();
    let (open, opened) = channel();
    let gate = Gate {
        entered: Mutex::new(entered),
        open: Mutex::new(opened),
    };
    let rig = Rig::with(Some(Arc::new(gate)));
    let mut queue = RawQueue::new(&rig.guest, QUEUE);
    queue.submit(&[(BUFFER, 4, true)]);
    queue.submit(&[(BUFFER + 0x100, 4, true)]);
    rig.start(&queue);
    has_entered.recv().unwrap();
    let function = Arc::clone(&rig.function);
    let (done, is_done) = channel();
    let resetting = std::thread::spawn(move || {
        reset(&function);
        done.send(()).unwrap();
    });
    assert!(
        is_done.try_recv().is_err(),
        "the request is still under way"
    );
    open.send(()).unwrap();
    // The worker may take the second request before it sees the stop; it must then finish that one too.
    let _ = open.send(());
    resetting.join().unwrap();
    is_done.recv().unwrap();
    assert_eq!(Arc::strong_count(&rig.alive), 2, "the workers are gone");
    assert_eq!(rig.status(), 0);
    assert_eq!(
        rig.guest.read(BUFFER, 1),
        b"!",
        "the request finished first"
    );
    let used = queue.used();
    rig.put(NOTIFY, 2, 0);
    assert_eq!(queue.used(), used);
}

#[test]
fn reset_by_status_waits_for_the_request_under_way() {
    reset_during_a_request(|function| function.bar_write(0, STATUS, &[0]));
}

#[test]
fn function_level_reset_waits_for_the_request_under_way() {
    reset_during_a_request(|function| {
        let express = {
            let mut at = [0];
            function.config_read(0x34, &mut at);
            loop {
                let mut head = [0; 2];
                function.config_read(at[0].into(), &mut head);
                if head[0] == 0x10 {
                    break u16::from(at[0]);
                }
                at[0] = head[1];
            }
        };
        // Device control, bit 15.
        function.config_write(express + 8, &[0, 0x80]);
    });
}

#[test]
fn device_works_again_after_a_reset() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.function.reset();
        rig.function.config_write(0x04, &[0x06, 0]);
        rig.messages.seen.lock().unwrap().clear();
        rig.enable_msix();
        rig.guest.write(QUEUE, &[0; 0x3000]);
        let mut queue = RawQueue::new(&rig.guest, QUEUE);
        rig.start(&queue);
        queue.submit(&[(BUFFER, 4, true)]);
        rig.put(NOTIFY, 2, 0);
        assert_eq!(rig.messages.wait_for(1).len(), 1);
    }
}

#[test]
fn window_in_configuration_space_reaches_the_registers() {
    let rig = Rig::new();
    let (at, _) = rig.capabilities()[5];
    rig.function.config_write(at + 8, &0u32.to_le_bytes());
    rig.function.config_write(at + 12, &4u32.to_le_bytes());
    rig.function.config_write(at + 16, &1u32.to_le_bytes());
    assert_eq!(rig.get(DEVICE_FEATURE_SELECT, 4), 1);
    rig.function.config_write(at + 8, &4u32.to_le_bytes());
    assert_eq!(rig.config(at + 16), 0x3);
    // Impossible accesses do nothing.
    rig.function.config_write(at + 12, &3u32.to_le_bytes());
    rig.function.config_write(at + 16, &[0xff; 4]);
    rig.function.config_write(at + 12, &4u32.to_le_bytes());
    rig.function
        .config_write(at + 8, &0xffff_fffcu32.to_le_bytes());
    rig.function.config_write(at + 16, &[0xff; 4]);
    assert_eq!(rig.get(DEVICE_FEATURE_SELECT, 4), 1);
}

#[test]
fn accesses_of_any_place_and_width_do_no_harm() {
    let rig = Rig::new();
    let queue = RawQueue::new(&rig.guest, QUEUE);
    rig.start(&queue);
    for at in (0..0x8000u64).chain([u64::MAX, u64::MAX - 7]) {
        for len in [1, 2, 4, 8] {
            rig.get(at, len);
            rig.put(at, len, 0xffff_ffff_ffff_ffff);
        }
    }
    rig.put(STATUS, 1, 0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn bus_master_off_waits_for_the_dma_under_way() {
    let rig = Rig::new();
    let section = rig.guest.space.section();
    let (written, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rig.function.config_write(0x04, &[0x02, 0]);
            written.send(()).unwrap();
        });
        while rig.guest.space.requester().is_bus_master() {
            std::thread::yield_now();
        }
        let limit = std::time::Duration::from_millis(50);
        assert!(done.recv_timeout(limit).is_err());
        drop(section);
        done.recv().unwrap();
    });
}
