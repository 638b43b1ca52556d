// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers of the unit (VT-d spec chapter 11) and the GCMD/GSTS handshakes.

use crate::arch;
use crate::mem;

pub const VER: u64 = 0x00;
pub const CAP: u64 = 0x08;
pub const ECAP: u64 = 0x10;
pub const GCMD: u64 = 0x18;
pub const GSTS: u64 = 0x1C;
pub const RTADDR: u64 = 0x20;
pub const CCMD: u64 = 0x28;
pub const FSTS: u64 = 0x34;
pub const FECTL: u64 = 0x38;
pub const FEDATA: u64 = 0x3C;
pub const FEADDR: u64 = 0x40;
pub const FEUADDR: u64 = 0x44;
pub const IQH: u64 = 0x80;
pub const IQT: u64 = 0x88;
pub const IQA: u64 = 0x90;
pub const ICS: u64 = 0x9C;
pub const IECTL: u64 = 0xA0;
pub const IEDATA: u64 = 0xA4;
pub const IEADDR: u64 = 0xA8;
pub const IEUADDR: u64 = 0xAC;
pub const IQERCD: u64 = 0xB0;
pub const IRTA: u64 = 0xB8;
pub const PQH: u64 = 0xC0;
pub const PQT: u64 = 0xC8;
pub const PQA: u64 = 0xD0;
pub const PRS: u64 = 0xDC;
pub const PECTL: u64 = 0xE0;
pub const PEDATA: u64 = 0xE4;
pub const PEADDR: u64 = 0xE8;
pub const PEUADDR: u64 = 0xEC;

/// Table modes (RTADDR.TTM).
pub const LEGACY: u64 = 0b00 << 10;
pub const SCALABLE: u64 = 0b01 << 10;
pub const RESERVED_MODE: u64 = 0b10 << 10;
pub const ABORT: u64 = 0b11 << 10;

/// Bits of GCMD and GSTS.
pub const TE: u32 = 1 << 31;
pub const SRTP: u32 = 1 << 30;
pub const SFL: u32 = 1 << 29;
pub const EAFL: u32 = 1 << 28;
pub const QIE: u32 = 1 << 26;
pub const IRE: u32 = 1 << 25;
pub const SIRTP: u32 = 1 << 24;
pub const CFI: u32 = 1 << 23;
/// GSTS without the bits whose commands act once.
const LEVEL_BITS: u32 = 0x96FF_FFFF;

/// Bits of FSTS.
pub const PFO: u32 = 1 << 0;
pub const PPF: u32 = 1 << 1;
pub const IQE: u32 = 1 << 4;
pub const ICE: u32 = 1 << 5;
pub const ITE: u32 = 1 << 6;

/// Bits of PRS.
pub const PPR: u32 = 1 << 0;
pub const PRO: u32 = 1 << 1;

/// Interrupt mask and pending, in FECTL and IECTL.
pub const IM: u32 = 1 << 31;
pub const IP: u32 = 1 << 30;

#[derive(Clone, Copy)]
pub struct Unit {
    base: u64,
    pub cap: u64,
    pub ecap: u64,
}

impl Unit {
    pub fn new(base: u64) -> Unit {
        Unit {
            base,
            cap: mem::read64(base + CAP),
            ecap: mem::read64(base + ECAP),
        }
    }

    pub fn read32(self, offset: u64) -> u32 {
        mem::read32(self.base + offset)
    }

    pub fn read64(self, offset: u64) -> u64 {
        mem::read64(self.base + offset)
    }

    pub fn write32(self, offset: u64, value: u32) {
        mem::write32(self.base + offset, value);
    }

    pub fn write64(self, offset: u64, value: u64) {
        mem::write64(self.base + offset, value);
    }

    /// CAP.CM.
    pub fn caching_mode(self) -> bool {
        self.cap & 1 << 7 != 0
    }

