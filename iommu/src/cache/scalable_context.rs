// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The context cache of scalable mode: valid context entries, tagged with the source id. They name no domain.

use super::Stamp;
use super::context::tag;
use super::lines::Lines;
use crate::ids::{Pasid, SourceId};
use crate::invalidation::FunctionMask;
use crate::translate::scalable::ScalableContext;
use bitfield_struct::bitfield;
use vm_memory::GuestAddress;

/// The context cache of scalable mode.
#[derive(Debug)]
pub(crate) struct ScalableContextCache(Lines<1, 2>);

/// The first word of a line; the second is the directory's address.
#[bitfield(u64)]
struct Word {
    #[bits(20)]
    rid_pasid: u32,
    #[bits(5)]
    pasid_bits: u32,
    fpd: bool,
    device_tlb: bool,
    pasid: bool,
    page_requests: bool,
    rid_privilege: bool,
    #[bits(34)]
    __: u64,
}

impl ScalableContextCache {
    pub(crate) fn new(lines: usize) -> Self {
        Self(Lines::new(lines))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.0.stamp()
    }

    pub(crate) fn get(&self, source: SourceId) -> Option<ScalableContext> {
        self.0.get(&tag(source)).and_then(decode)
    }

    pub(crate) fn insert(&self, stamp: Stamp, source: SourceId, context: &ScalableContext) {
        self.0.insert(stamp, &tag(source), encode(context));
    }

    /// Drops everything.
    pub(crate) fn drop_all(&self) -> u64 {
        self.0.start_drop().all()
    }

    /// Drops the entries of `source` and of the functions that `mask` adds.
    pub(crate) fn drop_source(&self, source: SourceId, mask: FunctionMask) -> u64 {
        let dropper = self.0.start_drop();
        mask.functions(source)
            .map(|function| dropper.tag(&tag(function)))
            .sum()
    }
}

fn encode(context: &ScalableContext) -> [u64; 2] {
    let word = Word::new()
        .with_rid_pasid(context.rid_pasid.get())
        .with_pasid_bits(context.pasid_bits)
        .with_fpd(context.fault_processing_disabled)
        .with_device_tlb(context.device_tlb)
        .with_pasid(context.pasid)
        .with_page_requests(context.page_requests)
        .with_rid_privilege(context.rid_privilege);
    [word.into_bits(), context.directory.0]
}

fn decode(value: [u64; 2]) -> Option<ScalableContext> {
    let word = Word::from_bits(value[0]);
    Some(ScalableContext {
        directory: GuestAddress(value[1]),
        pasid_bits: word.pasid_bits(),
        fault_processing_disabled: word.fpd(),
        device_tlb: word.device_tlb(),
        pasid: word.pasid(),
        page_requests: word.page_requests(),
        rid_pasid: Pasid::new(word.rid_pasid())?,
        rid_privilege: word.rid_privilege(),
    })
}
