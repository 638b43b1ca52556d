// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a PASID to how its requests are translated: directory entry, PASID entry, and what both make of a request.
//!
//! In each entry presence comes before reserved bits, and those before what is not supported.

use super::Blocked;
use super::context::Found;
use super::paging::Stages;
use super::rights::{Claim, Rules};
use super::scalable::ScalableContext;
use crate::capabilities::Capabilities;
use crate::fault::FaultReason;
use crate::ids::{DomainId, Pasid};
use crate::memory::{PhysMem, load_wide_entry};
use crate::spec::pasid_directory::{PasidDirectoryEntry, TABLE_BITS};
use crate::spec::pasid_entry::{
    ENTRY_WORDS, PasidEntryHigh, PasidEntryLow, PasidEntryMiddle, TYPE_FIRST_STAGE, TYPE_NESTED,
    TYPE_PASS_THROUGH, TYPE_SECOND_STAGE,
};
use crate::spec::{pasid_directory, pasid_entry};
use crate::walk::first_stage::FirstStage;
use crate::walk::second_stage::SecondStage;
use vm_memory::GuestAddress;

/// A valid PASID entry, with what its context says of the requests that go through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The tag of everything that is cached through it.
    pub domain: DomainId,
    /// The PASID whose entry it is.
    pub pasid: Pasid,
    /// Qualified faults are not recorded (FPD of the context, of the directory entry or of the PASID entry).
    pub fault_processing_disabled: bool,
    /// Translation requests are allowed (DTE of the context).
    pub device_tlb: bool,
    /// Requests without PASID have supervisor privilege (RID_PRIV of the context).
    pub rid_privilege: bool,
    /// Walks are coherent (PWSNP).
    pub snooped: bool,
    /// What requests may do.
    pub rules: Rules,
    /// Through which paging structures they go; `None` when they pass unchanged.
    pub stages: Option<Stages>,
}

impl Binding {
    /// The PASID by which its pages are told from others of the domain: second-stage pages are the same for all.
    #[must_use]
    pub const fn page_pasid(&self) -> Option<Pasid> {
        match self.stages {
            Some(Stages::Second(_)) => None,
            _ => Some(self.pasid),
        }
    }

    /// Checks whether the entry allows requests for instruction fetch and those with supervisor privilege.
    ///
    /// # Errors
    /// It does not.
    pub fn admit(&self, claim: &Claim) -> Result<(), Blocked> {
        if claim.execute && !self.rules.execute {
            return Err(self.blocked(FaultReason::ExecuteDisabled));
        }
        if claim.privileged && !self.rules.supervisor {
            return Err(self.blocked(FaultReason::SupervisorDisabled));
        }
        Ok(())
    }

    /// A fault that the entries' FPD keeps out of the record.
    #[must_use]
    pub const fn blocked(&self, reason: FaultReason) -> Blocked {
        Blocked::qualified(reason, self.fault_processing_disabled)
    }
}

/// Reads the entry of `pasid`, which fits the directory of `context`.
pub fn lookup<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    context: &ScalableContext,
    pasid: Pasid,
) -> Found<Binding> {
    match read_directory(memory, capabilities, context, pasid) {
        Err(blocked) => Found {
            entry: Err(blocked),
            reads: 1,
        },
        Ok(directory) => Found {
            entry: read_entry(memory, capabilities, context, directory, pasid),
            reads: 2,
        },
    }
}

fn read_directory<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    context: &ScalableContext,
    pasid: Pasid,
) -> Result<PasidDirectoryEntry, Blocked> {
    let offset = u64::from(pasid.get() >> TABLE_BITS) * pasid_directory::ENTRY_SIZE;
    // The directory may span pages and need not be aligned to its size.
    let address = context.directory.0.saturating_add(offset);
    let entry = memory
        .load_u64(GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::PasidDirectoryUnreadable))?;
    let entry = PasidDirectoryEntry::from_bits(entry);
    let fpd = context.fault_processing_disabled || entry.fault_processing_disabled();
    if !entry.present() {
        let reason = FaultReason::PasidDirectoryNotPresent;
        return Err(Blocked::qualified(reason, fpd));
    }
    if entry.reserved() != 0 || !capabilities.is_host_address(entry.table()) {
        let reason = FaultReason::PasidDirectoryReserved;
        return Err(Blocked::qualified(reason, fpd));
    }
    Ok(entry)
}

