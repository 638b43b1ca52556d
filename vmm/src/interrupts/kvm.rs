// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's local APICs through the virtual machine's file descriptor (Linux `include/uapi/linux/kvm.h`).

use super::{LocalApics, Route};
use crate::kvm::vm::Vm;
use iommu::msi::MsiMessage;
use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry, kvm_msi};
use std::io;
use vmm_sys_util::eventfd::EventFd;

impl LocalApics for Vm {
    fn signal(&self, message: MsiMessage) -> io::Result<()> {
        let (address_lo, address_hi) = halves(message.address);
        let message = kvm_msi {
            address_lo,
            address_hi,
            data: message.data,
            ..Default::default()
        };
        self.fd().signal_msi(message).map_err(refusal)?;
        Ok(())
    }

    fn set_routes(&self, routes: &[Route]) -> io::Result<()> {
        let entries: Vec<_> = routes.iter().map(entry).collect();
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|e| io::Error::other(format!("{} routes: {e:?}", routes.len())))?;
        self.fd().set_gsi_routing(&table).map_err(refusal)
    }

    fn attach(&self, event: &EventFd, gsi: u32) -> io::Result<()> {
        self.fd().register_irqfd(event, gsi).map_err(refusal)
    }

    fn detach(&self, event: &EventFd, gsi: u32) -> io::Result<()> {
        self.fd().unregister_irqfd(event, gsi).map_err(refusal)
    }
}

fn entry(route: &Route) -> kvm_irq_routing_entry {
    let (address_lo, address_hi) = halves(route.message.address);
    let mut entry = kvm_irq_routing_entry {
        gsi: route.gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    entry.u.msi.address_lo = address_lo;
    entry.u.msi.address_hi = address_hi;
    entry.u.msi.data = route.message.data;
    entry
}

fn halves(address: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

fn refusal(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
