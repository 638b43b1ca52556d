// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ways from the memory and port buses into the root complex: ECAM, configuration ports, BAR windows.

use super::{PciRoot, Window};
use crate::bus::BusDevice;
use crate::power::ResetControl;
use iommu::ids::SourceId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) fn ecam(root: &Arc<PciRoot>) -> Arc<dyn BusDevice> {
    Arc::new(Ecam(Arc::clone(root)))
}

pub(super) fn window(root: &Arc<PciRoot>, io: bool, base: u64) -> Arc<dyn BusDevice> {
    let root = Arc::clone(root);
    Arc::new(RootWindow { root, io, base })
}

#[derive(Debug)]
struct Ecam(Arc<PciRoot>);

impl Ecam {
    fn decode(offset: u64) -> Option<(SourceId, u16)> {
        let source = u16::try_from(offset >> 12).ok()?;
        let at = u16::try_from(offset & 0xfff).ok()?;
        Some((SourceId(source), at))
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some((source, at)) = Self::decode(offset) {
            self.0.config_read(source, at, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((source, at)) = Self::decode(offset) {
            self.0.config_write(source, at, data);
        }
    }
}

/// Configuration mechanism 1, ports 0xCF8..=0xCFF.
///
/// The low two bits of the address register are not masked but ORed into the register number: software exists that puts the
/// whole register number there and always uses port 0xCFC.
#[derive(Debug)]
pub struct ConfigPorts {
    root: Arc<PciRoot>,
    address: AtomicU32,
    reset: Arc<ResetControl>,
}

impl ConfigPorts {
    pub(super) fn new(root: &Arc<PciRoot>, reset: Arc<ResetControl>) -> Arc<Self> {
        Arc::new(Self {
            root: Arc::clone(root),
            address: AtomicU32::new(0),
            reset,
        })
    }

    /// Forgets the address, as at power-on.
    pub fn reset(&self) {
        self.address.store(0, Ordering::Release);
    }

    /// Where the data ports lead: function, register, and how many of `len` bytes are in the 256-byte space.
    fn decode(&self, offset: u64, len: usize) -> Option<(SourceId, u16, usize)> {
        let address = self.address.load(Ordering::Acquire);
        let [register, devfn, bus, high] = address.to_le_bytes();
        let lane = u8::try_from(offset).ok()?.checked_sub(4)?;
        let register = u16::from(register | lane);
        let room = 256 - usize::from(register);
        (high & 0x80 != 0).then_some((SourceId::new(bus, devfn), register, len.min(room)))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 1 && data.len() == 1 {
            self.reset.read(0, data);
        } else if offset == 0
            && let Ok(bytes) = <&mut [u8; 4]>::try_from(&mut *data)
        {
            *bytes = self.address.load(Ordering::Acquire).to_le_bytes();
        } else if let Some((source, at, len)) = self.decode(offset, data.len()) {
            self.root.config_read(source, at, &mut data[..len]);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if offset == 1 && data.len() == 1 {
            self.reset.write(0, data);
        } else if offset == 0
            && let Ok(bytes) = <[u8; 4]>::try_from(data)
        {
            self.address
                .store(u32::from_le_bytes(bytes), Ordering::Release);
        } else if let Some((source, at, len)) = self.decode(offset, data.len()) {
            self.root.config_write(source, at, &data[..len]);
        }
    }
}

#[derive(Debug)]
struct RootWindow {
    root: Arc<PciRoot>,
    io: bool,
    base: u64,
}

impl RootWindow {
    fn find(&self, offset: u64, len: usize) -> Option<(Window, u64)> {
        let address = self.base.checked_add(offset)?;
        let window = self.root.window(self.io, address, len)?;
        let inside = address - window.base;
        Some((window, inside))
    }
}

impl BusDevice for RootWindow {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some((window, inside)) = self.find(offset, data.len()) {
            window.function.bar_read(window.bar, inside, data);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some((window, inside)) = self.find(offset, data.len()) {
            window.function.bar_write(window.bar, inside, data);
        }
    }
}
