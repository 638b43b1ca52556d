// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation requests, whichever register or descriptor they came by.

use crate::address::IovaRange;
use crate::ids::{DomainId, Pasid, SourceId};

/// Which function-number bits of the source id a device-selective context invalidation ignores (the FM field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionMask {
    /// The source id must match exactly.
    Exact,
    /// Function bit 2 is ignored.
    Bit2,
    /// Function bits 2:1 are ignored.
    Bits21,
    /// All three function bits are ignored.
    Bits210,
}

impl FunctionMask {
    /// The mask that the low two bits of `field` encode.
    #[must_use]
    pub const fn from_field(field: u8) -> Self {
        match field & 0b11 {
            0 => Self::Exact,
            1 => Self::Bit2,
            2 => Self::Bits21,
            _ => Self::Bits210,
        }
    }

    /// Whether `source` is meant by an invalidation that names `named`.
    #[must_use]
    pub const fn matches(self, named: SourceId, source: SourceId) -> bool {
        let ignored: u16 = match self {
            Self::Exact => 0,
            Self::Bit2 => 0b100,
            Self::Bits21 => 0b110,
            Self::Bits210 => 0b111,
        };
        named.0 & !ignored == source.0 & !ignored
    }

    /// The functions that are meant by an invalidation that names `named`.
    pub fn functions(self, named: SourceId) -> impl Iterator<Item = SourceId> {
        (0..8)
            .map(move |function| SourceId(named.0 & !0b111 | function))
            .filter(move |candidate| self.matches(named, *candidate))
    }
}

/// Which of the address spaces of a device are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceSpaces {
    /// That of requests without PASID.
    WithoutPasid,
    /// That of one PASID.
    Pasid(Pasid),
    /// Those of all PASIDs (the global flag).
    AllPasids,
}

/// A device is to drop translations that it has cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceTlbInvalidation {
    /// The device.
    pub source: SourceId,
    /// Which of its address spaces.
    pub spaces: DeviceSpaces,
    /// Which addresses, naturally aligned.
    pub range: IovaRange,
}

/// One invalidation: what software says may have changed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// Every context entry.
    ContextGlobal,
    /// The context entries of one domain.
    ContextDomain(DomainId),
    /// The context entries of one device, or of the functions that `mask` adds.
    ContextDevice {
        /// The domain the entry held before; caching mode sends 0 for an entry that was not present.
        domain: DomainId,
        /// The device.
        source: SourceId,
        /// Which of its functions.
        mask: FunctionMask,
    },
    /// Every cached translation.
    IotlbGlobal,
    /// The translations of one domain.
    IotlbDomain(DomainId),
    /// The translations of one domain that touch a range.
    IotlbPages {
        /// The domain.
        domain: DomainId,
        /// The range, naturally aligned.
        range: IovaRange,
        /// Invalidation hint: only leaf entries changed, paging-structure caches may be kept.
        leaf_only: bool,
    },
    /// Every PASID entry, and the PASID directories with them.
    PasidCacheGlobal,
    /// The PASID entries of one domain.
    PasidCacheDomain(DomainId),
    /// The entry of one PASID of one domain.
    PasidCacheOne {
        /// The domain the entry held before; caching mode sends 0 for an entry that was not present.
        domain: DomainId,
        /// The PASID.
        pasid: Pasid,
    },
    /// The translations of one PASID of one domain.
    PasidIotlbAll {
        /// The domain.
        domain: DomainId,
        /// The PASID.
        pasid: Pasid,
    },
    /// The first-stage and nested translations of one PASID of one domain that touch a range.
    PasidIotlbPages {
        /// The domain.
        domain: DomainId,
        /// The PASID.
        pasid: Pasid,
        /// The range, naturally aligned.
        range: IovaRange,
        /// Invalidation hint: only leaf entries changed, paging-structure caches may be kept.
        leaf_only: bool,
    },
    /// What one device has cached itself. The unit's own caches keep what they have.
    DeviceTlb(DeviceTlbInvalidation),
    /// Every interrupt remapping table entry.
    InterruptGlobal,
    /// A naturally aligned block of interrupt remapping table entries.
    InterruptIndex {
        /// The first index.
        first: u16,
        /// How many entries, a power of two, at most 65536.
        count: u32,
    },
}

impl Invalidation {
    /// Whether interrupt remapping table entries are named, rather than what DMA goes through.
    #[must_use]
    pub const fn names_interrupts(&self) -> bool {
        matches!(self, Self::InterruptGlobal | Self::InterruptIndex { .. })
    }

    /// Whether a device is to drop what it has cached, rather than the unit.
    #[must_use]
    pub const fn names_device(&self) -> bool {
        matches!(self, Self::DeviceTlb(_))
    }
}
