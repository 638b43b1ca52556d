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
    /// The posted-interrupt descriptor could not be read or changed.
    PostedDescriptorUnreadable = 0x27,
    /// Reserved bits are set in the posted-interrupt descriptor.
    PostedDescriptorReserved = 0x28,
    /// A request without PASID to the interrupt range that is not a valid interrupt request.
    NotAnInterruptRequest = 0x29,
    /// RTA.1: the table translation mode is not allowed.
    TableModeInvalid = 0x30,
    /// RTA.2: a request with PASID in legacy mode.
    PasidInLegacyMode = 0x31,
    /// RTA.3: a page request in legacy mode.
    PageRequestInLegacyMode = 0x32,
    /// RTA.4: a request while every request is aborted. Never recorded.
    Aborted = 0x33,
    /// SRT.1: the scalable-mode root table could not be read.
    ScalableRootUnreadable = 0x38,
    /// SRT.2: the half of the scalable-mode root entry is not present.
    ScalableRootNotPresent = 0x39,
    /// SRT.3: reserved bits are set in the present half of the scalable-mode root entry.
    ScalableRootReserved = 0x3a,
    /// SCT.1: the scalable-mode context table could not be read.
    ScalableContextUnreadable = 0x40,
    /// SCT.2: the scalable-mode context entry is not present.
    ScalableContextNotPresent = 0x41,
    /// SCT.3: reserved bits are set in a present scalable-mode context entry.
    ScalableContextReserved = 0x42,
    /// SCT.4: a present scalable-mode context entry contradicts itself.
    ScalableContextInvalid = 0x43,
    /// SCT.5: a translation request or translated request where the context entry does not allow it.
    DeviceTlbDisabled = 0x44,
    /// SCT.6: a request with PASID where the context entry does not allow it.
    PasidDisabled = 0x45,
    /// SCT.7: the PASID lies beyond the directory, or beyond what the unit supports.
    PasidBeyondDirectory = 0x46,
    /// SCT.8: a page request where the context entry does not allow it.
    PageRequestDisabled = 0x47,
    /// SCT.9: the PASID for requests without one lies beyond the directory.
    RidPasidBeyondDirectory = 0x48,
    /// SPD.1: the PASID directory could not be read.
    PasidDirectoryUnreadable = 0x50,
    /// SPD.2: the PASID directory entry is not present.
    PasidDirectoryNotPresent = 0x51,
    /// SPD.3: reserved bits are set in a present PASID directory entry.
    PasidDirectoryReserved = 0x52,
    /// SPT.1: the PASID table could not be read.
    PasidTableUnreadable = 0x58,
    /// SPT.2: the PASID entry is not present.
    PasidNotPresent = 0x59,
    /// SPT.3: reserved bits are set in a present PASID entry.
    PasidReserved = 0x5a,
    /// SPT.4: a present PASID entry is programmed with an unsupported type, width or number of levels.
    PasidInvalid = 0x5b,
    /// SPT.5: an execute request where the PASID entry does not allow it.
    ExecuteDisabled = 0x5c,
    /// SPT.6: a supervisor request where the PASID entry does not allow it.
    SupervisorDisabled = 0x5d,
    /// SFS.1: a first-stage table below the top could not be read.
    FirstStageUnreadable = 0x70,
    /// SFS.2: a first-stage entry is not present.
    FirstStageNotPresent = 0x71,
    /// SFS.3: reserved bits are set in a present first-stage entry.
    FirstStageReserved = 0x72,
    /// SFS.4: the top first-stage table could not be read.
    FirstStageTopUnreadable = 0x73,
    /// SFS.5: nested, and the address of a first-stage entry lies beyond the second stage.
    FirstStageTableBeyondWidth = 0x74,
    /// SFS.6: nested, and the second stage gives no right to read the top first-stage table.
    FirstStageTopNoRead = 0x75,
    /// SFS.7: nested, and the second stage gives no right to read a lower first-stage table.
    FirstStageTableNoRead = 0x76,
    /// SFS.8: nested, and the second stage gives no right to write the accessed and dirty bits of a first-stage entry.
    FirstStageTableNoWrite = 0x77,
    /// SSS.1: a second-stage table below the top could not be read.
    SecondStageUnreadable = 0x78,
    /// SSS.2: a second-stage entry has no right at all.
    SecondStageNotPresent = 0x79,
    /// SSS.3: reserved bits are set in a present second-stage entry.
    SecondStageReserved = 0x7a,
    /// SSS.4: the top second-stage table could not be read.
    SecondStageTopUnreadable = 0x7b,
    /// SSS.5: accessed or dirty bits of the second stage are to change, but walks are not coherent.
    SecondStageUpdateNotSnooped = 0x7c,
    /// SSS.6: accessed or dirty bits of the second stage could not be changed.
    SecondStageUpdateFailed = 0x7d,
    /// SGN.1: the address is not canonical.
    NotCanonical = 0x80,
    /// SGN.2: a request with user privilege meets a supervisor entry.
    UserBlocked = 0x81,
    /// SGN.3: an execute request without the right to execute.
    NoExecute = 0x82,
    /// SGN.4: the address lies beyond the second stage, or beyond what passes through.
    ScalableBeyondWidth = 0x83,
    /// SGN.5: nested, and the first stage's output lies beyond the second stage.
    NestedBeyondWidth = 0x84,
    /// SGN.6: a write or atomic without the right to write.
    ScalableNoWrite = 0x85,
    /// SGN.7: a read without the right to read.
    ScalableNoRead = 0x86,
    /// SGN.8: the translated address lies in the interrupt range.
    ScalableOutputInInterruptRange = 0x87,
    /// SFS.9: accessed or dirty bits of the first stage are to change, but walks are not coherent.
    FirstStageUpdateNotSnooped = 0x90,
    /// SFS.10: accessed or dirty bits of the first stage could not be changed.
    FirstStageUpdateFailed = 0x91,
}

