// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can be chosen for a unit, and the registers that advertise it.

use super::{CapabilityError, FAULT_RECORD_OFFSET, IOTLB_OFFSET, MAX_FAULT_RECORDS};
use crate::spec::regs::{Cap, Ecap};

/// The widest IOVA that devices may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressWidth {
    /// 39 bits. Tables of three and four levels are accepted, because software builds four-level tables for 39-bit IOVAs.
    Bits39,
    /// 48 bits.
    #[default]
    Bits48,
    /// 57 bits, with tables of three to five levels.
    Bits57,
}

impl AddressWidth {
    /// The width in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits39 => 39,
            Self::Bits48 => 48,
            Self::Bits57 => 57,
        }
    }

    const fn sagaw(self) -> u8 {
        match self {
            Self::Bits39 | Self::Bits48 => 0x6,
            Self::Bits57 => 0xe,
        }
    }
}

/// What can be chosen for a unit in legacy mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyOptions {
    /// The widest IOVA.
    pub address_width: AddressWidth,
    /// Width in bits of the guest-physical addresses that tables may hold, at most 52.
    pub host_address_width: u8,
    /// Caching mode: software must invalidate entries that become present.
    pub caching_mode: bool,
    /// Interrupt remapping.
    pub interrupt_remapping: bool,
    /// Interrupt remapping to 32-bit APIC ids.
    pub extended_interrupt_mode: bool,
    /// Paging entries may force snooping. Without it such entries have a reserved bit.
    pub snoop_control: bool,
    /// Number of fault recording registers.
    pub fault_records: u16,
}

impl Default for LegacyOptions {
    fn default() -> Self {
        Self {
            address_width: AddressWidth::Bits48,
            host_address_width: 48,
            caching_mode: false,
            interrupt_remapping: true,
            extended_interrupt_mode: true,
            snoop_control: true,
            fault_records: 8,
        }
    }
}

/// Which tables scalable mode offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stages {
    /// First-stage tables, in the processor's format.
    First,
    /// Second-stage tables.
    Second,
    /// Either.
    #[default]
    Both,
}

impl Stages {
    const fn first(self) -> bool {
        matches!(self, Self::First | Self::Both)
    }

    const fn second(self) -> bool {
        matches!(self, Self::Second | Self::Both)
    }
}

/// The width of PASIDs, 1 to 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidBits(u8);

impl PasidBits {
    /// All that a PASID can have.
    pub const MAX: Self = Self(20);

    /// PASIDs of `bits` bits.
    ///
    /// # Errors
    /// No PASID is that wide.
    pub const fn new(bits: u8) -> Result<Self, CapabilityError> {
        if bits >= 1 && bits <= Self::MAX.0 {
            Ok(Self(bits))
        } else {
            Err(CapabilityError::PasidBits(bits))
        }
    }

    /// The width.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// What can be chosen for a unit with scalable mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScalableOptions {
    /// What legacy mode leaves to choose, too.
    pub base: LegacyOptions,
    /// The tables.
    pub stages: Stages,
    /// First-stage tables may stand on second-stage ones.
    pub nesting: bool,
    /// Requests with PASID, and how wide it is.
    pub pasid: Option<PasidBits>,
    /// Requests may ask for instruction fetch. Needs PASIDs.
    pub execute_requests: bool,
    /// Requests may have supervisor privilege. Needs PASIDs.
    pub supervisor_requests: bool,
    /// First-stage entries may have an extended accessed bit. Needs PASIDs.
    pub extended_accessed: bool,
    /// First-stage tables must not have pages of 1 GiB, which they may otherwise.
    pub without_first_stage_gigabyte_pages: bool,
    /// Devices may cache translations.
    pub device_tlb: bool,
    /// A device may say that it will not write where it asks for a translation. Needs device-TLBs.
    pub no_write_flag: bool,
    /// Devices may ask for pages. Needs device-TLBs.
    pub page_requests: bool,
    /// Second-stage tables may have accessed and dirty bits. Needs second-stage tables.
    pub dirty_tracking: bool,
    /// Every request can be aborted.
    pub abort_mode: bool,
    /// Interrupts may be posted to a descriptor in memory. Not for a machine whose interrupts are routed in advance, as
    /// those of passed-through devices are.
    pub posted_interrupts: bool,
}

/// CAP and ECAP of a unit in legacy mode.
pub(super) fn legacy(options: &LegacyOptions) -> Result<(Cap, Ecap), CapabilityError> {
    let records = options.fault_records;
    if !(1..=MAX_FAULT_RECORDS).contains(&records) {
        return Err(CapabilityError::FaultRecords(records));
    }
    let nfr = u8::try_from(records - 1).map_err(|_| CapabilityError::FaultRecords(records))?;
    let cap = Cap::new()
        .with_nd(6)
        .with_cm(options.caching_mode)
        .with_sagaw(options.address_width.sagaw())
        .with_mgaw(options.address_width.bits() - 1)
        .with_fro(FAULT_RECORD_OFFSET / 16)
        .with_sslps(3)
        .with_psi(true)
        .with_nfr(nfr)
        .with_mamv(18)
        .with_dwd(true)
        .with_drd(true);
    let ir = options.interrupt_remapping;
    let ecap = Ecap::new()
        .with_c(true)
        .with_qi(true)
        .with_ir(ir)
        .with_eim(options.extended_interrupt_mode)
        .with_pt(true)
        .with_sc(options.snoop_control)
        .with_iro(IOTLB_OFFSET / 16)
        .with_mhmv(if ir { 15 } else { 0 });
    Ok((cap, ecap))
}

/// CAP and ECAP of a unit with scalable mode.
pub(super) fn scalable(options: &ScalableOptions) -> Result<(Cap, Ecap), CapabilityError> {
    let (cap, ecap) = legacy(&options.base)?;
    let first = options.stages.first();
    let five_levels = options.base.address_width == AddressWidth::Bits57;
    let cap = cap
        .with_fs1gp(first && !options.without_first_stage_gigabyte_pages)
        .with_fs5lp(first && five_levels)
        .with_pi(options.posted_interrupts);
    let ecap = ecap
        .with_smts(true)
        .with_fsts(first)
        .with_ssts(options.stages.second())
        .with_smpwc(true)
        .with_rps(true)
        .with_nest(options.nesting)
        .with_ssads(options.dirty_tracking)
        .with_pasid(options.pasid.is_some())
        .with_pss(options.pasid.map_or(0, |bits| bits.get() - 1))
        .with_ers(options.execute_requests)
        .with_srs(options.supervisor_requests)
        .with_rprivs(options.supervisor_requests)
        .with_eafs(options.extended_accessed)
        .with_dt(options.device_tlb)
        .with_dit(options.device_tlb)
        .with_nwfs(options.no_write_flag)
        .with_prs(options.page_requests)
        .with_pds(options.page_requests)
        .with_adms(options.abort_mode);
    Ok((cap, ecap))
}
