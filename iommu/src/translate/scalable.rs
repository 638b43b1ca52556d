// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a source id to its context in scalable mode: the half of the root entry, the context entry, and which PASID a
//! request is for.
//!
//! In each entry presence comes before reserved bits, and those before contradictions.

use super::Blocked;
use super::context::Found;
use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::ids::{Pasid, SourceId};
use crate::memory::{PhysMem, load_wide_entry};
use crate::request::AddressType;
use crate::spec::scalable_context::{ENTRY_WORDS, ScalableContextHigh, ScalableContextLow};
use crate::spec::scalable_root::{ScalableRootWord, UPPER_DEVFN};
use crate::spec::{scalable_context, scalable_root};
use vm_memory::GuestAddress;

/// A valid context entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalableContext {
    /// The PASID directory.
    pub directory: Gpa,
    /// Bits of the PASIDs that the directory has room for: 13 to 20.
    pub pasid_bits: u32,
    /// Qualified faults are not recorded (FPD).
    pub fault_processing_disabled: bool,
    /// Translation requests and translated requests are allowed (DTE).
    pub device_tlb: bool,
    /// Requests with PASID are allowed (PASIDE).
    pub pasid: bool,
    /// Page requests are allowed (PRE).
    pub page_requests: bool,
    /// What requests without PASID are treated as.
    pub rid_pasid: Pasid,
    /// They have supervisor privilege (RID_PRIV).
    pub rid_privilege: bool,
}

impl ScalableContext {
    /// Checks whether requests of this address type may be sent at all.
    ///
    /// # Errors
    /// The device may not cache translations.
    pub fn admit(&self, address_type: AddressType) -> Result<(), Blocked> {
        if address_type != AddressType::Untranslated && !self.device_tlb {
            return Err(self.blocked(FaultReason::DeviceTlbDisabled));
        }
        Ok(())
    }

    /// Checks whether a page request with this PASID may be sent.
    ///
    /// # Errors
    /// The device may not ask for pages, or not for this PASID.
    pub fn admit_page_request(
        &self,
        capabilities: &Capabilities,
        pasid: Option<Pasid>,
    ) -> Result<(), Blocked> {
        if !self.page_requests {
            return Err(self.blocked(FaultReason::PageRequestDisabled));
        }
        self.pasid_of(capabilities, pasid).map(drop)
    }

    /// The PASID whose entry a request with `pasid` or without goes through.
    ///
    /// # Errors
    /// The context does not allow it or has no room for it, or a request has a wider one than the unit supports (PSS), which
    /// the PASID for those without may be.
    pub fn pasid_of(
        &self,
        capabilities: &Capabilities,
        pasid: Option<Pasid>,
    ) -> Result<Pasid, Blocked> {
        let fits = |pasid: Pasid| pasid.get() >> self.pasid_bits == 0;
        let supported = |pasid: Pasid| pasid.get() >> capabilities.pasid_bits() == 0;
        match pasid {
            Some(_) if !self.pasid => Err(self.blocked(FaultReason::PasidDisabled)),
            Some(pasid) if !fits(pasid) || !supported(pasid) => {
                Err(self.blocked(FaultReason::PasidBeyondDirectory))
            }
            Some(pasid) => Ok(pasid),
            None if !fits(self.rid_pasid) => {
                Err(self.blocked(FaultReason::RidPasidBeyondDirectory))
            }
            None => Ok(self.rid_pasid),
        }
    }

    /// A fault that the entry's FPD keeps out of the record.
    #[must_use]
    pub const fn blocked(&self, reason: FaultReason) -> Blocked {
        Blocked::qualified(reason, self.fault_processing_disabled)
    }
}

/// Reads the context of `source` below the root table at `root`.
pub fn lookup<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    root: Gpa,
    source: SourceId,
) -> Found<ScalableContext> {
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
    let half = u64::from(source.devfn() >= UPPER_DEVFN);
    let address = table.0 | (u64::from(source.bus()) * scalable_root::ENTRY_SIZE) | (half * 8);
    let word = memory
        .load_u64(GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::ScalableRootUnreadable))?;
    let word = ScalableRootWord::from_bits(word);
    if !word.present() {
        return Err(Blocked::always(FaultReason::ScalableRootNotPresent));
    }
    if word.reserved() != 0 || !capabilities.is_host_address(word.table()) {
        return Err(Blocked::always(FaultReason::ScalableRootReserved));
    }
    Ok(word.table())
}

fn read_context<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    table: Gpa,
    source: SourceId,
) -> Result<ScalableContext, Blocked> {
    let index = u64::from(source.devfn() & (UPPER_DEVFN - 1));
    let address = table.0 | (index * scalable_context::ENTRY_SIZE);
    let words = load_wide_entry(memory, GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::ScalableContextUnreadable))?;
    let low = ScalableContextLow::from_bits(words[0]);
    let fpd = low.fault_processing_disabled();
    if !low.present() {
        let reason = FaultReason::ScalableContextNotPresent;
        return Err(Blocked::qualified(reason, fpd));
    }
    decode(capabilities, &words).map_err(|reason| Blocked::qualified(reason, fpd))
}

fn decode(
    capabilities: &Capabilities,
    words: &[u64; ENTRY_WORDS],
) -> Result<ScalableContext, FaultReason> {
    let low = ScalableContextLow::from_bits(words[0]);
    let high = ScalableContextHigh::from_bits(words[1]);
    let reserved = low.reserved() != 0
        || high.reserved() != 0
        || words[2..] != [0; 2]
        || !capabilities.is_host_address(low.directory())
        || low.device_tlb_enable() && !capabilities.device_tlb()
        || low.pasid_enable() && !capabilities.pasids()
        || low.page_request_enable() && !capabilities.page_requests()
        || high.rid_privilege() && !capabilities.rid_privilege();
    if reserved {
        return Err(FaultReason::ScalableContextReserved);
    }
    // Pages are asked for by devices that cache translations.
    if low.page_request_enable() && !low.device_tlb_enable() {
        return Err(FaultReason::ScalableContextInvalid);
    }
    let rid_pasid = if capabilities.rid_pasid() {
        high.rid_pasid()
    } else {
        0
    };
    Ok(ScalableContext {
        directory: low.directory(),
        pasid_bits: u32::from(low.directory_size()) + 13,
        fault_processing_disabled: low.fault_processing_disabled(),
        device_tlb: low.device_tlb_enable(),
        pasid: low.pasid_enable(),
        page_requests: low.page_request_enable(),
        rid_pasid: Pasid::new(rid_pasid).ok_or(FaultReason::RidPasidBeyondDirectory)?,
        rid_privilege: high.rid_privilege(),
    })
}