impl FaultReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 73] = [
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
        Self::PostedDescriptorUnreadable,
        Self::PostedDescriptorReserved,
        Self::NotAnInterruptRequest,
        Self::TableModeInvalid,
        Self::PasidInLegacyMode,
        Self::PageRequestInLegacyMode,
        Self::Aborted,
        Self::ScalableRootUnreadable,
        Self::ScalableRootNotPresent,
        Self::ScalableRootReserved,
        Self::ScalableContextUnreadable,
        Self::ScalableContextNotPresent,
        Self::ScalableContextReserved,
        Self::ScalableContextInvalid,
        Self::DeviceTlbDisabled,
        Self::PasidDisabled,
        Self::PasidBeyondDirectory,
        Self::PageRequestDisabled,
        Self::RidPasidBeyondDirectory,
        Self::PasidDirectoryUnreadable,
        Self::PasidDirectoryNotPresent,
        Self::PasidDirectoryReserved,
        Self::PasidTableUnreadable,
        Self::PasidNotPresent,
        Self::PasidReserved,
        Self::PasidInvalid,
        Self::ExecuteDisabled,
        Self::SupervisorDisabled,
        Self::FirstStageUnreadable,
        Self::FirstStageNotPresent,
        Self::FirstStageReserved,
        Self::FirstStageTopUnreadable,
        Self::FirstStageTableBeyondWidth,
        Self::FirstStageTopNoRead,
        Self::FirstStageTableNoRead,
        Self::FirstStageTableNoWrite,
        Self::SecondStageUnreadable,
        Self::SecondStageNotPresent,
        Self::SecondStageReserved,
        Self::SecondStageTopUnreadable,
        Self::SecondStageUpdateNotSnooped,
        Self::SecondStageUpdateFailed,
        Self::NotCanonical,
        Self::UserBlocked,
        Self::NoExecute,
        Self::ScalableBeyondWidth,
        Self::NestedBeyondWidth,
        Self::ScalableNoWrite,
        Self::ScalableNoRead,
        Self::ScalableOutputInInterruptRange,
        Self::FirstStageUpdateNotSnooped,
        Self::FirstStageUpdateFailed,
    ];

    /// The code that the fault record shows.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What was blocked: a DMA request, a page request or an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSubject {
    /// A DMA request; the record tells its page, type, PASID and address type.
    Dma(Request),
    /// A page request; the record tells what that of a DMA request does, and that it is one.
    PageRequest(Request),
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
        let ranges = [
            0x1..=0xe,
            0x20..=0x29,
            0x30..=0x33,
            0x38..=0x3a,
            0x40..=0x48,
            0x50..=0x52,
            0x58..=0x5d,
            0x70..=0x7d,
            0x80..=0x87,
            0x90..=0x91,
        ];
        assert_eq!(codes, ranges.into_iter().flatten().collect::<Vec<u8>>());
    }
}
