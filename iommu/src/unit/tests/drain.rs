// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The drain from several threads: what waits for it, what does not, and that nothing is lost.

use super::*;
use std::sync::mpsc::channel;

/// A unit whose interrupt entry invalidations arrive at a gate.
struct Gated {
    bench: Bench,
    arrived: Receiver<ThreadId>,
    proceed: Sender<()>,
}

impl Gated {
    fn new() -> Self {
        let bench = Bench::with_queue();
        let (arrived_tx, arrived) = channel();
        let (proceed, proceed_rx) = channel();
        *bench.recorder.gate.lock().unwrap() = Some(Gate {
            arrived: arrived_tx,
            proceed: proceed_rx,
        });
        Self {
            bench,
            arrived,
            proceed,
        }
    }

    /// Waits until `condition` holds of the shell, which another thread is about to bring about.
    fn wait_until(&self, condition: impl Fn(&Shell) -> bool) {
        while !condition(&self.bench.unit.shell()) {
            thread::yield_now();
        }
    }
}

#[test]
fn registers_are_readable_and_the_tail_writable_during_a_drain() {
    let gated = Gated::new();
    let bench = &gated.bench;
    bench.put(2, 2 << 32 | 0x25, 0x2000);
    thread::scope(|scope| {
        scope.spawn(|| bench.submit(&[(0x04, 0), (0x45, 0)]));
        gated.arrived.recv().unwrap();
        assert_eq!((bench.r64(0x80), bench.r64(0x88)), (0, 0x20));
        assert_eq!((bench.r32(0x1c), bench.r32(0x34)), (0x0400_0000, 0));
        bench.w32(0x88, 0x30);
        assert_eq!(bench.r64(0x88), 0x30);
        assert_eq!(bench.memory32(0x2000), 0, "left to the drainer");
        gated.proceed.send(()).unwrap();
    });
    assert_eq!((bench.r64(0x80), bench.memory32(0x2000)), (0x30, 2));
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

#[test]
fn commands_wait_for_the_step_under_way() {
    let gated = Gated::new();
    let bench = &gated.bench;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| bench.submit(&[(0x04, 0), (2 << 32 | 0x25, 0x2000)]));
        gated.arrived.recv().unwrap();
        scope.spawn(|| {
            bench.w32(0x18, 0);
            done.store(true, Ordering::SeqCst);
        });
        while bench.unit.turns.waiting() == 0 {
            thread::yield_now();
        }
        assert_eq!(bench.memory32(0x2000), 0, "the wait waits for the routes");
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(bench.r32(0x1c), 0x0400_0000);
        gated.proceed.send(()).unwrap();
    });
    assert_eq!(bench.memory32(0x2000), 2, "what was queued has been done");
    assert_eq!((bench.r32(0x1c), bench.r64(0x80)), (0, 0));
}

#[test]
fn queue_disable_finishes_what_is_queued_behind_the_step() {
    let gated = Gated::new();
    let bench = &gated.bench;
    thread::scope(|scope| {
        scope.spawn(|| bench.submit(&[(0x04, 0), (0x45, 0), (0xd2, 0), (2 << 32 | 0x25, 0x2000)]));
        gated.arrived.recv().unwrap();
        scope.spawn(|| bench.w32(0x18, 0));
        while bench.unit.turns.waiting() == 0 {
            thread::yield_now();
        }
        gated.proceed.send(()).unwrap();
    });
    assert_eq!(bench.memory32(0x2000), 2);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 1);
    assert_eq!((bench.r32(0x1c), bench.r64(0x80)), (0, 0));
}