fn read_entry<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    context: &ScalableContext,
    directory: PasidDirectoryEntry,
    pasid: Pasid,
) -> Result<Binding, Blocked> {
    let index = u64::from(pasid.get() & ((1 << TABLE_BITS) - 1));
    let address = directory.table().0 | (index * pasid_entry::ENTRY_SIZE);
    let words = load_wide_entry(memory, GuestAddress(address))
        .map_err(|_| Blocked::always(FaultReason::PasidTableUnreadable))?;
    let entry = Entry::new(words);
    let fpd = context.fault_processing_disabled
        || directory.fault_processing_disabled()
        || entry.low.fault_processing_disabled();
    let blocked = |reason| Blocked::qualified(reason, fpd);
    if !entry.low.present() {
        return Err(blocked(FaultReason::PasidNotPresent));
    }
    if entry.has_reserved_bits(capabilities) {
        return Err(blocked(FaultReason::PasidReserved));
    }
    let stages = entry
        .stages(capabilities)
        .ok_or_else(|| blocked(FaultReason::PasidInvalid))?;
    Ok(Binding {
        domain: DomainId(entry.middle.domain()),
        pasid,
        fault_processing_disabled: fpd,
        device_tlb: context.device_tlb,
        rid_privilege: context.rid_privilege,
        snooped: entry.middle.walk_snoop(),
        rules: Rules {
            supervisor: entry.high.supervisor_enable(),
            execute: entry.high.execute_enable(),
            write_protect: entry.high.write_protect(),
            smep: entry.high.smep(),
        },
        stages: stages.0,
    })
}

/// A PASID entry as it was read.
struct Entry {
    low: PasidEntryLow,
    middle: PasidEntryMiddle,
    high: PasidEntryHigh,
    reserved: bool,
}

/// A supported translation type: its stages, or none when requests pass unchanged.
struct Supported(Option<Stages>);

impl Entry {
    fn new(words: [u64; ENTRY_WORDS]) -> Self {
        let [low, middle, high, reserved @ ..] = words;
        Self {
            low: PasidEntryLow::from_bits(low),
            middle: PasidEntryMiddle::from_bits(middle),
            high: PasidEntryHigh::from_bits(high),
            reserved: reserved != [0; ENTRY_WORDS - 3],
        }
    }

    /// Whether a present entry sets a bit that this unit reserves. Pointers that its type does not use are ignored.
    fn has_reserved_bits(&self, capabilities: &Capabilities) -> bool {
        let (low, middle, high) = (self.low, self.middle, self.high);
        let first = matches!(low.translation_type(), TYPE_FIRST_STAGE | TYPE_NESTED);
        let second = matches!(low.translation_type(), TYPE_SECOND_STAGE | TYPE_NESTED);
        self.reserved
            || low.reserved() != 0
            || middle.reserved() != 0
            || high.reserved() != 0
            || !capabilities.is_domain_id(DomainId(middle.domain()))
            || first && !capabilities.is_host_address(high.first_stage_table())
            || second && !capabilities.is_host_address(low.second_stage_table())
            || low.second_stage_execute() && !capabilities.execute_requests()
            || low.second_stage_dirty() && !capabilities.second_stage_dirty()
            || middle.walk_snoop() && !capabilities.coherent_walks()
            || middle.page_snoop() && !capabilities.snoop_control()
            || high.supervisor_enable() && !capabilities.supervisor_requests()
            || high.execute_enable() && !capabilities.execute_requests()
            || high.extended_accessed() && !capabilities.extended_accessed()
    }

    /// What the entry's type comes to; `None` when this unit does not support it.
    fn stages(&self, capabilities: &Capabilities) -> Option<Supported> {
        let stages = match self.low.translation_type() {
            TYPE_FIRST_STAGE if capabilities.first_stage() => {
                Some(Stages::First(self.first_stage(capabilities)?))
            }
            TYPE_SECOND_STAGE if capabilities.second_stage() => {
                Some(Stages::Second(self.second_stage(capabilities)?))
            }
            TYPE_NESTED if capabilities.nesting() => Some(Stages::Nested(
                self.first_stage(capabilities)?,
                self.second_stage(capabilities)?,
            )),
            TYPE_PASS_THROUGH if capabilities.pass_through() => None,
            _ => return None,
        };
        Some(Supported(stages))
    }

    fn first_stage(&self, capabilities: &Capabilities) -> Option<FirstStage> {
        Some(FirstStage {
            table: self.high.first_stage_table(),
            levels: capabilities.first_stage_levels(self.high.first_stage_mode())?,
            no_execute: self.high.no_execute() && capabilities.execute_requests(),
            extended_accessed: self.high.extended_accessed(),
        })
    }

    fn second_stage(&self, capabilities: &Capabilities) -> Option<SecondStage> {
        Some(SecondStage {
            table: self.low.second_stage_table(),
            levels: capabilities.second_stage_levels(self.low.address_width())?,
            execute_rights: self.low.second_stage_execute(),
            accessed_dirty: self.low.second_stage_dirty(),
        })
    }
}
