// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The address map of the machine: the only place where these numbers stand.
//!
//! QEMU's q35 addresses where guests or test payloads expect them. Ranges are given as a first address and a size in bytes.

use iommu::address::Gpa;
use vm_memory::GuestAddress;

/// 1 GiB.
const GIB: u64 = 1 << 30;

/// RAM below 4 GiB ends here at the latest; what is more continues at [`HIGH_RAM`].
pub const LOW_RAM_END: u64 = 0x8000_0000;
/// Where RAM continues above the 32-bit hole.
pub const HIGH_RAM: u64 = 4 * GIB;

/// Tables that the guest's firmware would have left below 1 MiB end here (the extended BIOS data area, never reported as RAM).
pub const EBDA: Gpa = GuestAddress(0x9_fc00);
/// Start of the area of the ACPI tables; the RSDP is found by scanning it at 16-byte steps.
pub const FIRMWARE_TABLES: Gpa = GuestAddress(0xe_0000);
/// Bytes of the area of the ACPI tables; it ends at 1 MiB.
pub const FIRMWARE_TABLES_SIZE: u64 = 0x2_0000;
/// Where RAM continues above the legacy hole of 640 KiB to 1 MiB.
pub const MEGABYTE: Gpa = GuestAddress(0x10_0000);

/// PCI Express configuration space: 256 buses of 1 MiB.
pub const ECAM: Gpa = GuestAddress(0xb000_0000);
/// Bytes of the configuration space.
pub const ECAM_SIZE: u64 = 0x1000_0000;
/// The window of 32-bit BARs.
pub const PCI_WINDOW_32: Gpa = GuestAddress(0xc000_0000);
/// Bytes of the window of 32-bit BARs; it ends where the IOAPIC begins.
pub const PCI_WINDOW_32_SIZE: u64 = IOAPIC.0 - PCI_WINDOW_32.0;
/// The IOAPIC.
pub const IOAPIC: Gpa = GuestAddress(0xfec0_0000);
/// Bytes of the IOAPIC's registers.
pub const IOAPIC_SIZE: u64 = 0x1000;
/// The first VT-d unit.
pub const VTD: Gpa = GuestAddress(0xfed9_0000);
/// Bytes of a unit's registers; the units follow each other.
pub const VTD_SIZE: u64 = 0x1000;
/// The most units that a machine can have: one for the root bus and one for each device number that a root port can have.
pub const MAX_UNITS: u16 = 32;
/// The local APICs; writes of devices to this MiB are interrupts.
pub const LAPIC: Gpa = GuestAddress(0xfee0_0000);
/// Bytes of the interrupt address range.
pub const LAPIC_SIZE: u64 = 0x10_0000;
/// Three pages and one that KVM needs on Intel processors: identity map page, then task state segment.
pub const KVM_IDENTITY_MAP: Gpa = GuestAddress(0xfeff_c000);
/// The task state segment that KVM needs on Intel processors (three pages).
pub const KVM_TSS: Gpa = GuestAddress(0xfeff_d000);
/// Bytes of [`KVM_IDENTITY_MAP`] and [`KVM_TSS`] together.
pub const KVM_PAGES_SIZE: u64 = 0x4000;

/// Pins of the IOAPIC, and so global system interrupts.
pub const IOAPIC_PINS: u32 = 24;

/// The port window of PCI BARs.
pub const PCI_WINDOW_IO: u16 = 0xc000;
/// Ports of the window of PCI BARs.
pub const PCI_WINDOW_IO_SIZE: u16 = 0x4000;
/// CONFIG_ADDRESS and, at +4, CONFIG_DATA.
pub const PCI_CONFIG_PORT: u16 = 0xcf8;
/// The first serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// The first serial port's line.
pub const SERIAL_GSI: u8 = 4;
/// The real-time clock (index, data).
pub const RTC_PORT: u16 = 0x70;
/// The real-time clock's line.
pub const RTC_GSI: u8 = 8;
/// The keyboard controller's command port, which resets the machine.
pub const I8042_COMMAND_PORT: u16 = 0x64;
/// The line by which the machine tells the guest of the power button.
pub const POWER_BUTTON_GSI: u8 = 9;
/// The reset control register of the chipset.
pub const RESET_CONTROL_PORT: u16 = 0xcf9;
/// isa-debug-exit.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Ports of isa-debug-exit.
pub const DEBUG_EXIT_PORTS: u64 = 4;
/// pvpanic.
pub const PVPANIC_PORT: u16 = 0x505;
/// ACPI's sleep control register and, at +1, sleep status register.
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// Ports of the sleep registers.
pub const SLEEP_CONTROL_PORTS: u64 = 2;

