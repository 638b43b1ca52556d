// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Extended capability register, ECAP (0x10, 64 bits, read-only).

use bitfield_struct::bitfield;

/// Extended capability register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Ecap {
    /// C: the unit's accesses to root, context, PASID and interrupt tables are coherent with processor caches.
    pub c: bool,
    /// QI: queued invalidation.
    pub qi: bool,
    /// DT: device-TLBs.
    pub dt: bool,
    /// IR: interrupt remapping.
    pub ir: bool,
    /// EIM: 32-bit APIC ids.
    pub eim: bool,
    __: bool,
    /// PT: pass-through.
    pub pt: bool,
    /// SC: snoop control.
    pub sc: bool,
    /// IRO: offset of the IOTLB registers, in units of 16 bytes.
    #[bits(10)]
    pub iro: u16,
    #[bits(2)]
    __: u8,
    /// MHMV: largest index mask of an interrupt entry invalidation.
    #[bits(4)]
    pub mhmv: u8,
    __: bool,
    /// MTS: memory types in first-stage entries.
    pub mts: bool,
    /// NEST: nested translation.
    pub nest: bool,
    #[bits(2)]
    __: u8,
    /// PRS: page requests.
    pub prs: bool,
    /// ERS: execute requests.
    pub ers: bool,
    /// SRS: supervisor requests.
    pub srs: bool,
    __: bool,
    /// NWFS: the no-write flag of translation requests.
    pub nwfs: bool,
    /// EAFS: extended accessed flag.
    pub eafs: bool,
    /// PSS: PASID width in bits, minus 1.
    #[bits(5)]
    pub pss: u8,
    /// PASID: requests with PASID.
    pub pasid: bool,
    /// DIT: device-TLB descriptors name the physical function.
    pub dit: bool,
    /// PDS: page request drain in wait descriptors.
    pub pds: bool,
    /// SMTS: scalable mode.
    pub smts: bool,
    /// VCS: virtual commands.
    pub vcs: bool,
    /// SSADS: second-stage accessed and dirty bits.
    pub ssads: bool,
    /// SSTS: second-stage translation in scalable mode.
    pub ssts: bool,
    /// FSTS: first-stage translation in scalable mode.
    pub fsts: bool,
    /// SMPWC: scalable-mode page walks are coherent.
    pub smpwc: bool,
    /// RPS: the RID_PASID field is honoured.
    pub rps: bool,
    #[bits(2)]
    __: u8,
    /// ADMS: abort-DMA mode.
    pub adms: bool,
    /// RPRIVS: the RID_PRIV field is honoured.
    pub rprivs: bool,
    #[bits(10)]
    __: u16,
}
