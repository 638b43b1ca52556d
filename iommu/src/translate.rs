// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rules of DMA remapping that need no table: which requests are looked at, and what becomes of a page that a walk
//! found. Pure functions; the order in which they apply is [`crate::translator`]'s.

pub mod ats;
pub mod context;
pub mod paging;
pub mod pasid;
pub mod plain;
pub mod rights;
pub mod scalable;

use crate::address::Iova;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::request::{Perms, Request, Translation};
use crate::translator::TableMode;
use crate::walk::Page;
use vm_memory::GuestAddress;

/// First and last address of the interrupt range.
pub(crate) const INTERRUPT_RANGE: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// A request is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Why.
    pub reason: FaultReason,
    /// Whether the fault is recorded.
    pub record: bool,
}

impl Blocked {
    /// A fault that is recorded whatever an entry says.
    #[must_use]
    pub const fn always(reason: FaultReason) -> Self {
        Self {
            reason,
            record: true,
        }
    }

    /// A request that is aborted without a record.
    #[must_use]
    pub const fn never(reason: FaultReason) -> Self {
        Self {
            reason,
            record: false,
        }
    }

    /// A fault that an entry with fault processing disabled keeps out of the record.
    #[must_use]
    pub const fn qualified(reason: FaultReason, fault_processing_disabled: bool) -> Self {
        Self {
            reason,
            record: !fault_processing_disabled,
        }
    }
}

/// Whether the request is to the interrupt range: such a request is an interrupt or nothing, never translated. With a
/// PASID the range is like any other.
#[must_use]
pub const fn is_to_interrupt_range(request: &Request) -> bool {
    request.pasid.is_none() && in_interrupt_range(request.address)
}

/// Whether the address is where interrupt requests go.
#[must_use]
pub const fn in_interrupt_range(address: Iova) -> bool {
    INTERRUPT_RANGE.0 <= address.0 && address.0 <= INTERRUPT_RANGE.1
}

/// Whether the outcome of an earlier translation request may be used as it is, once the source may send such requests.
///
/// # Errors
/// The address is none that a translation leads to; `beyond` and `in_range` name that.
pub fn check_translated(
    capabilities: &Capabilities,
    address: Iova,
    beyond: FaultReason,
    in_range: FaultReason,
) -> Result<Translation, FaultReason> {
    if !capabilities.is_host_address(GuestAddress(address.0)) {
        return Err(beyond);
    }
    if in_interrupt_range(address) {
        return Err(in_range);
    }
    let limit = 1 << capabilities.host_address_width();
    Ok(identity(address, Some(limit)))
}

/// Checks the table mode, before any table is read.
///
/// # Errors
/// The unit does not offer the mode, the mode aborts every request, or the request has a PASID in legacy mode.
pub fn check_mode(
    capabilities: &Capabilities,
    mode: TableMode,
    request: &Request,
) -> Result<(), Blocked> {
    if !capabilities.table_mode(mode) {
        return Err(Blocked::always(FaultReason::TableModeInvalid));
    }
    match mode {
        TableMode::Abort => Err(Blocked::never(FaultReason::Aborted)),
        TableMode::Legacy if request.pasid.is_some() => {
            Err(Blocked::always(FaultReason::PasidInLegacyMode))
        }
        _ => Ok(()),
    }
}

/// A request that passes unchanged. The answer stops short of the interrupt range and of `limit`, which lies beyond the
/// address.
#[must_use]
pub fn identity(address: Iova, limit: Option<u64>) -> Translation {
    let mut last = limit.map_or(u64::MAX, |limit| limit - 1);
    if address.0 < INTERRUPT_RANGE.0 {
        last = last.min(INTERRUPT_RANGE.0 - 1);
    }
    Translation {
        gpa: GuestAddress(address.0),
        len: (last - address.0).saturating_add(1),
        perms: Perms::READ_WRITE,
    }
}

/// The answer for a request into `page`, which has these rights to it.
#[must_use]
pub const fn answer(page: Page, address: Iova, perms: Perms) -> Translation {
    Translation {
        gpa: page.translate(address.0),
        len: page.len_from(address),
        perms,
    }
}
