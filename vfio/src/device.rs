// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A passed-through PCI function as the guest sees it.
//!
//! What the guest reads and writes is decided by pure functions over byte images: the configuration space
//! ([`config`]), the MSI-X table ([`msix`]), and which parts of a BAR are the device's own memory ([`regions`]). File
//! descriptors of VFIO come in where those have decided.

mod complaints;
pub mod config;
pub mod direct;
pub mod function;
pub mod guest;
pub mod interrupts;
mod intx;
pub mod msix;
pub mod port;
pub mod regions;
pub mod reset;
#[cfg(test)]
mod testing;
pub mod watch;
