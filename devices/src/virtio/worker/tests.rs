// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! When a worker looks at its ring, and when it must not.

use super::*;
use crate::virtio::testing::{Guest, RawQueue, RecordingNotifier};

const QUEUE: u64 = 0x4000;
const BUFFER: u64 = 0x2_0000;

const EVENT_IDX: u64 = 1 << 29;

#[derive(Debug)]
struct Echo;

impl QueueHandler for Echo {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        while ring.serve(|chain| {
            chain.writable.write(b"!")?;
            Ok(1)
        })? {}
        Ok(Wait::Chains)
    }
}

#[test]
fn worker_serves_after_a_kick_and_ends_when_dropped() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let ring = guest.ring(&queue, EVENT_IDX, &notifier);
    let worker = Worker::spawn("echo", ring, Box::new(Echo), notifier.clone()).unwrap();
    queue.submit(&[(BUFFER, 8, true)]);
    worker.kick().wake();
    notifier.wait(|signals, _| signals == 1);
    assert_eq!(guest.read(BUFFER, 1), b"!");
    drop(worker);
    // The ring and its thread are gone.
    assert_eq!(Arc::strong_count(&notifier), 1);
}

#[test]
fn worker_with_a_blocked_ring_reports_once_and_stops() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let queue = RawQueue::new(&guest, QUEUE);
    guest.unit.block(QUEUE + 0x1000);
    let ring = guest.ring(&queue, 0, &notifier);
    let worker = Worker::spawn("echo", ring, Box::new(Echo), notifier.clone()).unwrap();
    notifier.wait(|_, failures| failures == 1);
    worker.kick().wake();
    drop(worker);
    assert_eq!(notifier.failures(), 1);
    assert_eq!(guest.unit.faults().len(), 1);
}

#[test]
fn paused_worker_serves_what_came_meanwhile_when_it_goes_on() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let mut queue = RawQueue::new(&guest, QUEUE);
    let ring = guest.ring(&queue, 0, &notifier);
    let worker = Worker::spawn("echo", ring, Box::new(Echo), notifier.clone()).unwrap();
    for round in 1..=20 {
        worker.pause();
        queue.submit(&[(BUFFER, 8, true)]);
        worker.kick().wake();
        std::thread::yield_now();
        assert_eq!(
            notifier.signals(),
            round - 1,
            "it works although it is paused"
        );
        worker.resume();
        notifier.wait(|signals, _| signals == round);
    }
}

#[test]
fn paused_worker_ends_when_dropped() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let queue = RawQueue::new(&guest, QUEUE);
    let ring = guest.ring(&queue, 0, &notifier);
    let worker = Worker::spawn("echo", ring, Box::new(Echo), notifier.clone()).unwrap();
    worker.pause();
    drop(worker);
    assert_eq!(Arc::strong_count(&notifier), 1);
}

#[derive(Debug)]
struct Bug;

impl QueueHandler for Bug {
    fn process(&mut self, _ring: &mut Ring) -> Result<Wait, RingError> {
        panic!("a test lets this worker panic");
    }
}

#[test]
fn worker_that_panics_leaves_a_device_that_needs_a_reset() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let queue = RawQueue::new(&guest, QUEUE);
    let ring = guest.ring(&queue, 0, &notifier);
    let worker = Worker::spawn("bug", ring, Box::new(Bug), notifier.clone()).unwrap();
    notifier.wait(|_, failures| failures == 1);
    drop(worker);
}

#[test]
fn worker_that_is_stopped_while_it_waits_leaves_the_ring_alone() {
    let guest = Guest::translated();
    let notifier = Arc::<RecordingNotifier>::default();
    let queue = RawQueue::new(&guest, QUEUE);
    let flags = QUEUE + 0x2000;
    guest.write(flags, &[1, 0]);
    let ring = guest.ring(&queue, 0, &notifier);
    let worker = Worker::spawn("echo", ring, Box::new(Echo), notifier.clone()).unwrap();
    // The last thing it does before it waits is to ask for notifications.
    while guest.read(flags, 2) != [0, 0] {
        std::thread::yield_now();
    }
    guest.unit.block(flags);
    drop(worker);
    assert_eq!(notifier.failures(), 0);
    assert!(guest.unit.faults().is_empty());
}