    /// CAP.MGAW: width of the widest address, in bits.
    pub fn mgaw(self) -> u64 {
        (self.cap >> 16 & 0x3F) + 1
    }

    /// Whether second-stage tables of this many levels exist (CAP.SAGAW).
    pub fn has_levels(self, levels: u64) -> bool {
        self.cap >> (8 + levels - 2) & 1 != 0
    }

    /// The most levels that there are.
    pub fn max_levels(self) -> u64 {
        [5, 4, 3]
            .into_iter()
            .find(|&levels| self.has_levels(levels))
            .unwrap_or(3)
    }

    /// Whether leaves at this level exist (CAP.SSLPS): 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB.
    pub fn has_leaf(self, level: u64) -> bool {
        level == 1 || self.cap >> (34 + level - 2) & 1 != 0
    }

    /// CAP.NFR: number of fault records.
    pub fn records(self) -> u64 {
        (self.cap >> 40 & 0xFF) + 1
    }

    /// CAP.FRO: offset of fault record `index`.
    pub fn record(self, index: u64) -> u64 {
        (self.cap >> 24 & 0x3FF) * 16 + index * 16
    }

    /// ECAP.IRO: offset of IVA; IOTLB follows 8 bytes on.
    pub fn iva(self) -> u64 {
        (self.ecap >> 8 & 0x3FF) * 16
    }

    pub fn has_queue(self) -> bool {
        self.ecap & 1 << 1 != 0
    }

    pub fn has_remapping(self) -> bool {
        self.ecap & 1 << 3 != 0
    }

    pub fn has_eim(self) -> bool {
        self.ecap & 1 << 4 != 0
    }

    pub fn has_pass_through(self) -> bool {
        self.ecap & 1 << 6 != 0
    }

    pub fn has_snoop(self) -> bool {
        self.ecap & 1 << 7 != 0
    }

    /// CAP.PI: entries in posted format.
    pub fn has_posting(self) -> bool {
        self.cap >> 59 & 1 != 0
    }

    /// CAP.FS5LP.
    pub fn has_five_level_first_stage(self) -> bool {
        self.cap >> 60 & 1 != 0
    }

    /// CAP.FS1GP.
    pub fn has_first_stage_gigabyte(self) -> bool {
        self.cap >> 56 & 1 != 0
    }

    /// One bit of ECAP.
    fn offers(self, bit: u32) -> bool {
        self.ecap >> bit & 1 != 0
    }

    /// ECAP.SMTS.
    pub fn has_scalable(self) -> bool {
        self.offers(43)
    }

    /// ECAP.FSTS.
    pub fn has_first_stage(self) -> bool {
        self.offers(47)
    }

    /// ECAP.SSTS.
    pub fn has_second_stage(self) -> bool {
        self.offers(46)
    }

    /// ECAP.NEST.
    pub fn has_nesting(self) -> bool {
        self.offers(26)
    }

    /// ECAP.SSADS.
    pub fn has_second_stage_dirty(self) -> bool {
        self.offers(45)
    }

    /// ECAP.SMPWC.
    pub fn has_coherent_walks(self) -> bool {
        self.offers(48)
    }

    /// ECAP.DT.
    pub fn has_device_tlb(self) -> bool {
        self.offers(2)
    }

    /// ECAP.DIT.
    pub fn has_physical_function(self) -> bool {
        self.offers(41)
    }

    /// ECAP.PRS.
    pub fn has_page_requests(self) -> bool {
        self.offers(29)
    }

    /// ECAP.PDS.
    pub fn has_drain(self) -> bool {
        self.offers(42)
    }

    /// ECAP.PASID.
    pub fn has_pasids(self) -> bool {
        self.offers(40)
    }

    /// ECAP.RPS.
    pub fn has_rid_pasid(self) -> bool {
        self.offers(49)
    }

    /// ECAP.RPRIVS.
    pub fn has_rid_privilege(self) -> bool {
        self.offers(53)
    }

