// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host bridge at 00:00.0: there for whoever looks whether there is PCI at all.

use super::config::Identity;
use super::function::{Function, FunctionBuilder};
use super::{BarWindow, PciFunction};
use crate::irq::IrqLine;
use iommu::ids::Requester;
use iommu::msi::{MsiMessage, MsiSender};
use std::sync::Arc;

/// The host bridge.
#[derive(Debug)]
pub struct HostBridge(Function);

/// The bridge has no interrupts.
#[derive(Debug)]
struct NoMessages;

impl MsiSender for NoMessages {
    fn send(&self, _requester: &Requester, _message: MsiMessage) {}
}

impl HostBridge {
    /// The bridge. Its ids are Intel's for the virtual PCIe host, which no driver looks for: those of a real chip would
    /// promise that chip's registers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let builder = FunctionBuilder::endpoint(&Identity {
            vendor: 0x8086,
            device: 0x0d57,
            class: 0x06_0000,
            ..Identity::default()
        });
        let requester = Arc::new(Requester::default());
        Arc::new(Self(builder.build(requester, Arc::new(NoMessages))))
    }
}

impl PciFunction for HostBridge {
    fn config_read(&self, at: u16, data: &mut [u8]) {
        self.0.config_read(at, data);
    }

    fn config_write(&self, at: u16, data: &[u8]) {
        let _ = self.0.config_write(at, data);
    }

    fn windows(&self) -> Vec<BarWindow> {
        Vec::new()
    }

    fn bar_read(&self, _bar: u8, _offset: u64, _data: &mut [u8]) {}

    fn bar_write(&self, _bar: u8, _offset: u64, _data: &[u8]) {}

    fn requester(&self) -> &Arc<Requester> {
        self.0.requester()
    }

    fn connect_intx(&self, _gsi: u8, _line: Arc<dyn IrqLine>) {}

    fn reset(&self) {
        self.0.reset();
    }
}