/// The registers of unit `number`.
#[must_use]
pub fn vtd(number: usize) -> Gpa {
    GuestAddress(VTD.0 + VTD_SIZE * number as u64)
}

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub base: Gpa,
    /// Bytes, never 0.
    pub size: u64,
}

/// Where `size` bytes of RAM lie: one range below the 32-bit hole, and a second above it if there is more.
///
/// Returns `None` when the end would pass the 64-bit address space, or for a size of 0.
#[must_use]
pub fn ram_ranges(size: u64) -> Option<Vec<Range>> {
    let low = size.min(LOW_RAM_END);
    let high = size - low;
    HIGH_RAM.checked_add(high)?;
    let both = [(0, low), (HIGH_RAM, high)];
    let ranges: Vec<Range> = both
        .into_iter()
        .filter(|&(_, size)| size != 0)
        .map(|(base, size)| Range {
            base: GuestAddress(base),
            size,
        })
        .collect();
    (!ranges.is_empty()).then_some(ranges)
}

/// The first address above all RAM and above the 32-bit hole; for a size that cannot be addressed, the last address.
#[must_use]
pub fn ram_end(size: u64) -> u64 {
    HIGH_RAM.saturating_add(size.saturating_sub(LOW_RAM_END))
}

/// The window of 64-bit BARs above `ram_size` bytes of RAM: aligned to 64 GiB (to 1 GiB where that does not fit), and within
/// addresses of `address_bits` bits, the smaller of the processors' and the remapping unit's width.
///
/// Returns `None` when RAM leaves no room.
#[must_use]
pub fn pci_window_64(ram_size: u64, address_bits: u8) -> Option<Range> {
    let end = 1u64.checked_shl(u32::from(address_bits))?;
    [64 * GIB, GIB].into_iter().find_map(|align| {
        let base = ram_end(ram_size).checked_next_multiple_of(align)?;
        let size = end.checked_sub(base)?.min(1 << 40);
        (size != 0).then_some(Range {
            base: GuestAddress(base),
            size,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(base: u64, size: u64) -> Range {
        Range {
            base: GuestAddress(base),
            size,
        }
    }

    #[test]
    fn registers_of_units_lie_side_by_side_below_the_interrupt_range() {
        assert_eq!(vtd(0).0, 0xfed9_0000);
        assert_eq!(vtd(1).0, 0xfed9_1000);
        assert!(vtd(usize::from(MAX_UNITS)).0 <= LAPIC.0);
    }

    #[test]
    fn ram_ranges_below_the_hole_is_one() {
        assert_eq!(ram_ranges(0x1000_0000), Some(vec![range(0, 0x1000_0000)]));
        assert_eq!(ram_ranges(0x8000_0000), Some(vec![range(0, 0x8000_0000)]));
    }

    #[test]
    fn ram_ranges_above_the_hole_continues_at_4_gib() {
        assert_eq!(
            ram_ranges(0x8000_1000),
            Some(vec![range(0, 0x8000_0000), range(0x1_0000_0000, 0x1000)])
        );
    }

    #[test]
    fn ram_ranges_of_nothing_or_too_much_is_none() {
        assert_eq!(ram_ranges(0), None);
        assert_eq!(ram_ranges(u64::MAX), None);
    }

    #[test]
    fn ram_end_of_what_cannot_be_addressed_does_not_wrap() {
        assert_eq!(ram_end(0x1000), 0x1_0000_0000);
        assert_eq!(ram_end(0x8000_1000), 0x1_0000_1000);
        assert_eq!(ram_end(u64::MAX - 1023), u64::MAX);
    }

    #[test]
    fn pci_window_64_is_aligned_and_inside_the_width() {
        assert_eq!(
            pci_window_64(0x1000_0000, 39),
            Some(range(0x10_0000_0000, 0x70_0000_0000))
        );
        assert_eq!(
            pci_window_64(0x1000_0000, 36),
            Some(range(0x1_0000_0000, 0xf_0000_0000))
        );
        assert_eq!(pci_window_64(0x10_0000_0000, 36), None);
    }
}
