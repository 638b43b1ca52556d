// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The 4 KiB configuration space of a function (PCI Express Base Specification 6.0, section 7.5.1).
//!
//! A byte array with two masks: bits that software may write, and bits that writing a one clears. Everything else is
//! read-only for the guest. What a write *means* is decided by whoever owns the space ([`super::function::Function`]).
//! Invariant: a capability lies wholly in the space and the lists end in zero.

use bitfield_struct::bitfield;

/// Bytes of a configuration space.
pub const CONFIG_SIZE: u16 = 4096;

/// Offsets of the header fields.
pub mod offset {
    /// Vendor id, 16 bits.
    pub const VENDOR_ID: u16 = 0x00;
    /// Device id, 16 bits.
    pub const DEVICE_ID: u16 = 0x02;
    /// Command register, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// Status register, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// Revision id, 8 bits.
    pub const REVISION: u16 = 0x08;
    /// Class code, 24 bits: programming interface, subclass, base class.
    pub const CLASS: u16 = 0x09;
    /// Cache line size, 8 bits.
    pub const CACHE_LINE_SIZE: u16 = 0x0c;
    /// Latency timer, 8 bits: zero in PCI Express.
    pub const LATENCY_TIMER: u16 = 0x0d;
    /// Header type, 8 bits; bit 7 says that the device has several functions.
    pub const HEADER_TYPE: u16 = 0x0e;
    /// First base address register.
    pub const BAR0: u16 = 0x10;
    /// Type 0: subsystem vendor id, 16 bits.
    pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
    /// Type 0: subsystem id, 16 bits.
    pub const SUBSYSTEM_ID: u16 = 0x2e;
    /// Offset of the first capability, 8 bits.
    pub const CAPABILITIES: u16 = 0x34;
    /// Interrupt line, 8 bits: scratch for software.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// Interrupt pin, 8 bits: 0 none, 1..=4 INTA..INTD.
    pub const INTERRUPT_PIN: u16 = 0x3d;
    /// First byte for capabilities.
    pub const FIRST_CAPABILITY: u16 = 0x40;
    /// First extended capability.
    pub const FIRST_EXTENDED_CAPABILITY: u16 = 0x100;
}

/// Capability ids.
pub mod capability {
    /// Power management.
    pub const POWER_MANAGEMENT: u8 = 0x01;
    /// MSI.
    pub const MSI: u8 = 0x05;
    /// Vendor specific.
    pub const VENDOR: u8 = 0x09;
    /// Subsystem ids of a bridge.
    pub const BRIDGE_SUBSYSTEM: u8 = 0x0d;
    /// PCI Express.
    pub const EXPRESS: u8 = 0x10;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
}

/// Command register (section 7.5.1.1.3).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// Bit 0: I/O windows answer.
    pub io: bool,
    /// Bit 1: memory windows answer.
    pub memory: bool,
    /// Bit 2: the function may send requests, MSIs included.
    pub bus_master: bool,
    #[bits(3)]
    __: u8,
    /// Bit 6.
    pub parity_response: bool,
    __: bool,
    /// Bit 8.
    pub serr: bool,
    __: bool,
    /// Bit 10: INTx stays silent.
    pub intx_disable: bool,
    #[bits(5)]
    __: u8,
}

/// Status register (section 7.5.1.1.4).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Status {
    #[bits(3)]
    __: u8,
    /// Bit 3: the function asserts INTx (or would, were it not disabled).
    pub interrupt: bool,
    /// Bit 4: there is a capability list.
    pub capability_list: bool,
    #[bits(3)]
    __: u8,
    /// Bit 8, write one to clear.
    pub master_data_parity_error: bool,
    #[bits(2)]
    __: u8,
    /// Bits 15:11, write one to clear: aborts and errors.
    #[bits(5)]
    pub errors: u8,
}

