// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What sits on the machine's buses: PCI Express, legacy devices, virtio and test devices.
//!
//! Devices know the small vocabulary of the `iommu` crate: they reach memory through a
//! [`DmaSpace`](iommu::dma::DmaSpace) and send interrupts through an [`MsiSender`](iommu::msi::MsiSender) or an
//! [`IrqLine`](irq::IrqLine), and there is no way around either.
#![forbid(unsafe_code)]

pub mod bus;
pub mod control;
pub mod debug_exit;
pub mod dmatest;
pub mod edu;
pub mod i8042;
pub mod ioapic;
pub mod irq;
pub mod pci;
pub mod power;
pub mod pvpanic;
pub mod rest;
pub mod rtc;
pub mod serial;
#[cfg(test)]
pub(crate) mod testing;
pub mod virtio;
