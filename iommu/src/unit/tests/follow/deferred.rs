// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long work that another thread does, and what may happen until it is done.

use super::*;
use crate::unit::drain::Deferral;
use std::sync::mpsc::channel;

/// A device in domain 5 with tables at 0x3_0000, translation enabled, and a follower that defers.
fn bed() -> Bed {
    let bed = Bed::legacy();
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.follow(D, DEVICE);
    bed.enable();
    *bed.notes.deferred.lock().unwrap() = Some(Vec::new());
    bed
}

impl Bed {
    /// Takes what was deferred.
    fn deferred(&self) -> Vec<Deferred> {
        let mut deferred = self.notes.deferred.lock().unwrap();
        std::mem::take(deferred.as_mut().unwrap())
    }

    /// Does what was deferred, on another thread.
    fn catch_up(&self) -> usize {
        let deferred = self.deferred();
        let count = deferred.len();
        thread::scope(|scope| {
            scope.spawn(|| deferred.into_iter().for_each(Deferred::run));
        });
        count
    }
}

const fn wait(number: u64) -> (u64, u64) {
    (number << 32 | 0x25, STATUS)
}

#[test]
fn long_step_is_left_to_another_thread() {
    let bed = bed();
    let bench = &bed.bench;
    bench.submit(&[(0x0005_00e2, 0), wait(1)]);
    assert_eq!((bench.r64(0x80), bench.r64(0x88)), (0, 0x20));
    assert_eq!((bench.memory32(STATUS), bed.told()), (0, vec![]));
    // What comes meanwhile is left to the same thread.
    bench.put(2, 0x11, 0);
    let (low, high) = wait(2);
    bench.put(3, low, high);
    bench.w32(0x88, 0x40);
    assert_eq!(bench.memory32(STATUS), 0);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x40, 2));
    assert_eq!(bed.told(), [invalidated(5, None, ALL, false)]);
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

#[test]
fn long_step_behind_a_short_one_is_left_to_another_thread() {
    let bed = bed();
    let bench = &bed.bench;
    bench.submit(&[(0x0005_00f2, 0x5000), wait(1), (0x11, 0), wait(2)]);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x20, 1));
    let page = invalidated(5, None, (0x5000, 0x5fff), false);
    assert_eq!(bed.told(), [page]);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x40, 2));
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

#[test]
fn short_step_is_done_at_once() {
    let bed = bed();
    // 2^12 pages, in one or in two; interrupt entries concern no follower.
    for (first, second) in [(0x0000_000c, 0x04), (0x0000_000b, 0x0080_000b)] {
        let second = if second == 0x04 {
            (0x04, 0)
        } else {
            (0x0005_00f2, second)
        };
        let told = bed.submit(&[(0x0005_00f2, first), second]);
        assert_eq!(told, [invalidated(5, None, (0, 0xff_ffff), false)]);
    }
    assert_eq!(bed.deferred().len(), 0);
    for long in [(0x0005_00f2, 0x0d), (0x11, 0), (0xd2, 0)] {
        let tail = bed.bench.r64(0x88) / 16;
        bed.bench.put(tail, long.0, long.1);
        bed.bench.w64(0x88, (tail + 1) * 16);
        assert_eq!(bed.catch_up(), 1, "{long:x?}");
    }
}

/// Reset and disabling take the queue away from whoever was to drain it.
#[test]
fn deferred_work_finds_nothing_after_a_reset() {
    let bed = bed();
    let bench = &bed.bench;
    bench.submit(&[(0xd2, 0), wait(1)]);
    bench.unit.reset();
    assert_eq!(bed.told(), [FollowEvent::Reset]);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!((bench.memory32(STATUS), bed.told()), (0, vec![]));
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

#[test]
fn disabling_the_queue_does_deferred_work_first() {
    let bed = bed();
    let bench = &bed.bench;
    bench.submit(&[(0xd2, 0), wait(1)]);
    bench.w32(0x18, 0x8000_0000);
    assert_eq!(bench.memory32(STATUS), 1);
    assert_eq!(bed.told().len(), 1);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!((bed.told(), bench.r64(0x80)), (vec![], 0));
}

/// Nothing is lost but time: the next write of the tail, even of the same one, goes on where nothing was done.
#[test]
fn work_that_is_dropped_leaves_the_queue_to_the_next_write() {
    let bed = bed();
    let bench = &bed.bench;
    bench.submit(&[(0x0005_00e2, 0), wait(1)]);
    drop(bed.deferred());
    assert_eq!(bench.unit.shell().drainers.count, 0);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0, 0));
    bench.w32(0x88, 0x20);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x20, 1));
    assert_eq!(bed.told(), [invalidated(5, None, ALL, false)]);
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

/// The follower may have done a part of what it was told, so all of it is told again.
#[test]
fn work_that_panics_is_begun_again_by_the_next_write() {
    let bed = bed();
    let bench = &bed.bench;
    bed.judge(|_| panic!("a follower that fails, as it should"));
    bed.context(DEVICE, 0, 0);
    bench.submit(&[(0x11, 0), (0x0005_00e2, 0), wait(1)]);
    let work = bed.deferred().remove(0);
    let outcome = thread::scope(|scope| scope.spawn(|| work.run()).join());
    assert!(outcome.is_err());
    let blocked = attach(D, Attachment::Blocked);
    assert_eq!(bed.told(), [blocked]);
    assert_eq!(bench.unit.shell().drainers.count, 0);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0, 0));
    assert_eq!(bed.faults(), [(0x3, 1)], "the guest knows");
    bed.judge(|_| None);
    bench.w32(0x88, 0x30);
    assert_eq!(bed.catch_up(), 1);
    assert_eq!(bed.told(), [blocked]);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x30, 1));
}

