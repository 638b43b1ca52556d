// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation descriptors: what they mean, and which are legal.

use super::QueueError;
use crate::address::{Gpa, Iova, IovaRange, PAGE_SIZE};
use crate::capabilities::Capabilities;
use crate::ids::{DomainId, SourceId};
use crate::invalidation::{FunctionMask, Invalidation};
use crate::spec::descriptor::{
    ContextDescriptor, DescriptorHeader, InterruptDescriptor, IotlbDescriptor, WaitDescriptor,
};
use vm_memory::GuestAddress;

/// What a wait descriptor asks for. The queue is processed in order, so a fence asks for nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Write this word there, when everything before the descriptor has taken effect.
    pub(crate) status: Option<(Gpa, u32)>,
    /// Then note the completion, and raise the completion event.
    pub(crate) interrupt: bool,
}

/// A legal descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Something to invalidate.
    Invalidation(Invalidation),
    /// A wait descriptor.
    Wait(Wait),
}

/// What a descriptor means: its low and its high 128 bits. None of the types here uses the high ones.
pub(super) fn decode([low, high]: [u128; 2], caps: &Capabilities) -> Result<Decoded, QueueError> {
    let decoded = match DescriptorHeader::from_bits(low).kind() {
        1 => context(low, caps).map(Decoded::Invalidation),
        2 => iotlb(low, caps).map(Decoded::Invalidation),
        4 if caps.interrupt_remapping() => interrupt(low, caps).map(Decoded::Invalidation),
        5 => wait(low, caps).map(Decoded::Wait),
        _ => return Err(QueueError::Type),
    }?;
    reserved(high)?;
    Ok(decoded)
}

fn reserved(bits: u128) -> Result<(), QueueError> {
    if bits == 0 {
        Ok(())
    } else {
        Err(QueueError::Reserved)
    }
}

fn domain(did: u16, caps: &Capabilities) -> Result<DomainId, QueueError> {
    let domain = DomainId(did);
    if caps.is_domain_id(domain) {
        Ok(domain)
    } else {
        Err(QueueError::Reserved)
    }
}

fn context(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & ContextDescriptor::RESERVED)?;
    let descriptor = ContextDescriptor::from_bits(bits);
    let domain = domain(descriptor.did(), caps)?;
    match descriptor.granularity() {
        1 => Ok(Invalidation::ContextGlobal),
        2 => Ok(Invalidation::ContextDomain(domain)),
        3 => Ok(Invalidation::ContextDevice {
            domain,
            source: SourceId(descriptor.sid()),
            mask: FunctionMask::from_field(descriptor.fm()),
        }),
        _ => Err(QueueError::Reserved),
    }
}

fn iotlb(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & IotlbDescriptor::RESERVED)?;
    let descriptor = IotlbDescriptor::from_bits(bits);
    let domain = domain(descriptor.did(), caps)?;
    match descriptor.granularity() {
        1 => Ok(Invalidation::IotlbGlobal),
        2 => Ok(Invalidation::IotlbDomain(domain)),
        3 if caps.page_invalidation(descriptor.am()) => Ok(Invalidation::IotlbPages {
            domain,
            range: IovaRange::aligned_block(
                Iova(descriptor.page() * PAGE_SIZE),
                u32::from(descriptor.am()),
            ),
            leaf_only: descriptor.ih(),
        }),
        _ => Err(QueueError::Reserved),
    }
}

fn interrupt(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & InterruptDescriptor::RESERVED)?;
    let descriptor = InterruptDescriptor::from_bits(bits);
    if !descriptor.index_selective() {
        return Ok(Invalidation::InterruptGlobal);
    }
    // IM has 5 bits and an index 16, whatever MHMV offers.
    if !caps.interrupt_invalidation(descriptor.im()) || descriptor.im() > 16 {
        return Err(QueueError::Reserved);
    }
    let low_bits = u16::MAX.checked_shr(16 - u32::from(descriptor.im()));
    Ok(Invalidation::InterruptIndex {
        first: descriptor.iidx() & !low_bits.unwrap_or(0),
        count: 1 << descriptor.im(),
    })
}

fn wait(bits: u128, caps: &Capabilities) -> Result<Wait, QueueError> {
    reserved(bits & WaitDescriptor::RESERVED)?;
    let descriptor = WaitDescriptor::from_bits(bits);
    if descriptor.drain() && !caps.page_request_drain() {
        return Err(QueueError::Reserved);
    }
    let address = GuestAddress(descriptor.address() * 4);
    Ok(Wait {
        status: descriptor
            .status_write()
            .then_some((address, descriptor.status())),
        interrupt: descriptor.interrupt(),
    })
}
