// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Measuring on a machine that others use, too.
//!
//! What is compared runs in turns, in slices far shorter than what a scheduler grants, so that whatever disturbs one side
//! disturbs the other. Of the slices of each side one of the quickest counts, that which a twentieth of them is quicker than:
//! a slice that was interrupted is only ever longer. That is done several times over, and the median is the figure.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Times that a figure is measured; the median counts.
const ROUNDS: usize = 9;
/// Slices of each side in a round.
const SLICES: usize = 200;
/// Slices of each side before the first round, in which caches fill.
const WARM_UP: usize = 20;

/// How long `a` takes, in multiples of what `b` takes. One call is one slice and should take some tens of microseconds.
pub fn ratio(mut a: impl FnMut(), mut b: impl FnMut()) -> f64 {
    for _ in 0..WARM_UP {
        a();
        b();
    }
    figure(|| {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..SLICES {
            times[0].push(timed(&mut a));
            times[1].push(timed(&mut b));
        }
        let [a, b] = times.map(quick);
        a / b
    })
}

/// How much more `work` gets done by two threads than by one, in multiples of what `control` gains in the same way. Each
/// call is one slice of one thread, which is numbered 0 or 1.
pub fn scaling(work: impl Fn(usize) + Sync, control: impl Fn(usize) + Sync) -> f64 {
    let helper = Helper::default();
    thread::scope(|scope| {
        scope.spawn(|| helper.serve(&work, &control));
        let _finish = Finish(&helper);
        for _ in 0..WARM_UP {
            helper.both(Task::Work, &work);
            helper.both(Task::Control, &control);
        }
        figure(|| {
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..SLICES {
                times[0].push(timed(&mut || work(0)));
                times[1].push(helper.both(Task::Work, &work));
                times[2].push(timed(&mut || control(0)));
                times[3].push(helper.both(Task::Control, &control));
            }
            let [work, both_work, control, both_control] = times.map(quick);
            (work / both_work) / (control / both_control)
        })
    })
}

/// The median of several rounds.
fn figure(round: impl FnMut() -> f64) -> f64 {
    let mut figures: Vec<f64> = std::iter::repeat_with(round).take(ROUNDS).collect();
    figures.sort_by(f64::total_cmp);
    figures[ROUNDS / 2]
}

fn timed(slice: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    slice();
    start.elapsed()
}

/// The time that a twentieth of the times is below, in seconds.
fn quick(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 20].as_secs_f64()
}

#[derive(Clone, Copy)]
enum Task {
    Work,
    Control,
}

/// What the second thread and the first tell each other. Both are known to be running when a slice begins: the first asks,
/// the second answers, the first starts.
#[derive(Default)]
struct Helper {
    /// The slice that is asked for; odd ones are of the control.
    asked: AtomicU64,
    answered: AtomicU64,
    started: AtomicU64,
    /// The slice that is done.
    done: AtomicU64,
    finished: AtomicBool,
}

impl Helper {
    /// The time until both threads have done a slice of `task`.
    fn both(&self, task: Task, slice: &impl Fn(usize)) -> Duration {
        let last = self.asked.load(Ordering::Relaxed);
        let number = match task {
            Task::Work => (last | 1) + 1,
            Task::Control => (last + 1) | 1,
        };
        self.asked.store(number, Ordering::Release);
        wait_idle(|| self.answered.load(Ordering::Acquire) == number);
        let start = Instant::now();
        self.started.store(number, Ordering::Release);
        slice(0);
        wait(|| self.done.load(Ordering::Acquire) == number);
        start.elapsed()
    }

    fn serve(&self, work: &impl Fn(usize), control: &impl Fn(usize)) {
        let mut last = 0;
        loop {
            let asked = || self.asked.load(Ordering::Acquire);
            wait_idle(|| asked() != last || self.finished.load(Ordering::Acquire));
            if asked() == last {
                return;
            }
            last = asked();
            self.answered.store(last, Ordering::Release);
            wait(|| self.started.load(Ordering::Acquire) == last);
            if last & 1 == 0 {
                work(1);
            } else {
                control(1);
            }
            self.done.store(last, Ordering::Release);
        }
    }
}

/// Lets the second thread end, also when the first fails.
struct Finish<'a>(&'a Helper);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finished.store(true, Ordering::Release);
    }
}

/// Waits for a thread that may not be running. Lets others run now and then.
fn wait_idle(ready: impl Fn() -> bool) {
    let mut spins = 0u32;
    while !ready() {
        spins += 1;
        if spins.is_multiple_of(4096) {
            thread::yield_now();
        }
        hint::spin_loop();
    }
}

/// Waits for a thread that is running, without a pause: whoever paused here would not be running when the slice begins.
fn wait(ready: impl Fn() -> bool) {
    while !ready() {
        hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn ratio_runs_both_sides_in_turns() {
        let [a, b] = [const { Cell::new(0) }; 2];
        let figure = ratio(
            || {
                assert_eq!(a.get(), b.get());
                a.set(a.get() + 1);
            },
            || b.set(b.get() + 1),
        );
        assert_eq!((a.get(), b.get()), (1820, 1820));
        assert!(figure.is_finite());
    }

    #[test]
    fn scaling_runs_each_side_on_both_threads_and_ends() {
        let counts = [const { AtomicU64::new(0) }; 4];
        let add = |index: usize| {
            counts[index].fetch_add(1, Ordering::Relaxed);
        };
        let figure = scaling(add, |thread| add(2 + thread));
        assert!(figure.is_finite());
        let counts = counts.map(AtomicU64::into_inner);
        assert_eq!(counts, [3620, 1820, 3620, 1820]);
    }

    #[test]
    fn quick_passes_over_slices_that_were_interrupted() {
        let times = (0..40).map(|n| Duration::from_secs((n + 1) * (1 + n % 2 * 1000)));
        assert!((quick(times.collect()) - 5.0).abs() < f64::EPSILON);
    }
}
