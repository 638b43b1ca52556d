// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The DMAR table: how software finds the unit (DMA Remapping Reporting Structure, BIOS Considerations).
//!
//! Data in, bytes out. All structures that firmware may report are here except the SoC integrated device property
//! structure, which software ignores.

mod check;

use crate::address::{Gpa, PAGE_SIZE};

/// Bytes before the first structure: the ACPI header, width, flags and reserved bytes.
const FIXED_BYTES: usize = 48;
/// Flag: interrupt remapping is supported.
const INTR_REMAP: u8 = 1;

/// Why no table can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmarError {
    /// The width is out of range.
    #[error("a DMAR host address width of {0} bits is not usable: 12 to 64 are")]
    HostAddressWidth(u8),
    /// A structure or a scope has more bytes than its length field can say.
    #[error("a DMAR {0} is too long for its length field: list fewer devices")]
    TooLong(&'static str),
    /// A register block is not where one can be.
    #[error(
        "a remapping unit cannot have its registers at {0:#x}: the address must be page aligned and not 0"
    )]
    RegisterBase(u64),
    /// A unit follows the one that takes all remaining devices of its segment.
    #[error(
        "the DRHD that includes all PCI devices of segment {0} must be the last of the segment"
    )]
    NotLast(u16),
    /// Two units have registers at the same place.
    #[error(
        "two remapping units cannot both have registers at {0:#x}: give each a block of its own"
    )]
    RegisterOverlap(u64),
    /// Two units list the same device, IOAPIC or HPET.
    #[error("two remapping units list the same {0:?}: each belongs to exactly one")]
    TwoUnits(ScopeKind),
    /// An affinity structure is for no unit.
    #[error("an affinity is given for registers at {0:#x}, where no remapping unit is")]
    NoSuchUnit(u64),
    /// A reserved memory region is not made of pages.
    #[error("the reserved memory region {base:#x} to {last:#x} is not made of whole pages")]
    Region {
        /// First byte.
        base: u64,
        /// Last byte.
        last: u64,
    },
}

/// Who made the table: the strings of the ACPI header, the same in all tables of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OemIds {
    /// OEM id.
    pub oem: [u8; 6],
    /// OEM table id.
    pub table: [u8; 8],
    /// OEM revision.
    pub revision: u32,
    /// Creator id.
    pub creator: [u8; 4],
    /// Creator revision.
    pub creator_revision: u32,
}

/// What the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmar {
    /// Widest host address that DMA can reach, in bits.
    pub host_address_width: u8,
    /// Every unit remaps interrupts. Software may then use x2APIC: there is no opting out.
    pub interrupt_remapping: bool,
    /// The structures, in the order of the table.
    pub structures: Vec<Structure>,
}

/// One structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structure {
    /// A remapping unit.
    Drhd(Drhd),
    /// Memory that devices may use before software takes over.
    Rmrr(Rmrr),
    /// Root ports below which devices may use address translation services.
    Atsr(Atsr),
    /// The proximity domain of a unit.
    Rhsa(Rhsa),
    /// A device that is in the ACPI namespace only.
    Andd(Andd),
    /// Integrated devices with address translation caches.
    Satc(Satc),
}

/// DMA remapping hardware unit definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drhd {
    /// PCI segment.
    pub segment: u16,
    /// Registers, page aligned.
    pub registers: Gpa,
    /// Pages of registers as a power of two: 0 for one page.
    pub size: u8,
    /// All devices of the segment that no other unit names. Must be the last unit of its segment.
    pub include_pci_all: bool,
    /// Devices, and IOAPICs and HPETs in any case.
    pub scopes: Vec<Scope>,
}

/// Reserved memory region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rmrr {
    /// PCI segment.
    pub segment: u16,
    /// First byte.
    pub base: Gpa,
    /// Last byte.
    pub last: Gpa,
    /// The devices.
    pub scopes: Vec<Scope>,
}

/// Root port ATS capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atsr {
    /// PCI segment.
    pub segment: u16,
    /// All root ports; no scopes then.
    pub all_ports: bool,
    /// The root ports.
    pub scopes: Vec<Scope>,
}

/// Remapping hardware static affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rhsa {
    /// Registers of the unit.
    pub registers: Gpa,
    /// Proximity domain.
    pub proximity: u32,
}

/// ACPI namespace device declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Andd {
    /// The number by which scopes name it.
    pub device: u8,
    /// Its path in the namespace.
    pub path: String,
}

/// SoC integrated address translation cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Satc {
    /// PCI segment.
    pub segment: u16,
    /// The devices do not work without their cache.
    pub required: bool,
    /// The devices.
    pub scopes: Vec<Scope>,
}

/// What a scope names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ScopeKind {
    /// A PCI endpoint.
    Endpoint = 1,
    /// A PCI bridge and everything below it.
    Bridge = 2,
    /// An IOAPIC.
    Ioapic = 3,
    /// An HPET that sends messages.
    Hpet = 4,
    /// An ACPI namespace device.
    Namespace = 5,
}

