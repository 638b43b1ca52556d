// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A hotplug slot of a root port: a device that arrives is powered and gets its place in memory (PCI Express Base
//! Specification 6.0, sections 6.7 and 7.5.3).

use crate::arch;
use crate::pci::Config;

const EXPRESS: u8 = 0x10;
/// Registers of a bridge.
const BUS_NUMBERS: u16 = 0x18;
const MEMORY_WINDOW: u16 = 0x20;
/// Registers of the PCI Express capability, as double words.
const LINK_CONTROL: u8 = 0x10;
const SLOT_CAPABILITIES: u8 = 0x14;
const SLOT_CONTROL: u8 = 0x18;
/// Slot capabilities: hot-plug capable.
const HOTPLUG: u32 = 1 << 6;
/// Slot control: the power is off.
const POWER_OFF: u32 = 1 << 10;
/// Slot status, in the upper half: a device is there.
const PRESENT: u32 = 1 << 22;
/// Link status, in the upper half: the link is up.
const LINK_ACTIVE: u32 = 1 << 29;

/// The slot, and the port that it belongs to.
#[derive(Clone, Copy)]
pub struct Slot {
    port: Config,
    /// Where the port's PCI Express capability is.
    express: u8,
    bus: u8,
}

impl Slot {
    /// The first one of the machine.
    pub fn find(ecam: Option<u64>) -> Option<Slot> {
        Config::root_bus(ecam).find_map(|port| {
            if port.read(0x08u16) >> 16 != 0x0604 {
                return None;
            }
            let express = port.capability(EXPRESS)?;
            let [_, bus, ..] = port.read(BUS_NUMBERS).to_le_bytes();
            let hotplug = port.read(express + SLOT_CAPABILITIES) & HOTPLUG != 0;
            hotplug.then_some(Slot { port, express, bus })
        })
    }

    /// The function that has its place here.
    pub fn function(self) -> Config {
        self.port.below(self.bus)
    }

    pub fn is_empty(self) -> bool {
        self.port.read(self.express + SLOT_CONTROL) & PRESENT == 0
    }

    /// Waits for a device and gives it power; whether its link came up and it answers.
    pub fn power_on(self) -> bool {
        if !arch::poll(arch::LONG, || !self.is_empty()) {
            return false;
        }
        let control = self.port.read(self.express + SLOT_CONTROL);
        self.port
            .write(self.express + SLOT_CONTROL, control & 0xFFFF & !POWER_OFF);
        let command = self.port.read(0x04u16) & 0xFFFF;
        self.port.write(0x04u16, command | 1 << 1 | 1 << 2);
        arch::poll(arch::LONG, || {
            let link = self.port.read(self.express + LINK_CONTROL);
            link & LINK_ACTIVE != 0 && self.function().read(0u16) != u32::MAX
        })
    }

    /// Places the 64-bit BARs of the function one behind the other in the port's window.
    pub fn place(self) {
        let [low, high, ..] = self.port.read(MEMORY_WINDOW).to_le_bytes();
        let mut at = u32::from(u16::from_le_bytes([low & 0xF0, high])) << 16;
        let function = self.function();
        for bar in [0x10u16, 0x18] {
            function.write(bar, u32::MAX);
            let bytes = (!(function.read(bar) & !0xF)).wrapping_add(1);
            at = at.next_multiple_of(bytes.max(0x1000));
            function.write(bar, at);
            function.write(bar + 4, 0);
            at += bytes;
        }
    }
}