#[test]
fn reset_drops_what_is_queued_behind_the_step() {
    let gated = Gated::new();
    let bench = &gated.bench;
    thread::scope(|scope| {
        scope.spawn(|| bench.submit(&[(0x04, 0), (0x45, 0), (2 << 32 | 0x25, 0x2000)]));
        gated.arrived.recv().unwrap();
        scope.spawn(|| bench.unit.reset());
        while bench.unit.turns.waiting() == 0 {
            thread::yield_now();
        }
        gated.proceed.send(()).unwrap();
        // The reset tells the routes, too.
        gated.arrived.recv().unwrap();
        gated.proceed.send(()).unwrap();
    });
    assert_eq!(bench.memory32(0x2000), 0);
    assert_eq!(
        (bench.r32(0x1c), bench.r64(0x80), bench.r64(0x88)),
        (0, 0, 0)
    );
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

/// A drainer takes on a queue full of descriptors for others; who brings more has to take over.
#[test]
fn tail_writer_takes_over_from_a_drainer_that_has_enough() {
    let gated = Gated::new();
    let bench = &gated.bench;
    bench.put(2, 0x04, 0);
    for index in 3..256 {
        bench.put(index, 0xd2, 0);
    }
    // The thread that takes the first step and the one that takes the next.
    let (expected, seen) = thread::scope(|scope| {
        let first = scope.spawn(|| bench.submit(&[(0x04, 0), (0x45, 0)]));
        let first_step = gated.arrived.recv().unwrap();
        bench.w32(0x88, 0xff0);
        let second = scope.spawn(|| bench.w32(0x88, 0xfe0));
        gated.wait_until(|shell| shell.drainers.count == 2);
        gated.proceed.send(()).unwrap();
        let next_step = gated.arrived.recv().unwrap();
        gated.proceed.send(()).unwrap();
        (
            [first.thread().id(), second.thread().id()],
            [first_step, next_step],
        )
    });
    assert_eq!(seen, expected);
    assert_eq!(bench.r64(0x80), 0xfe0);
    assert_eq!(bench.unit.counters().iotlb_invalidations, 251);
    assert_eq!(bench.unit.shell().drainers.count, 0);
}

/// What hears of the unit reads its registers and asks for routes.
#[derive(Debug, Default)]
struct Curious(Mutex<std::sync::Weak<Unit>>, AtomicUsize);

impl Curious {
    fn look(&self) {
        let unit = self.0.lock().unwrap().upgrade().unwrap();
        let mut data = [0; 8];
        unit.read(0x80, &mut data);
        let message = MsiMessage::default();
        assert_eq!(unit.peek_remap(SourceId(8), message), Some(message));
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl MsiSink for Curious {
    fn deliver(&self, _message: MsiMessage) {
        self.look();
    }
}

impl InterruptListener for Curious {
    fn interrupts_changed(&self) {
        self.look();
    }
}

#[test]
fn state_lock_is_free_while_anything_outside_is_called() {
    let curious = Arc::new(Curious::default());
    let outputs = Outputs {
        events: Arc::clone(&curious) as _,
        interrupts: Arc::clone(&curious) as _,
    };
    let mut bench = Bench::new();
    let capabilities = Capabilities::legacy(&LegacyOptions::default()).unwrap();
    bench.unit = Unit::new(capabilities, Arc::clone(&bench.ram) as _, outputs);
    *curious.0.lock().unwrap() = Arc::downgrade(&bench.unit);
    bench.w64(0x90, QUEUE);
    bench.w32(0x18, 0x0400_0000);
    bench.w32(0x38, 0);
    bench.w32(0xa0, 0);
    // A route notice, a completion event and a fault event.
    bench.submit(&[(0x04, 0), (0x15, 0), (0x0f, 0)]);
    assert_eq!(curious.1.load(Ordering::SeqCst), 3);
    // A fault event of a request, one that is sent by unmasking, and a reset.
    bench.w32(0x34, 0x10);
    bench.w32(0x18, 0);
    bench.w32(0x34, 0x10);
    bench.fault(0x10, 0x1000, Access::Read);
    bench.w32(0x22c, 0x8000_0000);
    bench.w32(0x38, 0x8000_0000);
    bench.fault(0x10, 0x2000, Access::Read);
    bench.w32(0x38, 0);
    bench.unit.reset();
    assert_eq!(curious.1.load(Ordering::SeqCst), 7);
}

/// Submitters share the ring under a lock as Linux does, and each waits for its own status word, while another thread
/// reads registers and one issues commands. No status may be missing.
#[test]
fn submitters_on_many_threads_all_see_their_status() {
    const THREADS: u64 = 4;
    const ROUNDS: u32 = 200;
    let bench = Bench::with_queue();
    let ring = Mutex::new(0u64);
    let stop = AtomicBool::new(false);
    let submit = |thread: u64, round: u32| {
        let address = 0x2000 + 4 * thread;
        {
            let mut tail = ring.lock().unwrap();
            bench.put(*tail, 0xd2, 0);
            bench.put((*tail + 1) % 256, u64::from(round) << 32 | 0x25, address);
            *tail = (*tail + 2) % 256;
            bench.w32(0x88, u32::try_from(*tail * 16).unwrap());
        }
        let seen = (0..10_000_000).any(|_| {
            assert_eq!(bench.r32(0x34), 0);
            thread::yield_now();
            bench.memory32(address) == round
        });
        assert!(seen, "the status of a wait is missing");
    };
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || (1..=ROUNDS).for_each(|round| submit(thread, round))))
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                bench.w32(0x18, 0x8400_0000);
                bench.w32(0x18, 0x0400_0000);
                assert_eq!(bench.r32(0x1c), 0x0400_0000);
                thread::yield_now();
            }
        });
        let results: Vec<_> = submitters
            .into_iter()
            .map(|submitter| submitter.join())
            .collect();
        stop.store(true, Ordering::Release);
        assert!(results.iter().all(Result::is_ok));
    });
    let counters = bench.unit.counters();
    let submissions = THREADS * u64::from(ROUNDS);
    assert_eq!(counters.waits, submissions);
    assert_eq!(counters.iotlb_invalidations, submissions);
    assert_eq!(bench.r64(0x80), bench.r64(0x88));
}
