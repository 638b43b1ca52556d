// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation requests, whichever register or descriptor they came by.

use crate::address::IovaRange;
use crate::ids::{DomainId, SourceId};

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
}
