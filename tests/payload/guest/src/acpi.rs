// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ACPI tables, as far as the payload needs them: DMAR, MCFG and MADT, found from the RSDP below 1 MiB.

use crate::mem::{read8, read16, read32, read64};

/// An ACPI table whose checksum held.
#[derive(Clone, Copy)]
pub struct Table {
    pub address: u64,
    pub length: u64,
}

impl Table {
    fn at(address: u64) -> Option<Table> {
        let length = u64::from(read32(address + 4));
        let sane = (36..0x10_0000).contains(&length) && address + length <= 0xFFFF_FFFF;
        (sane && sum(address, length) == 0).then_some(Table { address, length })
    }

    fn signature(self) -> u32 {
        read32(self.address)
    }

    /// Calls `visit(address, type, length)` for each structure from `offset` on, type and length being 8 or 16 bits wide.
    pub fn structures(self, offset: u64, wide: bool, mut visit: impl FnMut(u64, u16, u64)) {
        let mut at = self.address + offset;
        let end = self.address + self.length;
        while at + 4 <= end {
            let (kind, length) = if wide {
                (read16(at), u64::from(read16(at + 2)))
            } else {
                (u16::from(read8(at)), u64::from(read8(at + 1)))
            };
            if length < 2 || at + length > end {
                break;
            }
            visit(at, kind, length);
            at += length;
        }
    }
}

fn sum(address: u64, length: u64) -> u8 {
    (0..length).fold(0, |sum: u8, offset| {
        sum.wrapping_add(read8(address + offset))
    })
}

/// The table with this signature, or none (also when its checksum is wrong).
pub fn find(signature: &[u8; 4]) -> Option<Table> {
    let rsdp = (0xE_0000..0x10_0000)
        .step_by(16)
        .find(|&at| read64(at) == u64::from_le_bytes(*b"RSD PTR ") && sum(at, 20) == 0)?;
    let xsdt = if read8(rsdp + 15) >= 2 {
        read64(rsdp + 24)
    } else {
        0
    };
    let (root, width) = if xsdt != 0 {
        (xsdt, 8)
    } else {
        (u64::from(read32(rsdp + 16)), 4)
    };
    let root = Table::at(root)?;
    (36..root.length)
        .step_by(width)
        .map(|offset| root.address + offset)
        .map(|at| {
            if width == 8 {
                read64(at)
            } else {
                u64::from(read32(at))
            }
        })
        .filter_map(Table::at)
        .find(|table| table.signature() == u32::from_le_bytes(*signature))
}

/// What DMAR says about the unit.
#[derive(Clone, Copy)]
pub struct Dmar {
    /// Physical address of the registers.
    pub base: u64,
    /// Source id of the first IOAPIC in the scopes of the first unit.
    pub ioapic: Option<u16>,
    /// Width in bits of the addresses that tables may hold.
    pub host_width: u8,
}

/// The first DRHD of the DMAR table.
pub fn dmar() -> Option<Dmar> {
    let mut found: Option<Dmar> = None;
    let table = find(b"DMAR")?;
    table.structures(48, true, |at, kind, length| {
        if kind == 0 && found.is_none() {
            found = Some(Dmar {
                base: read64(at + 8),
                ioapic: ioapic_scope(at, length),
                host_width: read8(table.address + 36).saturating_add(1),
            });
        }
    });
    found
}

fn ioapic_scope(drhd: u64, length: u64) -> Option<u16> {
    let mut found = None;
    let scopes = Table {
        address: drhd,
        length,
    };
    scopes.structures(16, false, |at, kind, length| {
        if kind == 3 && length >= 8 && found.is_none() {
            let (device, function) = (read8(at + length - 2), read8(at + length - 1));
            found =
                Some(u16::from(read8(at + 5)) << 8 | u16::from(device) << 3 | u16::from(function));
        }
    });
    found
}

/// Base of the ECAM window of segment 0 from bus 0 on.
pub fn ecam() -> Option<u64> {
    let table = find(b"MCFG")?;
    let base = (table.length >= 60).then(|| read64(table.address + 44))?;
    (base < 0xFFFF_FFFF && read8(table.address + 54) == 0).then_some(base)
}

/// Number of enabled CPUs in MADT, and their highest APIC id.
pub fn cpus() -> (u32, u32) {
    let (mut count, mut highest) = (0, 0);
    if let Some(table) = find(b"APIC") {
        table.structures(44, false, |at, kind, _| {
            let (id, flags) = match kind {
                0 => (u32::from(read8(at + 3)), read32(at + 4)),
                9 => (read32(at + 4), read32(at + 8)),
                _ => return,
            };
            if flags & 1 != 0 {
                count += 1;
                highest = highest.max(id);
            }
        });
    }
    (count, highest)
}