/// One hop of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathElement {
    /// PCI device number.
    pub device: u8,
    /// PCI function number.
    pub function: u8,
}

/// A device, by the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What it is.
    pub kind: ScopeKind,
    /// IOAPIC id, HPET number or namespace device number; otherwise 0.
    pub enumeration_id: u8,
    /// The bus that the path starts from.
    pub start_bus: u8,
    /// From there over bridges to the device.
    pub path: Vec<PathElement>,
}

impl Dmar {
    /// The table.
    ///
    /// # Errors
    /// It would not be a valid one.
    pub fn to_bytes(&self, ids: &OemIds) -> Result<Vec<u8>, DmarError> {
        if !(12..=64).contains(&self.host_address_width) {
            return Err(DmarError::HostAddressWidth(self.host_address_width));
        }
        self.check()?;
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        bytes.extend(b"DMAR");
        bytes.extend([0; 4]);
        bytes.extend([1, 0]);
        bytes.extend(ids.oem);
        bytes.extend(ids.table);
        bytes.extend(ids.revision.to_le_bytes());
        bytes.extend(ids.creator);
        bytes.extend(ids.creator_revision.to_le_bytes());
        bytes.push(self.host_address_width - 1);
        bytes.push(if self.interrupt_remapping {
            INTR_REMAP
        } else {
            0
        });
        bytes.extend([0; 10]);
        for structure in &self.structures {
            bytes.extend(structure.to_bytes()?);
        }
        let length = u32::try_from(bytes.len()).map_err(|_| DmarError::TooLong("table"))?;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[9] = bytes
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
            .wrapping_neg();
        Ok(bytes)
    }
}

impl Structure {
    fn to_bytes(&self) -> Result<Vec<u8>, DmarError> {
        let (kind, name, body, scopes): (u16, _, Vec<u8>, &[Scope]) = match self {
            Self::Drhd(drhd) => (0, "DRHD", drhd.body()?, &drhd.scopes),
            Self::Rmrr(rmrr) => (1, "RMRR", rmrr.body()?, &rmrr.scopes),
            Self::Atsr(atsr) => (
                2,
                "ATSR",
                flagged(atsr.all_ports, atsr.segment),
                &atsr.scopes,
            ),
            Self::Rhsa(rhsa) => (3, "RHSA", rhsa.body(), &[]),
            Self::Andd(andd) => (4, "ANDD", andd.body(), &[]),
            Self::Satc(satc) => (
                5,
                "SATC",
                flagged(satc.required, satc.segment),
                &satc.scopes,
            ),
        };
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(body);
        for scope in scopes {
            bytes.extend(scope.to_bytes()?);
        }
        let length = u16::try_from(bytes.len()).map_err(|_| DmarError::TooLong(name))?;
        bytes[2..4].copy_from_slice(&length.to_le_bytes());
        Ok(bytes)
    }
}

/// A body of one flag, a reserved byte and the segment.
fn flagged(flag: bool, segment: u16) -> Vec<u8> {
    let [low, high] = segment.to_le_bytes();
    vec![flag.into(), 0, low, high]
}

impl Drhd {
    fn body(&self) -> Result<Vec<u8>, DmarError> {
        let base = self.registers.0;
        if base == 0 || !base.is_multiple_of(PAGE_SIZE) {
            return Err(DmarError::RegisterBase(base));
        }
        let mut body = flagged(self.include_pci_all, self.segment);
        body[1] = self.size;
        body.extend(base.to_le_bytes());
        Ok(body)
    }
}

impl Rmrr {
    fn body(&self) -> Result<Vec<u8>, DmarError> {
        let (base, last) = (self.base.0, self.last.0);
        if base > last || !base.is_multiple_of(PAGE_SIZE) || last % PAGE_SIZE != PAGE_SIZE - 1 {
            return Err(DmarError::Region { base, last });
        }
        let mut body = flagged(false, self.segment);
        body.extend(base.to_le_bytes());
        body.extend(last.to_le_bytes());
        Ok(body)
    }
}

impl Rhsa {
    fn body(&self) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend(self.registers.0.to_le_bytes());
        body.extend(self.proximity.to_le_bytes());
        body
    }
}

impl Andd {
    fn body(&self) -> Vec<u8> {
        let mut body = vec![0, 0, 0, self.device];
        body.extend(self.path.as_bytes());
        body.push(0);
        body
    }
}

impl Scope {
    fn to_bytes(&self) -> Result<Vec<u8>, DmarError> {
        let length = u8::try_from(6 + 2 * self.path.len())
            .map_err(|_| DmarError::TooLong("device scope"))?;
        let mut bytes = vec![
            self.kind as u8,
            length,
            0,
            0,
            self.enumeration_id,
            self.start_bus,
        ];
        bytes.extend(self.path.iter().flat_map(|hop| [hop.device, hop.function]));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
