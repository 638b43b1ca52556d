// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rules of DMA remapping that need no table: which requests are looked at, and what becomes of a page that a walk
//! found. Pure functions; the order in which they apply is [`crate::translator`]'s.

pub mod context;

use crate::address::Iova;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::request::{Access, Perms, Request, Translation};
use crate::translator::TableMode;
use crate::walk::Page;
use crate::walk::second_stage::WalkError;
use vm_memory::GuestAddress;

/// First and last address of the interrupt range.
const INTERRUPT_RANGE: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

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

/// Checks the table mode, before any table is read.
///
/// # Errors
/// The unit does not offer the mode, or the request has a PASID in legacy mode.
pub fn check_mode(
    capabilities: &Capabilities,
    mode: TableMode,
    request: &Request,
) -> Result<(), Blocked> {
    if mode != TableMode::Legacy || !capabilities.table_mode(mode) {
        return Err(Blocked::always(FaultReason::TableModeInvalid));
    }
    if request.pasid.is_some() {
        return Err(Blocked::always(FaultReason::PasidInLegacyMode));
    }
    Ok(())
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

/// Checks what a walk found before it is remembered.
///
/// # Errors
/// A right is missing, which comes first, or the page touches the interrupt range.
pub fn check_page(page: &Page, access: Access) -> Result<(), FaultReason> {
    check_rights(page.perms, access)?;
    if page.gpa.0 <= INTERRUPT_RANGE.1 && page.last().0 >= INTERRUPT_RANGE.0 {
        return Err(FaultReason::OutputInInterruptRange);
    }
    Ok(())
}

/// Checks the rights that a request needs.
///
/// # Errors
/// A right is missing; of two, the one to write is named.
pub const fn check_rights(perms: Perms, access: Access) -> Result<(), FaultReason> {
    if access.writes() && !perms.write {
        return Err(FaultReason::NoWrite);
    }
    if access.reads() && !perms.read {
        return Err(FaultReason::NoRead);
    }
    Ok(())
}

/// The answer for a request into `page`.
#[must_use]
pub const fn answer(page: &Page, address: Iova) -> Translation {
    Translation {
        gpa: page.translate(address),
        len: page.len_from(address),
        perms: page.perms,
    }
}

/// What a failed walk is in legacy mode.
#[must_use]
pub fn legacy_reason(error: WalkError, access: Access) -> FaultReason {
    match error {
        WalkError::TopUnreadable => FaultReason::ContextInvalid,
        WalkError::Unreadable => FaultReason::TableUnreadable,
        WalkError::Reserved => FaultReason::TableReserved,
        WalkError::NotPresent if access.writes() => FaultReason::NoWrite,
        WalkError::NotPresent => FaultReason::NoRead,
    }
}
