// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Standard locks and atomics with a scheduling point before each operation while [`explore`] runs.
//!
//! Under exploration all threads of a test are coroutines on one system thread, so a lock that is taken must be tried
//! again after others ran, never waited for. The explored order is sequentially consistent: weaker orderings are not
//! explored.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{LockResult, MutexGuard, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// Bytes of each coroutine's stack, which overflows without a message.
const STACK_SIZE: usize = 256 << 10;

thread_local! {
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` under `schedules` random schedules. Threads are made with `shuttle::thread::spawn`.
pub(crate) fn explore(body: impl Fn() + Send + Sync + 'static, schedules: usize) {
    let mut config = shuttle::Config::default();
    config.stack_size = STACK_SIZE;
    let scheduler = shuttle::scheduler::RandomScheduler::new(schedules);
    shuttle::Runner::new(scheduler, config).run(move || {
        EXPLORING.set(true);
        body();
        EXPLORING.set(false);
    });
}

/// A place where another thread may run.
pub(crate) fn step() {
    if EXPLORING.get() {
        shuttle::thread::yield_now();
    }
}

/// [`std::thread::yield_now`].
pub(crate) fn yield_now() {
    if EXPLORING.get() {
        step();
    } else {
        std::thread::yield_now();
    }
}

fn acquire<G>(
    mut attempt: impl FnMut() -> Result<G, TryLockError<G>>,
    wait: impl FnOnce() -> LockResult<G>,
) -> LockResult<G> {
    step();
    while EXPLORING.get() {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => step(),
        }
    }
    wait()
}

/// [`std::sync::Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        acquire(|| self.0.try_lock(), || self.0.lock())
    }
}

/// [`std::sync::RwLock`].
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        acquire(|| self.0.try_read(), || self.0.read())
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        acquire(|| self.0.try_write(), || self.0.write())
    }
}

/// [`std::sync::atomic::AtomicU64`].
#[derive(Debug, Default)]
pub(crate) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        step();
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        step();
        self.0.store(value, order);
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        step();
        self.0.compare_exchange(current, new, success, failure)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_add(value, order)
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_and(value, order)
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        step();
        self.0.fetch_or(value, order)
    }
}
