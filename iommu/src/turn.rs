// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Taking turns: a lock that is granted in the order in which it was asked for.
//!
//! An ordinary mutex may let the thread that drains the queue win again and again over one that waits to disable it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A fair lock.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    tickets: Mutex<Tickets>,
    served: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    now: u64,
}

/// The turn of one thread, until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn<'_> {
        let mut tickets = self.lock();
        let mine = tickets.next;
        tickets.next += 1;
        while tickets.now != mine {
            tickets = self
                .served
                .wait(tickets)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }

    /// How many threads wait for a turn.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        let tickets = self.lock();
        (tickets.next - tickets.now).saturating_sub(1)
    }

    /// Whether nobody has the turn.
    #[cfg(test)]
    pub(crate) fn is_free(&self) -> bool {
        let tickets = self.lock();
        tickets.next == tickets.now
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut tickets = self.0.lock();
        tickets.now += 1;
        if tickets.now != tickets.next {
            self.0.served.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn turns_are_granted_in_the_order_of_asking() {
        let turns = Turns::default();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let first = turns.take();
            for thread in 0..4u64 {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let _turn = turns.take();
                    order.lock().unwrap().push(thread);
                });
                while turns.waiting() != thread + 1 {
                    thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3]);
    }
}
