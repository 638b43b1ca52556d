// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the fuzz targets share: a small memory that counts accesses, a unit in it, and the operations that guests and
//! devices carry out.
//!
//! The bounds are part of what is fuzzed: however tables and queues are laid out, one register write and one request of a
//! device read memory only so often.
#![forbid(unsafe_code)]

pub mod following;

mod machine;
mod memory;
mod operation;

pub use machine::{Machine, capabilities};
pub use memory::{Memory, PAGES};
pub use operation::{Dma, Entry, Operation};
