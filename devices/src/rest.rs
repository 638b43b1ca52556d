// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the thread of a device stops while the machine is paused: between two pieces of work, each of which touches memory or
//! sends interrupts.
//!
//! Lock rule: the lock is held to look and to note, never over work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lets one thread work, or not.
#[derive(Debug, Default)]
pub struct Rest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    working: bool,
}

/// A piece of work, under way until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Work<'a>(&'a Rest);

impl Rest {
    /// Begins a piece of work; waits while that is forbidden. For the device's thread, one piece at a time.
    pub fn work(&self) -> Work<'_> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.working = true;
        Work(self)
    }

    /// Forbids work: when this returns, none is under way. It waits for one piece at most.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let _ended = self
            .changed
            .wait_while(state, |state| state.closed && state.working)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Allows work. Whoever waits for the thread to do or to end something calls this first.
    pub fn open(&self) {
        self.lock().closed = false;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.lock().working = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    #[test]
    fn no_work_is_under_way_between_close_and_open() {
        let rest = Arc::<Rest>::default();
        let (count, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let worker = {
            let (rest, count, end) = (Arc::clone(&rest), Arc::clone(&count), Arc::clone(&end));
            thread::spawn(move || {
                while !end.load(Ordering::Acquire) {
                    let _work = rest.work();
                    // Odd while work is under way.
                    count.fetch_add(1, Ordering::AcqRel);
                    thread::yield_now();
                    count.fetch_add(1, Ordering::AcqRel);
                }
            })
        };
        for _ in 0..100 {
            rest.close();
            let before = count.load(Ordering::Acquire);
            assert_eq!(before % 2, 0, "work is under way");
            thread::yield_now();
            assert_eq!(count.load(Ordering::Acquire), before);
            rest.open();
            while count.load(Ordering::Acquire) == before {
                thread::yield_now();
            }
        }
        end.store(true, Ordering::Release);
        worker.join().unwrap();
    }
}
