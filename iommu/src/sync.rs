// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The locks and atomics of the translation path: the standard ones, except in this crate's own tests, where a schedule
//! explorer may decide at each operation which thread runs next.

#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, RwLock, RwLockReadGuard};
#[cfg(not(test))]
pub(crate) use std::thread::yield_now;

#[cfg(test)]
pub(crate) use explored::{AtomicU64, Mutex, RwLock, explore, step, yield_now};
#[cfg(test)]
pub(crate) use std::sync::RwLockReadGuard;
#[cfg(test)]
pub(crate) use std::sync::atomic::{Ordering, fence};

#[cfg(test)]
mod explored;
