// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the unit can do: the one value that CAP and ECAP show to the guest and that every legality check asks.
//!
//! The registers themselves are the truth. Whatever they do not advertise faults or sets IQE, because the check reads the
//! same bit that the guest reads.

mod check;
mod options;
mod reserved;
mod scalable;

pub use options::{AddressWidth, LegacyOptions, PasidBits, ScalableOptions, Stages};
pub use reserved::ReservedBits;

use crate::address::{Gpa, PAGE_SIZE};
use crate::ids::DomainId;
use crate::spec::regs::{Cap, Ecap};
use crate::translator::TableMode;

/// Offset of IVA and IOTLB, bytes.
const IOTLB_OFFSET: u16 = 0xf0;
/// Offset of the first fault recording register, bytes.
const FAULT_RECORD_OFFSET: u16 = 0x220;
/// Fault recording registers that fit between their offset and the end of the first page.
pub const MAX_FAULT_RECORDS: u16 = (4096 - FAULT_RECORD_OFFSET) / 16;

/// A set of capabilities that no unit can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// One capability needs another.
    #[error("{0} needs {1}, which is not offered")]
    Requires(&'static str, &'static str),
    /// The host address width is out of range.
    #[error(
        "a host address width of {0} bits cannot be had: tables hold addresses of 32 to 52 bits"
    )]
    HostAddressWidth(u8),
    /// The fault recording registers do not fit.
    #[error("{0} fault recording registers cannot be had: choose 1 to {max}", max = MAX_FAULT_RECORDS)]
    FaultRecords(u16),
    /// A field holds a value that the specification reserves.
    #[error("{field} = {value:#x} is reserved or not supported")]
    Field {
        /// Name of the field in the specification.
        field: &'static str,
        /// What it held.
        value: u16,
    },
    /// Both stages are offered, and no width suits both.
    #[error(
        "both stages need 48-bit tables in SAGAW {0:#x}: first-stage tables have 48 or 57 bits, and software picks one width for both"
    )]
    StagesWithoutCommonWidth(u8),
    /// Scalable mode without a stage.
    #[error("scalable mode needs first-stage or second-stage translation")]
    NoStage,
    /// The PASID width is out of range.
    #[error("PASIDs of {0} bits cannot be had: choose 1 to 20")]
    PasidBits(u8),
    /// MGAW is wider than every table.
    #[error("IOVAs of {bits} bits need a table that wide in SAGAW {sagaw:#x}")]
    WidthWithoutTable {
        /// MGAW + 1.
        bits: u8,
        /// SAGAW.
        sagaw: u8,
    },
}

/// The capabilities of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    cap: Cap,
    ecap: Ecap,
    host_address_width: u8,
    /// What follows from the above, for every step of a walk.
    second_stage_reserved: ReservedBits,
    first_stage_reserved: ReservedBits,
}

impl Capabilities {
    /// A unit in legacy mode with queued invalidation, pass-through and large pages.
    ///
    /// # Errors
    /// The options contradict each other or are out of range.
    pub fn legacy(options: &LegacyOptions) -> Result<Self, CapabilityError> {
        let (cap, ecap) = options::legacy(options)?;
        Self::new(cap, ecap, options.host_address_width)
    }

    /// A unit that offers scalable mode beside legacy mode.
    ///
    /// # Errors
    /// The options contradict each other or are out of range.
    pub fn scalable(options: &ScalableOptions) -> Result<Self, CapabilityError> {
        let (cap, ecap) = options::scalable(options)?;
        Self::new(cap, ecap, options.base.host_address_width)
    }

    /// The capabilities that these registers advertise.
    ///
    /// # Errors
    /// The registers contradict each other, or advertise what is not implemented.
    pub fn new(cap: Cap, ecap: Ecap, host_address_width: u8) -> Result<Self, CapabilityError> {
        if !(32..=52).contains(&host_address_width) {
            return Err(CapabilityError::HostAddressWidth(host_address_width));
        }
        check::dependencies(cap, ecap)?;
        check::implemented(cap, ecap)?;
        check::fields(cap, ecap)?;
        check::stages(cap, ecap)?;
        Ok(Self {
            cap,
            ecap,
            host_address_width,
            second_stage_reserved: ReservedBits::second_stage(cap, ecap.sc(), host_address_width),
            first_stage_reserved: ReservedBits::first_stage(cap, host_address_width),
        })
    }

    /// CAP.
    #[must_use]
    pub const fn cap(&self) -> Cap {
        self.cap
    }

    /// ECAP.
    #[must_use]
    pub const fn ecap(&self) -> Ecap {
        self.ecap
    }

    /// Width in bits of the guest-physical addresses in tables; higher address bits are reserved (HAW).
    #[must_use]
    pub const fn host_address_width(&self) -> u8 {
        self.host_address_width
    }

