// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PCI Express: the root complex, ports, configuration space and message-signalled interrupts.
//!
//! A device is built from a [`function::Function`], which owns everything that is the same for each PCI function, and
//! implements [`PciFunction`] by delegating to it what it does not handle itself.

pub mod ats;
pub mod bar;
pub mod bridge;
pub mod config;
pub mod express;
pub mod firmware;
pub mod function;
pub mod host_bridge;
pub mod msi;
pub mod msix;
pub mod pasid;
pub mod pm;
pub mod pri;
pub mod removable;
pub mod root;
pub mod root_port;

use crate::irq::IrqLine;
use iommu::ids::Requester;
use std::fmt;
use std::sync::Arc;

/// One window of addresses that a function decodes right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarWindow {
    /// Which BAR (0..=5).
    pub bar: u8,
    /// The window lies in port space; otherwise in memory.
    pub io: bool,
    /// First address.
    pub base: u64,
    /// Bytes, a power of two.
    pub len: u64,
}

/// One PCI function as the bus sees it. Methods take `&self`: a function is reached from several processors at once.
pub trait PciFunction: fmt::Debug + Send + Sync {
    /// Reads configuration space at byte `offset` (below 4096); `data` is 1, 2 or 4 bytes, within one dword.
    fn config_read(&self, offset: u16, data: &mut [u8]);

    /// Writes configuration space; as [`Self::config_read`]. The bus looks at [`Self::windows`] again afterwards.
    fn config_write(&self, offset: u16, data: &[u8]);

    /// The windows that the function decodes now: programmed, and enabled in the command register.
    fn windows(&self) -> Vec<BarWindow>;

    /// Reads `data.len()` bytes at `offset` into `bar`. `data` holds all-ones at entry.
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset` into `bar`.
    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]);

    /// The function's identity; the bus sets its source id when it is placed, or when the guest renumbers buses.
    fn requester(&self) -> &Arc<Requester>;

    /// A bridge above forwards requests from now on, or no longer: [`Requester::is_forwarded`]. That is enough for a function
    /// whose requests ask the requester; one that sends by itself has to be stopped here. Not called from within its methods.
    fn forwarding_changed(&self) {}

    /// Gives the function the line of its INTx pin, which is wired to interrupt `gsi`. Called once, before the guest runs.
    /// (The firmware writes the interrupt-line register.) A function without a pin ignores it.
    fn connect_intx(&self, gsi: u8, line: Arc<dyn IrqLine>);

    /// When this returns, no DMA of the function is under way, and none begins until [`Self::resume`]. Its registers are not
    /// touched meanwhile. A function that does nothing by itself has nothing to do.
    fn pause(&self) {}

    /// Goes on where it was. Called without a pause, too.
    fn resume(&self) {}

    /// Back to the state after power-on, configuration space included. Never while paused. Returns when no DMA of the function is
    /// under way.
    fn reset(&self);
}
