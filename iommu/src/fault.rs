// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults of requests: mistakes of the guest, which become fault records and never errors of ours.

use crate::ids::SourceId;
use crate::request::Request;

/// Why a request was blocked (fault record bits 103:96). Names are the specification's condition ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FaultReason {
    /// LRT.2: the root entry is not present.
    RootNotPresent = 0x1,
    /// LCT.2: the context entry is not present.
    ContextNotPresent = 0x2,
    /// LCT.4: the context entry is present but programmed with an unsupported width or type, or its table is unreadable.
    ContextInvalid = 0x3,
    /// LGN.1: the address is beyond what the width or the unit allows.
    BeyondWidth = 0x4,
    /// LGN.2: a write or atomic without the right to write.
    NoWrite = 0x5,
    /// LGN.3: a read without the right to read.
    NoRead = 0x6,
    /// LSS.1: a table below the top could not be read.
    TableUnreadable = 0x7,
    /// LRT.1: the root table could not be read.
    RootUnreadable = 0x8,
    /// LCT.1: the context table could not be read.
    ContextUnreadable = 0x9,
    /// LRT.3: reserved bits are set in a present root entry.
    RootReserved = 0xa,
    /// LCT.3: reserved bits are set in a present context entry.
    ContextReserved = 0xb,
    /// LSS.2: reserved bits are set in a present paging entry.
    TableReserved = 0xc,
    /// LCT.5: a translation request or translated request where the translation type does not allow it.
    AtsBlocked = 0xd,
    /// LGN.4: the translated address lies in the interrupt range.
    OutputInInterruptRange = 0xe,
    /// Reserved fields are set in a remappable interrupt request.
    InterruptRequestReserved = 0x20,
    /// The interrupt index lies beyond the table.
    InterruptIndexBeyondTable = 0x21,
    /// The IRTE is not present.
    IrteNotPresent = 0x22,
    /// The IRTE could not be read.
    IrteUnreadable = 0x23,
    /// Reserved bits are set in a present IRTE.
    IrteReserved = 0x24,
    /// A compatibility-format interrupt while those are blocked.
    CompatibilityBlocked = 0x25,
    /// The source id does not pass the IRTE's validation.
    SourceValidation = 0x26,
    /// A request without PASID to the interrupt range that is not a valid interrupt request.
    NotAnInterruptRequest = 0x29,
    /// RTA.1: the table translation mode is not allowed.
    TableModeInvalid = 0x30,
    /// RTA.2: a request with PASID in legacy mode.
    PasidInLegacyMode = 0x31,
}

impl FaultReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 24] = [
        Self::RootNotPresent,
        Self::ContextNotPresent,
        Self::ContextInvalid,
        Self::BeyondWidth,
        Self::NoWrite,
        Self::NoRead,
        Self::TableUnreadable,
        Self::RootUnreadable,
        Self::ContextUnreadable,
        Self::RootReserved,
        Self::ContextReserved,
        Self::TableReserved,
        Self::AtsBlocked,
        Self::OutputInInterruptRange,
        Self::InterruptRequestReserved,
        Self::InterruptIndexBeyondTable,
        Self::IrteNotPresent,
        Self::IrteUnreadable,
        Self::IrteReserved,
        Self::CompatibilityBlocked,
        Self::SourceValidation,
        Self::NotAnInterruptRequest,
        Self::TableModeInvalid,
        Self::PasidInLegacyMode,
    ];

    /// The code that the fault record shows.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What was blocked: a DMA request or an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSubject {
    /// A DMA request; the record tells its page, type, PASID and address type.
    Dma(Request),
    /// An interrupt request; the record tells its source and index only.
    Interrupt {
        /// Who sent it.
        source: SourceId,
        /// The interrupt index, 0 where the request has none.
        index: u16,
    },
}

/// A blocked request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// What.
    pub subject: FaultSubject,
    /// Whether it is to be recorded. A qualified fault of an entry with fault processing disabled (FPD) is not.
    pub record: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_ascend_and_are_listed_once() {
        let codes: Vec<u8> = FaultReason::ALL
            .iter()
            .map(|reason| reason.code())
            .collect();
        assert!(codes.is_sorted_by(|a, b| a < b));
        assert_eq!(codes[..14], (0x1..=0xe).collect::<Vec<u8>>());
        assert_eq!(
            codes[14..],
            [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x29, 0x30, 0x31]
        );
    }
}