    /// ECAP.ERS.
    pub fn has_execute(self) -> bool {
        self.offers(30)
    }

    /// ECAP.SRS.
    pub fn has_supervisor(self) -> bool {
        self.offers(31)
    }

    /// ECAP.EAFS.
    pub fn has_extended_accessed(self) -> bool {
        self.offers(34)
    }

    /// ECAP.NWFS.
    pub fn has_no_write_flag(self) -> bool {
        self.offers(33)
    }

    /// ECAP.ADMS.
    pub fn has_abort_mode(self) -> bool {
        self.offers(52)
    }

    pub fn status(self) -> u32 {
        self.read32(GSTS)
    }

    /// Sets one bit of GCMD as the specification asks; whether GSTS followed.
    pub fn set(self, bit: u32) -> bool {
        self.write32(GCMD, self.status() & LEVEL_BITS | bit);
        arch::poll(arch::SHORT, || self.status() & bit != 0)
    }

    /// As `set`, for a bit that a unit may not have: no patience.
    pub fn set_at_once(self, bit: u32) -> bool {
        self.write32(GCMD, self.status() & LEVEL_BITS | bit);
        self.status() & bit != 0
    }

    /// Clears one bit of GCMD; whether GSTS followed.
    pub fn clear(self, bit: u32) -> bool {
        self.write32(GCMD, self.status() & LEVEL_BITS & !bit);
        arch::poll(arch::SHORT, || self.status() & bit == 0)
    }

    /// Makes `root` the root table (SRTP); the table mode is part of it, 0 for legacy mode.
    pub fn set_root(self, root: u64) -> bool {
        self.write64(RTADDR, root);
        self.set(SRTP)
    }

    /// Makes `table` the interrupt remapping table of 2^(`size` + 1) entries.
    pub fn set_irt(self, table: u64, size: u64, eime: bool) -> bool {
        self.write64(IRTA, table | u64::from(eime) << 11 | size);
        self.set(SIRTP)
    }

    /// CCMD: invalidates contexts; the granularity that was done, or none if the unit never finished.
    pub fn context_command(self, request: u64, domain: u16, source: u16) -> Option<u64> {
        let command = 1 << 63 | request << 61 | u64::from(source) << 16 | u64::from(domain);
        self.write64(CCMD, command);
        arch::poll(arch::SHORT, || self.read64(CCMD) >> 63 == 0)
            .then(|| self.read64(CCMD) >> 59 & 3)
    }

    /// IVA and IOTLB: invalidates translations; the granularity that was done, or none if the unit never finished.
    pub fn iotlb_command(self, request: u64, domain: u16, address: u64) -> Option<u64> {
        let iotlb = self.iva() + 8;
        self.write64(self.iva(), address);
        self.write64(
            iotlb,
            1 << 63 | request << 60 | 3 << 48 | u64::from(domain) << 32,
        );
        arch::poll(arch::SHORT, || self.read64(iotlb) >> 63 == 0)
            .then(|| self.read64(iotlb) >> 57 & 3)
    }

    /// Turns translation and remapping off, then the queue, and forgets all faults.
    pub fn quiesce(self) {
        for bit in [TE, IRE, CFI] {
            self.clear(bit);
        }
        self.write32(FECTL, IM);
        self.write32(IECTL, IM);
        if self.has_page_requests() {
            self.write32(PECTL, IM);
            self.write32(PRS, PPR | PRO);
        }
        self.clear_faults();
        if self.status() & QIE != 0 {
            arch::poll(arch::SHORT, || self.read32(IQH) == self.read32(IQT));
            self.clear(QIE);
        }
        self.write32(ICS, 1);
        self.clear_faults();
    }

    /// Clears every fault record and status bit.
    pub fn clear_faults(self) {
        for index in 0..self.records() {
            self.write32(self.record(index) + 12, 1 << 31);
        }
        self.write32(FSTS, 0x7D);
    }
}
