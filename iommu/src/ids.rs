// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who sends a request, and for which domain.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// A PCI requester id as the unit sees it: bus in bits 15:8, device in 7:3, function in 2:0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u16);

impl SourceId {
    /// The id of function `devfn` (device << 3 | function) on `bus`.
    #[must_use]
    pub const fn new(bus: u8, devfn: u8) -> Self {
        Self(u16::from_be_bytes([bus, devfn]))
    }

    /// The bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Device number << 3 | function number.
    #[must_use]
    pub const fn devfn(self) -> u8 {
        self.0.to_be_bytes()[1]
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devfn = self.devfn();
        write!(f, "{:02x}:{:02x}.{}", self.bus(), devfn >> 3, devfn & 7)
    }
}

/// A process address space id, 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pasid(u32);

impl Pasid {
    /// The PASID `value`; `None` when it needs more than 20 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value < 1 << 20 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The PASID in the low 20 bits, as which a word in a cache holds it.
    #[expect(clippy::cast_possible_truncation, reason = "20 bits are kept")]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits as u32 & 0xf_ffff)
    }

    /// The reverse of [`Pasid::from_bits`].
    pub(crate) const fn into_bits(self) -> u64 {
        self.0 as u64
    }

    /// The number itself, below 2^20.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A domain id: the tag by which the guest names a translation in invalidations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub u16);

/// The identity of one requester on the bus, shared by its function, its DMA spaces and its interrupts.
///
/// It is a handle and not a number: the guest renumbers buses, and whoever holds the handle sees the new number at its
/// next request. Bus mastering hangs on it too, so that one register write revokes DMA and MSI at once.
#[derive(Debug, Default)]
pub struct Requester {
    source: AtomicU16,
    bus_master: AtomicBool,
    revoked_above: AtomicBool,
}

impl Requester {
    /// A requester that is not allowed on the bus yet.
    #[must_use]
    pub fn new(source: SourceId) -> Self {
        Self {
            source: AtomicU16::new(source.0),
            bus_master: AtomicBool::new(false),
            revoked_above: AtomicBool::new(false),
        }
    }

    /// The id under which requests leave now.
    #[must_use]
    pub fn source(&self) -> SourceId {
        SourceId(self.source.load(Ordering::Acquire))
    }

    /// Gives the requester a new id, because the guest numbered its bus.
    pub fn set_source(&self, source: SourceId) {
        self.source.store(source.0, Ordering::Release);
    }

    /// Whether requests may be sent at all (the bus master enable bit of the function and of the bridges above it).
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        self.bus_master.load(Ordering::Acquire) && self.is_forwarded()
    }

    /// Allows or forbids requests: the function's own bit.
    pub fn set_bus_master(&self, enabled: bool) {
        self.bus_master.store(enabled, Ordering::Release);
    }

    /// Whether the bridges above forward requests.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        !self.revoked_above.load(Ordering::Acquire)
    }

    /// Whether a bridge above forwards requests; it does until told otherwise.
    pub fn set_upstream_bus_master(&self, enabled: bool) {
        self.revoked_above.store(!enabled, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_id_splits_into_bus_and_devfn() {
        let id = SourceId(0x1f_fb);
        assert_eq!((id.bus(), id.devfn()), (0x1f, 0xfb));
        assert_eq!(id.to_string(), "1f:1f.3");
        assert_eq!(SourceId::new(0x1f, 0xfb), id);
    }

    #[test]
    fn requester_needs_its_own_bit_and_the_bridges() {
        let requester = Requester::new(SourceId(0x0100));
        assert!(!requester.is_bus_master());
        requester.set_bus_master(true);
        assert!(requester.is_bus_master());
        requester.set_upstream_bus_master(false);
        assert!(!requester.is_bus_master() && !requester.is_forwarded());
        requester.set_bus_master(true);
        assert!(!requester.is_bus_master());
        requester.set_upstream_bus_master(true);
        assert!(requester.is_bus_master());
    }

    #[test]
    fn pasid_of_21_bits_is_refused() {
        assert_eq!(Pasid::new(0xf_ffff).map(Pasid::get), Some(0xf_ffff));
        assert_eq!(Pasid::new(0x10_0000), None);
    }
}