/// A follower that says that it takes work, and drops it.
#[derive(Debug)]
struct Careless;

impl Follower for Careless {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        Answer::done(events)
    }

    fn defer(&self, _work: Deferred) -> Option<Deferred> {
        None
    }
}

#[test]
fn work_that_is_dropped_at_once_is_done_by_who_offered_it() {
    let bench = Bench::with_queue();
    bench.unit.set_follower(Arc::new(Careless)).unwrap();
    let device = FollowedDevice {
        handle: D,
        requester: Arc::new(Requester::new(SourceId(DEVICE))),
        pasids: None,
    };
    bench.unit.follow(device).unwrap();
    bench.submit(&[(0xd2, 0), wait(1), (0xd2, 0), wait(2)]);
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0x40, 2));
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

/// However often the guest writes while a long step lasts, one thread at most is asked to do what is queued.
#[test]
fn writes_behind_a_long_step_defer_nothing_more() {
    let bed = bed();
    let bench = &bed.bench;
    let (arrived_tx, arrived) = channel();
    let (proceed, proceed_rx) = channel();
    *bed.notes.gate.lock().unwrap() = Some(Gate {
        arrived: arrived_tx,
        proceed: proceed_rx,
    });
    bench.submit(&[(0x0005_00e2, 0), wait(1)]);
    let mut deferred = bed.deferred();
    assert_eq!(deferred.len(), 1);
    let deferred = deferred.remove(0);
    // What else was deferred, and the drainers.
    let more = thread::scope(|scope| {
        scope.spawn(|| deferred.run());
        arrived.recv().unwrap();
        let mut tail = 2;
        for write in 0..1000 {
            if write % 5 == 0 {
                bench.put(tail, 0x0005_00e2, 0);
                tail += 1;
            }
            let (register, value) = [(0x88, 16 * tail), (0x34, 0)][write % 2];
            bench.w32(register, u32::try_from(value).unwrap());
        }
        let (low, high) = wait(2);
        bench.put(tail, low, high);
        bench.w32(0x88, u32::try_from(16 * (tail + 1)).unwrap());
        let state = (bed.deferred().len(), bench.unit.shell().drainers.count);
        proceed.send(()).unwrap();
        proceed.send(()).unwrap();
        state
    });
    assert_eq!(more, (0, 1), "all is left to the same work");
    assert_eq!((bench.r64(0x80), bench.memory32(STATUS)), (0xcb0, 2));
    assert_eq!(bench.unit.counters().iotlb_invalidations, 201);
    assert_eq!(bench.unit.shell().drainers.count, 0);
    *bed.notes.gate.lock().unwrap() = None;
    bench.put(0xcb, 0xd2, 0);
    bench.w32(0x88, 0xcc0);
    assert_eq!(bed.catch_up(), 1, "the next long step is deferred again");
    assert_eq!(bench.r64(0x80), 0xcc0);
}

/// A follower with a thread of its own.
#[derive(Debug)]
struct Threaded(Sender<Deferred>);

impl Follower for Threaded {
    fn apply(&self, events: &[FollowEvent]) -> Answer {
        Answer::done(events)
    }

    fn defer(&self, work: Deferred) -> Option<Deferred> {
        self.0.send(work).err().map(|error| error.0)
    }
}

/// Long and short steps from several threads: no status may be missing, and work that was deferred is one at a time.
#[test]
fn deferring_loses_no_status_of_several_submitters() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 300;
    let bench = Bench::with_queue();
    let (work, deferred) = channel();
    bench.unit.set_follower(Arc::new(Threaded(work))).unwrap();
    let device = FollowedDevice {
        handle: D,
        requester: Arc::new(Requester::new(SourceId(DEVICE))),
        pasids: None,
    };
    bench.unit.follow(device).unwrap();
    let ring = Mutex::new(0);
    let submit = |thread: u64, round: u64| {
        let address = 0x2000 + 4 * thread;
        {
            let mut tail = ring.lock().unwrap();
            // All contexts, or one page.
            let long = (round + thread).is_multiple_of(3);
            let (low, high) = if long { (0x11, 0) } else { (0x0005_00f2, 0) };
            bench.put(*tail, low, high);
            bench.put((*tail + 1) % 256, round << 32 | 0x25, address);
            *tail = (*tail + 2) % 256;
            bench.w32(0x88, u32::try_from(*tail * 16).unwrap());
        }
        (0..10_000_000).any(|_| {
            thread::yield_now();
            u64::from(bench.memory32(address)) == round
        })
    };
    let unit = &bench.unit;
    let seen = thread::scope(|scope| {
        let submitters: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || (1..=ROUNDS).all(|round| submit(thread, round))))
            .collect();
        while !submitters.iter().all(|submitter| submitter.is_finished()) {
            if let Ok(work) = deferred.try_recv() {
                // Offered, or already taken: who offered it may not have come back from that yet.
                assert_ne!(unit.shell().drainers.deferral, Deferral::None);
                work.run();
            }
            thread::yield_now();
        }
        submitters.into_iter().all(|one| one.join().unwrap())
    });
    assert!(seen, "the status of a wait is missing");
    assert_eq!(bench.unit.counters().waits, THREADS * ROUNDS);
    assert_eq!(bench.r64(0x80), bench.r64(0x88));
}
