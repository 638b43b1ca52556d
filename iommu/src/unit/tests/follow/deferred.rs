// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Long work that another thread does, and what may happen until it is done.

use super::*;

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
