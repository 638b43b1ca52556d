// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The network device against a socket in place of a tap.

use super::*;
use crate::virtio::Wait;
use crate::virtio::ring::Ring;
use crate::virtio::testing::{Guest, RawQueue, RecordingNotifier, drain};
use crate::virtio::worker::Worker;
use std::os::unix::net::UnixDatagram;

const QUEUE: u64 = 0x4000;
const BUFFER: u64 = 0x2_0000;
const MERGEABLE: u64 = 1 << 15;

/// A card whose tap is one end of a socket pair, and the other end.
fn card() -> (Net, UnixDatagram) {
    let (tap, peer) = UnixDatagram::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    (Net::new(tap.into(), [2, 0, 0, 0, 0, 1]).unwrap(), peer)
}

fn frame(len: usize) -> Vec<u8> {
    let payload = (0..len).map(|i| i.to_le_bytes()[0]);
    [0; HEADER_LEN].into_iter().chain(payload).collect()
}

fn receive(guest: &Guest, queue: &RawQueue<'_>, features: u64, frames: &[Vec<u8>]) -> (Wait, u32) {
    let (card, peer) = card();
    frames.iter().for_each(|frame| {
        peer.send(frame).unwrap();
    });
    let notifier = Arc::<RecordingNotifier>::default();
    let mut ring: Ring = guest.ring(queue, features, &notifier);
    let mut handler = card.activate(features).unwrap().remove(0);
    (drain(handler.as_mut(), &mut ring), notifier.signals())
}

#[test]
fn received_frame_lands_in_one_buffer_with_its_header() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 1600, true)]);
    let mut sent = frame(100);
    sent[0] = 2; // VIRTIO_NET_HDR_F_DATA_VALID
    let (wait, signals) = receive(&guest, &queue, 0, std::slice::from_ref(&sent));
    assert_eq!((wait, signals), (Wait::Source, 1));
    assert_eq!(queue.used(), [(0, 112)]);
    let seen = guest.read(BUFFER, 112);
    assert_eq!(seen[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(seen[12..], sent[12..]);
}

#[test]
fn long_frame_is_spread_over_mergeable_buffers() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    for slot in 0..4 {
        queue.submit(&[(BUFFER + slot * 0x1000, 1000, true)]);
    }
    let sent = frame(2500);
    receive(&guest, &queue, MERGEABLE, std::slice::from_ref(&sent));
    assert_eq!(queue.used(), [(0, 1000), (1, 1000), (2, 512)]);
    assert_eq!(guest.read(BUFFER + 10, 2), [3, 0]);
    assert_eq!(guest.read(BUFFER + 12, 988), sent[12..1000]);
    assert_eq!(guest.read(BUFFER + 0x1000, 1000), sent[1000..2000]);
    assert_eq!(guest.read(BUFFER + 0x2000, 512), sent[2000..]);
}

#[test]
fn frame_that_does_not_fit_is_dropped_and_its_buffer_kept() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 200, true)]);
    let (wait, _) = receive(&guest, &queue, 0, &[frame(1000), frame(60)]);
    assert_eq!(wait, Wait::Source);
    assert_eq!(queue.used(), [(0, 72)]);
}

#[test]
fn frame_without_any_buffer_waits_for_one() {
    let guest = Guest::translated();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let (card, peer) = card();
    peer.send(&frame(60)).unwrap();
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    let mut handler = card.activate(0).unwrap().remove(0);
    assert_eq!(drain(handler.as_mut(), &mut ring), Wait::Chains);
    queue.submit(&[(BUFFER, 200, true)]);
    assert_eq!(drain(handler.as_mut(), &mut ring), Wait::Source);
    assert_eq!(queue.used(), [(0, 72)]);
}

#[test]
fn sent_frame_reaches_the_tap_whole() {
    let guest = Guest::translated();
    let (card, peer) = card();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let sent = frame(3000);
    guest.write(BUFFER, &sent[..12]);
    guest.write(0x3_0800, &sent[12..]);
    queue.submit(&[(BUFFER, 12, false), (0x3_0800, 3000, false)]);
    let notifier = Arc::<RecordingNotifier>::default();
    let mut ring = guest.ring(&queue, 0, &notifier);
    let mut handler = card.activate(0).unwrap().remove(1);
    assert_eq!(drain(handler.as_mut(), &mut ring), Wait::Chains);
    let mut seen = vec![0; 4000];
    let len = peer.recv(&mut seen).unwrap();
    assert_eq!(seen[..len], sent);
    assert_eq!(queue.used(), [(0, 0)]);
}

#[test]
fn tap_that_is_gone_neither_spins_nor_fails_the_queue() {
    let guest = Guest::translated();
    let queue = RawQueue::new(&guest, QUEUE);
    let (tap, peer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(peer);
    let card = Net::new(tap.into(), [2; 6]).unwrap();
    let mut ring = guest.ring(&queue, 0, &Arc::default());
    let mut handler = card.activate(0).unwrap().remove(0);
    assert_eq!(drain(handler.as_mut(), &mut ring), Wait::Source);
    assert!(handler.source().is_none());
}

#[test]
fn receive_worker_wakes_for_the_tap() {
    let guest = Guest::translated();
    let (card, peer) = card();
    let mut queue = RawQueue::new(&guest, QUEUE);
    queue.submit(&[(BUFFER, 1600, true)]);
    let notifier = Arc::<RecordingNotifier>::default();
    let ring = guest.ring(&queue, 0, &notifier);
    let handler = card.activate(0).unwrap().remove(0);
    let worker = Worker::spawn("net", ring, handler, notifier.clone()).unwrap();
    peer.send(&frame(64)).unwrap();
    notifier.wait(|signals, _| signals == 1);
    drop(worker);
    assert_eq!(queue.used(), [(0, 76)]);
}

#[test]
fn configuration_holds_the_address() {
    let (card, _peer) = card();
    assert_eq!(card.config(), [2, 0, 0, 0, 0, 1, 0, 0]);
    // MAC, MRG_RXBUF, CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN.
    assert_eq!(
        card.features(),
        0x20 | 0x8000 | 0x1 | 0x800 | 0x1000 | 0x2000
    );
}

#[test]
fn address_of_a_name_is_local_unicast_and_stable() {
    let mac = mac_of("tap0");
    assert_eq!(mac[0] & 3, 2);
    assert_eq!(mac, mac_of("tap0"));
    assert_ne!(mac, mac_of("tap1"));
}
