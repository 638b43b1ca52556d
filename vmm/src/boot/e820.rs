// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory map that a guest is told, in the terms of the BIOS call E820, which the PVH and multiboot maps share.

use crate::layout;
use iommu::memory::Ram;
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// What a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Type {
    /// Memory that the guest may use.
    Ram = 1,
    /// Memory or registers that it must leave alone.
    Reserved = 2,
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// What is there.
    pub kind: Type,
}

/// The map of a machine with `ram`, in ascending order.
pub(super) fn map(ram: &Ram) -> Vec<Entry> {
    let regions: Vec<(u64, u64)> = ram
        .iter()
        .map(|region| (region.start_addr().raw_value(), region.len()))
        .collect();
    from_regions(&regions)
}

/// As [`map`], for `(first address, bytes)` of each RAM region.
fn from_regions(regions: &[(u64, u64)]) -> Vec<Entry> {
    let mut entries = vec![
        range(layout::EBDA.0, 0xa_0000, Type::Reserved),
        range(
            layout::FIRMWARE_TABLES.0,
            layout::FIRMWARE_TABLES.0 + layout::FIRMWARE_TABLES_SIZE,
            Type::Reserved,
        ),
        range(
            layout::ECAM.0,
            layout::ECAM.0 + layout::ECAM_SIZE,
            Type::Reserved,
        ),
        range(
            layout::KVM_IDENTITY_MAP.0,
            layout::KVM_IDENTITY_MAP.0 + layout::KVM_PAGES_SIZE,
            Type::Reserved,
        ),
    ];
    for &(base, size) in regions {
        let end = base + size;
        let pieces = [
            (base, end.min(layout::EBDA.0)),
            (base.max(layout::MEGABYTE.0), end),
        ];
        for (from, to) in pieces {
            if from < to {
                entries.push(range(from, to, Type::Ram));
            }
        }
    }
    entries.sort_by_key(|entry| entry.base);
    entries
}

fn range(base: u64, end: u64, kind: Type) -> Entry {
    Entry {
        base,
        size: end - base,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_of_a_small_machine_has_ram_and_holes() {
        let seen: Vec<_> = from_regions(&[(0, 0x1000_0000)])
            .into_iter()
            .map(|e| (e.base, e.size, e.kind as u32))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 0x9_fc00, 1),
                (0x9_fc00, 0x400, 2),
                (0xe_0000, 0x2_0000, 2),
                (0x10_0000, 0xff0_0000, 1),
                (0xb000_0000, 0x1000_0000, 2),
                (0xfeff_c000, 0x4000, 2),
            ]
        );
    }

    #[test]
    fn map_of_a_large_machine_has_ram_above_4_gib() {
        let map = from_regions(&[(0, 0x8000_0000), (0x1_0000_0000, 0x4000_0000)]);
        assert!(map.contains(&Entry {
            base: 0x10_0000,
            size: 0x7ff0_0000,
            kind: Type::Ram
        }));
        assert_eq!(
            map.last(),
            Some(&Entry {
                base: 0x1_0000_0000,
                size: 0x4000_0000,
                kind: Type::Ram
            })
        );
    }

    #[test]
    fn map_below_a_megabyte_reports_no_more_than_there_is() {
        let ram: Vec<_> = from_regions(&[(0, 0x8_0000)])
            .into_iter()
            .filter(|e| e.kind == Type::Ram)
            .collect();
        assert_eq!(
            ram,
            [Entry {
                base: 0,
                size: 0x8_0000,
                kind: Type::Ram
            }]
        );
    }
}
