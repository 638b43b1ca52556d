// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The type 1 header: bus numbers and the windows that a bridge forwards (PCI Express Base Specification 6.0, section 7.5.1.3).
//!
//! Ports are forwarded below 64 KiB; the prefetchable window has 64-bit addresses; VGA and ISA modes do not exist.

use super::config::ConfigSpace;
use bitfield_struct::bitfield;

/// Primary bus number, 8 bits; secondary and subordinate follow.
pub const PRIMARY_BUS: u16 = 0x18;
/// Secondary bus number, 8 bits.
pub const SECONDARY_BUS: u16 = 0x19;
/// Subordinate bus number, 8 bits.
pub const SUBORDINATE_BUS: u16 = 0x1a;
/// I/O base, 8 bits.
pub const IO_BASE: u16 = 0x1c;
/// I/O limit, 8 bits.
pub const IO_LIMIT: u16 = 0x1d;
/// Secondary status, 16 bits.
pub const SECONDARY_STATUS: u16 = 0x1e;
/// Memory base, 16 bits.
pub const MEMORY_BASE: u16 = 0x20;
/// Memory limit, 16 bits.
pub const MEMORY_LIMIT: u16 = 0x22;
/// Prefetchable memory base, 16 bits.
pub const PREFETCHABLE_BASE: u16 = 0x24;
/// Prefetchable memory limit, 16 bits.
pub const PREFETCHABLE_LIMIT: u16 = 0x26;
/// Upper half of the prefetchable base.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Upper half of the prefetchable limit.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Bridge control, 16 bits.
pub const BRIDGE_CONTROL: u16 = 0x3e;

/// Which of a bridge's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Ports, in pieces of 4 KiB.
    Io,
    /// Memory below 4 GiB, in pieces of 1 MiB.
    Memory,
    /// 64-bit prefetchable memory, in pieces of 1 MiB.
    Prefetchable,
}

/// Bridge control register.
#[bitfield(u16)]
pub struct BridgeControl {
    /// Bit 0.
    pub parity_response: bool,
    /// Bit 1.
    pub serr: bool,
    #[bits(4)]
    __: u8,
    /// Bit 6: the devices below are held in reset.
    pub secondary_bus_reset: bool,
    #[bits(9)]
    __: u16,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
}

impl Span {
    fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// What both spans have in common.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

/// What a bridge's registers let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// The bus below.
    pub secondary: u8,
    /// The highest bus below.
    pub subordinate: u8,
    /// Requests from below pass.
    pub bus_master: bool,
    /// Ports.
    pub io: Option<Span>,
    /// Memory below 4 GiB.
    pub memory: Option<Span>,
    /// Prefetchable memory.
    pub prefetchable: Option<Span>,
}

/// Gives the header's fields their access rights.
pub fn install(config: &mut ConfigSpace) {
    for bus in [PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS] {
        config.allow_write(bus, &[0xff]);
    }
    config.allow_write(IO_BASE, &[0xf0]);
    config.allow_write(IO_LIMIT, &[0xf0]);
    config.allow_clear(SECONDARY_STATUS, &[0x00, 0xf9]);
    for window in [
        MEMORY_BASE,
        MEMORY_LIMIT,
        PREFETCHABLE_BASE,
        PREFETCHABLE_LIMIT,
    ] {
        config.allow_write(window, &[0xf0, 0xff]);
    }
    // The prefetchable window has 64-bit addresses.
    config.set_u8(PREFETCHABLE_BASE, 1);
    config.set_u8(PREFETCHABLE_LIMIT, 1);
    config.allow_write(PREFETCHABLE_BASE_UPPER, &[0xff; 4]);
    config.allow_write(PREFETCHABLE_LIMIT_UPPER, &[0xff; 4]);
    let control = BridgeControl::new()
        .with_parity_response(true)
        .with_serr(true)
        .with_secondary_bus_reset(true);
    config.allow_write(BRIDGE_CONTROL, &control.into_bits().to_le_bytes());
}

/// What the registers let through now.
#[must_use]
pub fn forwarding(config: &ConfigSpace) -> Forwarding {
    let command = config.command();
    let io_base = u64::from(config.u8(IO_BASE)) << 8;
    let io_limit = u64::from(config.u8(IO_LIMIT)) << 8 | 0xfff;
    let memory_base = u64::from(config.u16(MEMORY_BASE)) << 16;
    let memory_limit = u64::from(config.u16(MEMORY_LIMIT)) << 16 | 0xf_ffff;
    let wide = |low: u16, upper: u16| {
        u64::from(config.u32(upper)) << 32 | u64::from(config.u16(low) & 0xfff0) << 16
    };
    let prefetchable_base = wide(PREFETCHABLE_BASE, PREFETCHABLE_BASE_UPPER);
    let prefetchable_limit = wide(PREFETCHABLE_LIMIT, PREFETCHABLE_LIMIT_UPPER) | 0xf_ffff;
    let only_if = |enabled: bool, first, last| Span::new(first, last).filter(|_| enabled);
    Forwarding {
        secondary: config.u8(SECONDARY_BUS),
        subordinate: config.u8(SUBORDINATE_BUS),
        bus_master: command.bus_master(),
        io: only_if(command.io(), io_base, io_limit),
        memory: only_if(command.memory(), memory_base, memory_limit),
        prefetchable: only_if(command.memory(), prefetchable_base, prefetchable_limit),
    }
}

/// The configuration writes, at most 4 bytes each, that program a window; a window of no bytes is closed.
#[must_use]
pub fn window_writes(kind: WindowKind, base: u64, size: u64) -> Vec<(u16, Vec<u8>)> {
    // Closed is a base above the limit.
    let (first, last) = match size.checked_sub(1) {
        Some(extra) => (base, base.saturating_add(extra)),
        None => (u64::MAX, 0),
    };
    let (first, last) = (first.to_le_bytes(), last.to_le_bytes());
    match kind {
        WindowKind::Io => vec![
            (IO_BASE, first[1..2].to_vec()),
            (IO_LIMIT, last[1..2].to_vec()),
        ],
        WindowKind::Memory => vec![
            (MEMORY_BASE, first[2..4].to_vec()),
            (MEMORY_LIMIT, last[2..4].to_vec()),
        ],
        WindowKind::Prefetchable => vec![
            (PREFETCHABLE_BASE, first[2..4].to_vec()),
            (PREFETCHABLE_LIMIT, last[2..4].to_vec()),
            (PREFETCHABLE_BASE_UPPER, first[4..].to_vec()),
            (PREFETCHABLE_LIMIT_UPPER, last[4..].to_vec()),
        ],
    }
}

#[cfg(test)]
mod tests;
