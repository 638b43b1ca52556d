// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An Intel VT-d remapping unit as a library.
//!
//! The unit translates the DMA of devices, remaps their interrupts, consumes the guest's invalidation queue and records
//! faults. It knows guest-physical memory through [`memory::PhysMem`] and nothing of KVM, VFIO, threads, clocks or file
//! descriptors: whatever has to happen outside comes back as an ordered list of effects.
//!
//! The crate is the leaf of the workspace, so the small vocabulary that devices and the machine share (addresses, source
//! ids, DMA spaces, MSI messages) lives here too.
#![forbid(unsafe_code)]

pub mod address;
pub mod ats;
pub mod capabilities;
pub mod counters;
pub mod dma;
pub mod dmar;
pub mod fault;
pub mod follow;
pub mod ids;
pub mod interrupt;
pub mod invalidation;
pub mod memory;
pub mod msi;
pub mod page_request;
pub mod request;
pub mod saved;
pub mod spec;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod translate;
pub mod translator;
pub mod unit;
pub mod walk;

mod cache;
mod command;
mod event;
mod fault_log;
mod queue;
mod rate_limit;
mod register_invalidation;
mod registers;
mod state;
mod sync;
mod turn;