    /// Whether `address` fits the host address width.
    #[must_use]
    pub const fn is_host_address(&self, address: Gpa) -> bool {
        address.0 >> self.host_address_width == 0
    }

    /// Width in bits of the widest IOVA (MGAW + 1).
    #[must_use]
    pub const fn address_bits(&self) -> u32 {
        self.cap.mgaw() as u32 + 1
    }

    /// Levels of a second-stage table whose entry says address width `aw`; `None` when that width is not offered.
    #[must_use]
    pub const fn second_stage_levels(&self, aw: u8) -> Option<u32> {
        if aw >= 1 && aw <= 3 && self.cap.sagaw() >> aw & 1 == 1 {
            Some(aw as u32 + 2)
        } else {
            None
        }
    }

    /// The largest address width value that an entry may say: pass-through entries must.
    #[must_use]
    pub const fn largest_aw(&self) -> u8 {
        if self.cap.sagaw() & 0x8 != 0 {
            3
        } else if self.cap.sagaw() & 0x4 != 0 {
            2
        } else {
            1
        }
    }

    /// Bits of a domain id that may be set.
    #[must_use]
    pub const fn domain_id_bits(&self) -> u32 {
        4 + 2 * self.cap.nd() as u32
    }

    /// Whether the unit knows so high a domain id.
    #[must_use]
    pub const fn is_domain_id(&self, domain: DomainId) -> bool {
        (domain.0 as u32) >> self.domain_id_bits() == 0
    }

    /// Entries that are not present may be cached (CM).
    #[must_use]
    pub const fn caching_mode(&self) -> bool {
        self.cap.cm()
    }

    /// Zero-length reads of write-only pages are allowed (ZLR).
    #[must_use]
    pub const fn zero_length_reads(&self) -> bool {
        self.cap.zlr()
    }

    /// Context entries may pass requests through (PT).
    #[must_use]
    pub const fn pass_through(&self) -> bool {
        self.ecap.pt()
    }

    /// Devices may cache translations (DT).
    #[must_use]
    pub const fn device_tlb(&self) -> bool {
        self.ecap.dt()
    }

    /// Paging entries may force snooping (SC).
    #[must_use]
    pub const fn snoop_control(&self) -> bool {
        self.ecap.sc()
    }

    /// Queued invalidation (QI).
    #[must_use]
    pub const fn queued_invalidation(&self) -> bool {
        self.ecap.qi()
    }

    /// Interrupts can be remapped (IR).
    #[must_use]
    pub const fn interrupt_remapping(&self) -> bool {
        self.ecap.ir()
    }

    /// Interrupts can be remapped to 32-bit APIC ids (EIM).
    #[must_use]
    pub const fn extended_interrupt_mode(&self) -> bool {
        self.ecap.eim()
    }

    /// Interrupt table entries may post (PI).
    #[must_use]
    pub const fn posted_interrupts(&self) -> bool {
        self.cap.pi()
    }

    /// Page-selective IOTLB invalidation with address mask `mask` is offered.
    #[must_use]
    pub const fn page_invalidation(&self, mask: u8) -> bool {
        self.cap.psi() && mask <= self.cap.mamv()
    }

    /// Interrupt entry invalidation of 2^`mask` entries is offered.
    #[must_use]
    pub const fn interrupt_invalidation(&self, mask: u8) -> bool {
        mask <= self.ecap.mhmv()
    }

    /// Whether requests may be translated in this mode.
    #[must_use]
    pub const fn table_mode(&self, mode: TableMode) -> bool {
        match mode {
            TableMode::Legacy => true,
            TableMode::Scalable => self.ecap.smts(),
            TableMode::Abort => self.ecap.adms(),
            TableMode::Reserved => false,
        }
    }

    /// 256-bit invalidation descriptors are offered, whatever the table mode.
    #[must_use]
    pub const fn wide_descriptors(&self) -> bool {
        self.ecap.smts() || self.ecap.adms()
    }

    /// Wait descriptors may ask for page requests to be drained (PDS).
    #[must_use]
    pub const fn page_request_drain(&self) -> bool {
        self.ecap.pds()
    }

    /// Byte offset of IVA; IOTLB follows it.
    #[must_use]
    pub const fn iotlb_offset(&self) -> u16 {
        self.ecap.iro() * 16
    }

    /// Byte offset of the first fault recording register.
    #[must_use]
    pub const fn fault_record_offset(&self) -> u16 {
        self.cap.fro() * 16
    }

    /// Number of fault recording registers.
    #[must_use]
    pub const fn fault_records(&self) -> u16 {
        self.cap.nfr() as u16 + 1
    }

    /// Bytes of the register block: whole pages.
    #[must_use]
    pub const fn register_bytes(&self) -> u64 {
        PAGE_SIZE
    }
}

#[cfg(test)]
mod tests;
