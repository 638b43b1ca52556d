// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From a PASID to how its requests are translated: directory entry, PASID entry, and what both make of a request.
//!
//! In each entry presence comes before reserved bits, and those before what is not supported.

use super::Blocked;
use super::context::Found;
use super::paging::Stages;
use super::rights::{Claim, Rules};
use super::scalable::ScalableContext;
use crate::address::Gpa;
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
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// A valid PASID entry, with what its context says of the requests that go through it. Three words, as which it is also
/// cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// All but the tables.
    pub word: BindingWord,
    /// The top table of the first stage, if there is one.
    pub first_table: Gpa,
    /// The top table of the second stage, if there is one.
    pub second_table: Gpa,
}

/// What a binding says beside the addresses of its tables.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct BindingWord {
    domain: u16,
    #[bits(20)]
    pasid: Pasid,
    /// Qualified faults are not recorded (FPD of the context, of the directory entry or of the PASID entry).
    pub fault_processing_disabled: bool,
    /// Translation requests are allowed (DTE of the context).
    pub device_tlb: bool,
    /// Requests without PASID have supervisor privilege (RID_PRIV of the context).
    pub rid_privilege: bool,
    /// Walks are coherent (PWSNP).
    pub snooped: bool,
    /// What requests may do.
    #[bits(4)]
    pub rules: Rules,
    /// 0 where there is no such stage.
    #[bits(3)]
    first_levels: u32,
    no_execute: bool,
    extended_accessed: bool,
    /// 0 where there is no such stage.
    #[bits(3)]
    second_levels: u32,
    execute_rights: bool,
    accessed_dirty: bool,
    #[bits(10)]
    __: u16,
}

impl BindingWord {
    /// The tag of everything that is cached through the entry.
    #[must_use]
    pub const fn domain_id(self) -> DomainId {
        DomainId(self.domain())
    }

    /// The PASID whose entry it is.
    #[must_use]
    pub const fn entry_pasid(self) -> Pasid {
        self.pasid()
    }

    /// Whether requests pass unchanged.
    #[must_use]
    pub const fn pass_through(self) -> bool {
        self.first_levels() == 0 && self.second_levels() == 0
    }

    /// The PASID by which its pages are told from others of the domain: second-stage pages are the same for all.
    #[must_use]
    pub const fn page_pasid(self) -> Option<Pasid> {
        if self.first_levels() == 0 {
            None
        } else {
            Some(self.pasid())
        }
    }

    const fn with_first_stage(self, stage: &FirstStage) -> Self {
        self.with_first_levels(stage.levels)
            .with_no_execute(stage.no_execute)
            .with_extended_accessed(stage.extended_accessed)
    }

    const fn with_second_stage(self, stage: &SecondStage) -> Self {
        self.with_second_levels(stage.levels)
            .with_execute_rights(stage.execute_rights)
            .with_accessed_dirty(stage.accessed_dirty)
    }
}

impl Binding {
    /// Through which paging structures requests go; `None` when they pass unchanged.
    #[must_use]
    #[inline]
    pub const fn stages(&self) -> Option<Stages> {
        let first = FirstStage {
            table: self.first_table,
            levels: self.word.first_levels(),
            no_execute: self.word.no_execute(),
            extended_accessed: self.word.extended_accessed(),
        };
        let second = SecondStage {
            table: self.second_table,
            levels: self.word.second_levels(),
            execute_rights: self.word.execute_rights(),
            accessed_dirty: self.word.accessed_dirty(),
        };
        match (first.levels, second.levels) {
            (0, 0) => None,
            (_, 0) => Some(Stages::First(first)),
            (0, _) => Some(Stages::Second(second)),
            _ => Some(Stages::Nested(first, second)),
        }
    }

    /// Checks whether the entry allows requests for instruction fetch and those with supervisor privilege.
    ///
    /// # Errors
    /// It does not.
    pub fn admit(&self, claim: &Claim) -> Result<(), Blocked> {
        if claim.execute && !self.word.rules().execute() {
            return Err(self.blocked(FaultReason::ExecuteDisabled));
        }
        if claim.privileged && !self.word.rules().supervisor() {
            return Err(self.blocked(FaultReason::SupervisorDisabled));
        }
        Ok(())
    }

    /// A fault that the entries' FPD keeps out of the record.
    #[must_use]
    pub const fn blocked(&self, reason: FaultReason) -> Blocked {
        Blocked::qualified(reason, self.word.fault_processing_disabled())
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
    check_directory(capabilities, context, PasidDirectoryEntry::from_bits(entry))
}

/// Judges a directory entry.
pub(crate) fn check_directory(
    capabilities: &Capabilities,
    context: &ScalableContext,
    entry: PasidDirectoryEntry,
) -> Result<PasidDirectoryEntry, Blocked> {
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

/// Reads the entry of `pasid` below a directory entry that was judged good.
pub(crate) fn read_entry<M: PhysMem + ?Sized>(
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
    decode(capabilities, context, directory, pasid, words)
}

/// What the words of an entry say.
pub(crate) fn decode(
    capabilities: &Capabilities,
    context: &ScalableContext,
    directory: PasidDirectoryEntry,
    pasid: Pasid,
    words: [u64; ENTRY_WORDS],
) -> Result<Binding, Blocked> {
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
    let rules = Rules::new()
        .with_supervisor(entry.high.supervisor_enable())
        .with_execute(entry.high.execute_enable())
        .with_write_protect(entry.high.write_protect())
        .with_smep(entry.high.smep());
    let word = BindingWord::new()
        .with_domain(entry.middle.domain())
        .with_pasid(pasid)
        .with_fault_processing_disabled(fpd)
        .with_device_tlb(context.device_tlb)
        .with_rid_privilege(context.rid_privilege)
        .with_snooped(entry.middle.walk_snoop())
        .with_rules(rules);
    Ok(Binding {
        word: match &stages.0 {
            None => word,
            Some(Stages::First(first)) => word.with_first_stage(first),
            Some(Stages::Second(second)) => word.with_second_stage(second),
            Some(Stages::Nested(first, second)) => {
                word.with_first_stage(first).with_second_stage(second)
            }
        },
        first_table: entry.high.first_stage_table(),
        second_table: entry.low.second_stage_table(),
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
