// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The standard tables of scalable mode.

use super::*;
use crate::capabilities::{AddressWidth, PasidBits, ScalableOptions, Stages};
use crate::ids::Pasid;

mod accessed_dirty;
mod ats;
mod caching;
mod lookup;
mod model;
mod programs;
mod properties;
mod walks;

/// Second stage, domain 5: what requests without PASID go through too.
pub(super) const SECOND: u32 = 0;
/// First stage of four levels, domain 6: neither execution nor supervisor privilege.
pub(super) const FIRST: u32 = 1;
/// Both stages, domain 7.
pub(super) const NESTED: u32 = 2;
/// Unchanged, domain 8.
pub(super) const PASS: u32 = 3;
/// The tables of [`FIRST`] with execution, supervisor privilege and execute-disable, domain 9.
pub(super) const OPEN: u32 = 4;
/// First stage of five levels, domain 10.
pub(super) const FIVE: u32 = 5;
/// Second stage with accessed and dirty bits, domain 11.
pub(super) const TRACKED: u32 = 6;

/// Everything that there is, with 57-bit IOVAs and 48-bit host addresses.
pub(super) fn full() -> Capabilities {
    Capabilities::scalable(&options()).unwrap()
}

pub(super) fn options() -> ScalableOptions {
    ScalableOptions {
        base: LegacyOptions {
            address_width: AddressWidth::Bits57,
            ..LegacyOptions::default()
        },
        stages: Stages::Both,
        nesting: true,
        pasid: Some(PasidBits::MAX),
        execute_requests: true,
        supervisor_requests: true,
        extended_accessed: true,
        without_first_stage_gigabyte_pages: false,
        device_tlb: true,
        no_write_flag: true,
        page_requests: true,
        dirty_tracking: true,
        abort_mode: true,
        posted_interrupts: false,
    }
}

impl Bench {
    /// The standard tables of scalable mode with these capabilities.
    pub(super) fn scalable_with(capabilities: Capabilities, sizes: CacheSizes) -> Self {
        let bench = Self::bare(capabilities, sizes);
        bench.set_mode(TableMode::Scalable);
        for (gpa, word) in WORDS {
            bench.memory.set(gpa, word);
        }
        bench
    }

    pub(super) fn scalable() -> Self {
        Self::scalable_with(full(), WITHOUT_TABLES)
    }

    pub(super) fn set_mode(&self, mode: TableMode) {
        self.translator.set_translation(Some(RootPointer {
            table: GuestAddress(0x1000),
            mode,
        }));
    }

    /// The outcome of a request of [`DEVICE`] with a PASID.
    pub(super) fn with_pasid(
        &self,
        pasid: u32,
        iova: u64,
        access: Access,
    ) -> Result<u64, (u8, bool)> {
        self.request(&with_pasid(pasid, iova, access))
    }
}

pub(super) fn with_pasid(pasid: u32, iova: u64, access: Access) -> Request {
    Request {
        pasid: Pasid::new(pasid),
        ..Request::untranslated(DEVICE, Iova(iova), access)
    }
}

/// The tables. Page 0x1000 → 0x9000 everywhere, with every right.
pub(super) const WORDS: [(u64, u64); 58] = [
    // Root entry of bus 0: both halves.
    (0x1000, 0x2001),
    (0x1008, 0x3001),
    // Context entries of 00:01.0 (with device-TLB, PASIDs and page requests), of 00:02.0 (RID_PASID 1), of 00:10.0 (the
    // first of the upper half).
    (0x2100, 0x401d),
    (0x2108, 0),
    (0x2200, 0x4001),
    (0x2208, 1),
    (0x3000, 0x4001),
    // PASID directory and PASID entries.
    (0x4000, 0x5001),
    (0x5000, 0x1_0089),
    (0x5008, 0x80_0005),
    (0x5040, 0x49),
    (0x5048, 0x80_0006),
    (0x5050, 0x2_0000),
    (0x5080, 0x1_00c9),
    (0x5088, 0x80_0007),
    (0x5090, 0x3_0000),
    (0x50c0, 0x109),
    (0x50c8, 0x80_0008),
    (0x5100, 0x49),
    (0x5108, 0x80_0009),
    (0x5110, 0x2_0023),
    (0x5140, 0x49),
    (0x5148, 0x80_000a),
    (0x5150, 0x6_0004),
    (0x5180, 0x7_0289),
    (0x5188, 0x80_000b),
    // Second stage: 0x1000 → 0x9000 (read-write), 0x2000 → 0xa000 (read), 0x3000 → 0xb000 (write), the pages of nested
    // tables at 0x30000 → 0x80000, 2 MiB at 0x20_0000, 1 GiB at 0x4000_0000.
    (0x1_0000, 0x1_1003),
    (0x1_1000, 0x1_2003),
    (0x1_1008, 0x8000_0083),
    (0x1_2000, 0x1_3003),
    (0x1_2008, 0x4000_0083),
    (0x1_3008, 0x9003),
    (0x1_3010, 0xa001),
    (0x1_3018, 0xb002),
    (0x1_3180, 0x8_0003),
    (0x1_3188, 0x8_1003),
    (0x1_3190, 0x8_2003),
    (0x1_3198, 0x8_3003),
    // First stage, accessed and dirty: 0x1000 → 0x9000, 0x2000 → 0xa000 (not writable), 0x3000 → 0xb000 (supervisor),
    // 0x4000 → 0xc000 (not executable), 2 MiB at 0x20_0000, 1 GiB at 0x4000_0000.
    (0x2_0000, 0x2_1027),
    (0x2_1000, 0x2_2027),
    (0x2_1008, 0x8000_00e7),
    (0x2_2000, 0x2_3027),
    (0x2_2008, 0x4000_00e7),
    (0x2_3008, 0x9067),
    (0x2_3010, 0xa065),
    (0x2_3018, 0xb063),
    (0x2_3020, 1 << 63 | 0xc067),
    // First stage of the nested PASID, in the second stage's pages: 0x1000 → 0x1000, 0x2000 → 0x2000, 2 MiB at 0x20_0000 → 0.
    (0x8_0000, 0x3_1027),
    (0x8_1000, 0x3_2027),
    (0x8_2000, 0x3_3027),
    (0x8_2008, 0xe7),
    (0x8_3008, 0x1067),
    (0x8_3010, 0x2067),
    // Fifth level of the first stage, above the four.
    (0x6_0000, 0x2_0027),
    // Second stage whose use is tracked: 0x1000 → 0x9000.
    (0x7_0000, 0x7_1003),
    (0x7_1000, 0x7_2003),
    (0x7_2000, 0x7_3003),
    (0x7_3008, 0x9003),
];