/// Who a function says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Class code: base class << 16 | subclass << 8 | programming interface.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// The space.
#[derive(Debug)]
pub struct ConfigSpace {
    value: Vec<u8>,
    writable: Vec<u8>,
    write_one_clears: Vec<u8>,
    power_on: Vec<u8>,
    last_capability: Option<u16>,
    free: u16,
    last_extended: Option<u16>,
    free_extended: u16,
}

impl ConfigSpace {
    /// The space of an endpoint (header type 0) without BARs and capabilities.
    #[must_use]
    pub fn endpoint(identity: &Identity) -> Self {
        let mut space = Self::header(identity);
        space.set_u16(offset::SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor);
        space.set_u16(offset::SUBSYSTEM_ID, identity.subsystem);
        space
    }

    /// The space of a bridge (header type 1); the fields of that header are the caller's.
    #[must_use]
    pub fn bridge(identity: &Identity) -> Self {
        let mut space = Self::header(identity);
        space.set_u8(offset::HEADER_TYPE, 1);
        space
    }

    fn header(identity: &Identity) -> Self {
        let zero = || vec![0; usize::from(CONFIG_SIZE)];
        let mut space = Self {
            value: zero(),
            writable: zero(),
            write_one_clears: zero(),
            power_on: zero(),
            last_capability: None,
            free: offset::FIRST_CAPABILITY,
            last_extended: None,
            free_extended: offset::FIRST_EXTENDED_CAPABILITY,
        };
        space.set_u16(offset::VENDOR_ID, identity.vendor);
        space.set_u16(offset::DEVICE_ID, identity.device);
        let class = identity.class.to_le_bytes();
        space.set_bytes(offset::CLASS, &class[..3]);
        space.set_u8(offset::REVISION, identity.revision);
        let command = Command::new()
            .with_io(true)
            .with_memory(true)
            .with_bus_master(true)
            .with_parity_response(true)
            .with_serr(true)
            .with_intx_disable(true);
        space.allow_write(offset::COMMAND, &command.into_bits().to_le_bytes());
        let errors = Status::new()
            .with_master_data_parity_error(true)
            .with_errors(0x1f);
        space.allow_clear(offset::STATUS, &errors.into_bits().to_le_bytes());
        space.allow_write(offset::CACHE_LINE_SIZE, &[0xff]);
        space.allow_write(offset::INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Lets software write the bits of `mask` from `at` on.
    ///
    /// # Panics
    /// The mask passes the end of the space.
    pub fn allow_write(&mut self, at: u16, mask: &[u8]) {
        self.writable[span(at, mask.len())].copy_from_slice(mask);
    }

    /// Lets software clear the bits of `mask` from `at` on by writing ones.
    ///
    /// # Panics
    /// The mask passes the end of the space.
    pub fn allow_clear(&mut self, at: u16, mask: &[u8]) {
        self.write_one_clears[span(at, mask.len())].copy_from_slice(mask);
    }

    /// Appends a capability whose bytes from the third on are `body`; `writable` masks the same bytes and may be shorter.
    /// Returns its offset.
    ///
    /// # Panics
    /// The first 256 bytes are full, or the mask is longer than the body: a mistake in the device's table.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        let at = self.free;
        let end = usize::from(at) + 2 + body.len();
        assert!(
            end <= usize::from(offset::FIRST_EXTENDED_CAPABILITY) && writable.len() <= body.len(),
            "capability {id:#x} does not fit at {at:#x}"
        );
        self.set_u8(at, id);
        self.set_bytes(at + 2, body);
        self.allow_write(at + 2, writable);
        let link = self
            .last_capability
            .map_or(offset::CAPABILITIES, |last| last + 1);
        let [low, _] = at.to_le_bytes();
        self.set_u8(link, low);
        let status = Status::from_bits(self.u16(offset::STATUS)).with_capability_list(true);
        self.set_u16(offset::STATUS, status.into_bits());
        self.last_capability = Some(at);
        self.free =
            u16::try_from(end.next_multiple_of(4)).unwrap_or(offset::FIRST_EXTENDED_CAPABILITY);
        at
    }

    /// Appends an extended capability whose bytes from the fifth on are `body`; `writable` masks the same bytes and may be
    /// shorter. Returns its offset.
    ///
    /// # Panics
    /// The space is full: a mistake in the device's table.
    pub fn add_extended_capability(
        &mut self,
        id: u16,
        version: u8,
        body: &[u8],
        writable: &[u8],
    ) -> u16 {
        let at = self.free_extended;
        let end = usize::from(at) + 4 + body.len();
        assert!(
            end <= usize::from(CONFIG_SIZE) && version < 16 && writable.len() <= body.len(),
            "extended capability {id:#x} does not fit at {at:#x}"
        );
        let header = u32::from(id) | u32::from(version) << 16;
        self.set_u32(at, header);
        self.set_bytes(at + 4, body);
        self.allow_write(at + 4, writable);
        if let Some(last) = self.last_extended {
            let linked = self.u32(last) | u32::from(at) << 20;
            self.set_u32(last, linked);
        }
        self.last_extended = Some(at);
        self.free_extended = u16::try_from(end.next_multiple_of(4)).unwrap_or(CONFIG_SIZE);
        at
    }

    /// Makes the present content the one that [`Self::reset`] goes back to.
    pub fn seal(&mut self) {
        self.power_on.clone_from(&self.value);
    }

    /// Back to the sealed content.
    pub fn reset(&mut self) {
        self.value.clone_from(&self.power_on);
    }

    /// Reads as the guest does. Bytes beyond the end are left alone.
    pub fn read(&self, at: u16, data: &mut [u8]) {
        let from = usize::from(at);
        for (byte, value) in data.iter_mut().zip(self.value.iter().skip(from)) {
            *byte = *value;
        }
    }

    /// Writes as the guest does: through the masks. Bytes beyond the end are lost.
    pub fn write(&mut self, at: u16, data: &[u8]) {
        let from = usize::from(at);
        for (index, new) in (from..usize::from(CONFIG_SIZE)).zip(data) {
            let writable = self.writable[index];
            let kept = self.value[index] & !writable & !(self.write_one_clears[index] & new);
            self.value[index] = kept | (new & writable);
        }
    }

    /// One byte.
    #[must_use]
    pub fn u8(&self, at: u16) -> u8 {
        self.array::<1>(at)[0]
    }

    /// 16 bits, little endian.
    #[must_use]
    pub fn u16(&self, at: u16) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    /// 32 bits, little endian.
    #[must_use]
    pub fn u32(&self, at: u16) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// Sets one byte, masks or not.
    pub fn set_u8(&mut self, at: u16, value: u8) {
        self.set_bytes(at, &[value]);
    }

    /// Sets 16 bits, masks or not.
    pub fn set_u16(&mut self, at: u16, value: u16) {
        self.set_bytes(at, &value.to_le_bytes());
    }

    /// Sets 32 bits, masks or not.
    pub fn set_u32(&mut self, at: u16, value: u32) {
        self.set_bytes(at, &value.to_le_bytes());
    }

    /// Sets bytes, masks or not.
    ///
    /// # Panics
    /// They pass the end of the space.
    pub fn set_bytes(&mut self, at: u16, bytes: &[u8]) {
        self.value[span(at, bytes.len())].copy_from_slice(bytes);
    }

    /// The command register.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::from_bits(self.u16(offset::COMMAND))
    }

    fn array<const N: usize>(&self, at: u16) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.value[span(at, N)]);
        bytes
    }
}

fn span(at: u16, len: usize) -> std::ops::Range<usize> {
    let from = usize::from(at);
    from..from + len
}

/// Whether an access of `len` bytes at `at` touches any of the `width` bytes from `field` on.
#[must_use]
pub fn touches(at: u16, len: usize, field: u16, width: u16) -> bool {
    let (at, field) = (usize::from(at), usize::from(field));
    at < field + usize::from(width) && field < at + len
}

#[cfg(test)]
mod tests;
