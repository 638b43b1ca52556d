// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a source id to its context in legacy mode: root entry, context entry, and what the context makes of a request.
//!
//! In each entry presence comes before reserved bits.

use super::Blocked;
use super::paging::Stages;
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::ids::{DomainId, SourceId};
use crate::memory::{PhysMem, load_entry};
use crate::request::{AddressType, Request};
use crate::spec::context::{
    ContextHigh, ContextLow, TYPE_ALL, TYPE_PASS_THROUGH, TYPE_UNTRANSLATED,
};
use crate::spec::root::RootEntry;
use crate::spec::{context, root};
use crate::walk::second_stage::SecondStage;
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// A valid context entry. Two words, as which it is also cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// All but the table.
    pub word: ContextWord,
    /// The second-stage table, if requests go through one.
    pub table: Gpa,
}

/// What a context entry says beside the address of its table.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextWord {
    domain: u16,
    /// Qualified faults are not recorded (FPD).
    pub fault_processing_disabled: bool,
    /// Translation and translated requests are allowed (TT = 01).
    pub ats: bool,
    /// Untranslated requests pass unchanged.
    pub pass_through: bool,
    /// Levels of the table otherwise.
    #[bits(5)]
    levels: u32,
    /// Untranslated requests must be below 2^`width`.
    pub width: u8,
    __: u32,
}

impl ContextWord {
    /// The tag of everything that is cached through the entry.
    #[must_use]
    pub const fn domain_id(self) -> DomainId {
        DomainId(self.domain())
    }
}

/// Where a context sends untranslated requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// They pass unchanged.
    PassThrough,
    /// Through these tables.
    SecondStage(SecondStage),
}

impl Context {
    /// Through which paging structures untranslated requests go; `None` when they pass unchanged.
    #[must_use]
    #[inline]
    pub const fn stages(&self) -> Option<Stages> {
        match self.route() {
            Route::PassThrough => None,
            Route::SecondStage(stage) => Some(Stages::Second(stage)),
        }
    }

    /// What becomes of untranslated requests.
    #[must_use]
    pub const fn route(&self) -> Route {
        if self.word.pass_through() {
            Route::PassThrough
        } else {
            Route::SecondStage(SecondStage::plain(self.table, self.word.levels()))
        }
    }

    /// A fault that the entry's FPD keeps out of the record.
    #[must_use]
    pub const fn blocked(&self, reason: FaultReason) -> Blocked {
        Blocked::qualified(reason, self.word.fault_processing_disabled())
    }

    /// Checks whether the context allows the request at all.
    ///
    /// # Errors
    /// The address is too wide or the address type is not allowed.
    pub fn admit(&self, request: &Request) -> Result<(), Blocked> {
        if request.address_type != AddressType::Untranslated && !self.word.ats() {
            return Err(self.blocked(FaultReason::AtsBlocked));
        }
        if request.address_type != AddressType::Translated
            && request.address.0 >> self.word.width() != 0
        {
            return Err(self.blocked(FaultReason::BeyondWidth));
        }
        Ok(())
    }
}

/// An entry read from memory and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The entry, or why there is none.
    pub entry: Result<T, Blocked>,
    /// Entries read.
    pub reads: u32,
}

impl<T> Found<T> {
    /// What `read` finds in the table that the root entry names; a root entry that is blocked is all there is.
    pub(super) fn below_root(
        table: Result<Gpa, Blocked>,
        read: impl FnOnce(Gpa) -> Result<T, Blocked>,
    ) -> Self {
        let reads = if table.is_ok() { 2 } else { 1 };
        Self {
            entry: table.and_then(read),
            reads,
        }
    }
}

/// Reads the context of `source` below the root table at `root`.
pub fn lookup<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    root: Gpa,
    source: SourceId,
) -> Found<Context> {
    let table = read_root(memory, capabilities, root, source);
    Found::below_root(table, |table| {
        read_context(memory, capabilities, table, source)
    })
}

fn read_root<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    table: Gpa,
    source: SourceId,
) -> Result<Gpa, Blocked> {
    let address = table.0 | (u64::from(source.bus()) * root::ENTRY_SIZE);
    let [low, high] = load_entry(memory, GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::RootUnreadable))?;
    let entry = RootEntry::from_bits(low);
    if !entry.present() {
        return Err(Blocked::always(FaultReason::RootNotPresent));
    }
    if high != 0 || entry.reserved() != 0 || !capabilities.is_host_address(entry.table()) {
        return Err(Blocked::always(FaultReason::RootReserved));
    }
    Ok(entry.table())
}

fn read_context<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    table: Gpa,
    source: SourceId,
) -> Result<Context, Blocked> {
    let address = table.0 | (u64::from(source.devfn()) * context::ENTRY_SIZE);
    let [low, high] = load_entry(memory, GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::ContextUnreadable))?;
    let (low, high) = (ContextLow::from_bits(low), ContextHigh::from_bits(high));
    let fpd = low.fault_processing_disabled();
    if !low.present() {
        return Err(Blocked::qualified(FaultReason::ContextNotPresent, fpd));
    }
    decode(capabilities, low, high).map_err(|reason| Blocked::qualified(reason, fpd))
}

fn decode(
    capabilities: &Capabilities,
    low: ContextLow,
    high: ContextHigh,
) -> Result<Context, FaultReason> {
    let domain = DomainId(high.domain());
    let pass_through = low.translation_type() == TYPE_PASS_THROUGH;
    let reserved = low.reserved() != 0 || high.reserved_0() != 0 || high.reserved_1() != 0;
    // Pass-through ignores the table pointer.
    let bad_table = !pass_through && !capabilities.is_host_address(low.table());
    if reserved || bad_table || !capabilities.is_domain_id(domain) {
        return Err(FaultReason::ContextReserved);
    }
    let levels = capabilities
        .second_stage_levels(high.address_width())
        .ok_or(FaultReason::ContextInvalid)?;
    let word = ContextWord::new()
        .with_domain(domain.0)
        .with_fault_processing_disabled(low.fault_processing_disabled())
        .with_ats(low.translation_type() == TYPE_ALL);
    let through = SecondStage::plain(low.table(), levels);
    let (word, width) = match low.translation_type() {
        TYPE_PASS_THROUGH if capabilities.pass_through() => {
            if high.address_width() != capabilities.largest_aw() {
                return Err(FaultReason::BeyondWidth);
            }
            (word.with_pass_through(true), 12 + 9 * levels)
        }
        TYPE_UNTRANSLATED => (word.with_levels(levels), through.width(capabilities)),
        TYPE_ALL if capabilities.device_tlb() => {
            (word.with_levels(levels), through.width(capabilities))
        }
        _ => return Err(FaultReason::ContextInvalid),
    };
    let width = u8::try_from(width).map_err(|_| FaultReason::ContextInvalid)?;
    Ok(Context {
        word: word.with_width(width),
        table: low.table(),
    })
}
