// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Invalidation descriptors: what they mean, and which are legal.

use super::QueueError;
use crate::address::{Gpa, Iova, IovaRange, PAGE_SIZE};
use crate::ats::{PageResponse, ResponseCode};
use crate::capabilities::Capabilities;
use crate::ids::{DomainId, Pasid, SourceId};
use crate::invalidation::{DeviceSpaces, DeviceTlbInvalidation, FunctionMask, Invalidation};
use crate::spec::descriptor::{
    ContextDescriptor, DescriptorHeader, DeviceTlbDescriptor, InterruptDescriptor, IotlbDescriptor,
    PageResponseDescriptor, PasidCacheDescriptor, PasidDeviceTlbDescriptor, PasidIotlbDescriptor,
    WaitDescriptor,
};
use vm_memory::GuestAddress;

/// What a wait descriptor asks for. The queue is processed in order, so a fence asks for nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// First let page requests that are on their way into the page request queue arrive there.
    pub(crate) drain: bool,
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
    /// An answer to page requests.
    Response(PageResponse),
    /// A wait descriptor.
    Wait(Wait),
}

/// A descriptor as it stands in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// 128 bits.
    Narrow(u128),
    /// 256 bits, the low half first. No type uses the high one.
    Wide([u128; 2]),
}

/// What a descriptor means. Some types exist only as 256-bit descriptors.
pub(super) fn decode(raw: Raw, caps: &Capabilities) -> Result<Decoded, QueueError> {
    let (low, high, wide) = match raw {
        Raw::Narrow(low) => (low, 0, false),
        Raw::Wide([low, high]) => (low, high, true),
    };
    let decoded = match DescriptorHeader::from_bits(low).kind() {
        1 => context(low, caps).map(Decoded::Invalidation),
        2 => iotlb(low, caps).map(Decoded::Invalidation),
        3 if caps.device_tlb() => device_tlb(low, caps).map(Decoded::Invalidation),
        4 if caps.interrupt_remapping() => interrupt(low, caps).map(Decoded::Invalidation),
        5 => wait(low, caps).map(Decoded::Wait),
        6 if wide && caps.scalable_mode() => pasid_iotlb(low, caps).map(Decoded::Invalidation),
        7 if wide && caps.scalable_mode() => pasid_cache(low, caps).map(Decoded::Invalidation),
        8 if wide && caps.device_tlb() && caps.scalable_mode() => {
            pasid_device_tlb(low, caps).map(Decoded::Invalidation)
        }
        9 if wide && caps.page_requests() => page_response(low).map(Decoded::Response),
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
        drain: descriptor.drain(),
        status: descriptor
            .status_write()
            .then_some((address, descriptor.status())),
        interrupt: descriptor.interrupt(),
    })
}

fn pasid(value: u32) -> Result<Pasid, QueueError> {
    Pasid::new(value).ok_or(QueueError::Reserved)
}

fn pasid_iotlb(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & PasidIotlbDescriptor::RESERVED)?;
    let descriptor = PasidIotlbDescriptor::from_bits(bits);
    let domain = domain(descriptor.did(), caps)?;
    let pasid = pasid(descriptor.pasid())?;
    match descriptor.granularity() {
        2 => Ok(Invalidation::PasidIotlbAll { domain, pasid }),
        // MAMV bounds second-stage invalidations only.
        3 => Ok(Invalidation::PasidIotlbPages {
            domain,
            pasid,
            range: IovaRange::aligned_block(
                Iova(descriptor.page() * PAGE_SIZE),
                u32::from(descriptor.am()),
            ),
            leaf_only: descriptor.ih(),
        }),
        _ => Err(QueueError::Reserved),
    }
}

fn pasid_cache(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & PasidCacheDescriptor::RESERVED)?;
    let descriptor = PasidCacheDescriptor::from_bits(bits);
    let domain = domain(descriptor.did(), caps)?;
    match descriptor.granularity() {
        0 => Ok(Invalidation::PasidCacheDomain(domain)),
        1 => Ok(Invalidation::PasidCacheOne {
            domain,
            pasid: pasid(descriptor.pasid())?,
        }),
        3 => Ok(Invalidation::PasidCacheGlobal),
        _ => Err(QueueError::Reserved),
    }
}

fn device_tlb(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & DeviceTlbDescriptor::RESERVED)?;
    if !caps.device_tlb_names_function() {
        reserved(bits & DeviceTlbDescriptor::PFSID)?;
    }
    let descriptor = DeviceTlbDescriptor::from_bits(bits);
    Ok(Invalidation::DeviceTlb(DeviceTlbInvalidation {
        source: SourceId(descriptor.sid()),
        spaces: DeviceSpaces::WithoutPasid,
        range: device_range(descriptor.page(), descriptor.size()),
    }))
}

fn pasid_device_tlb(bits: u128, caps: &Capabilities) -> Result<Invalidation, QueueError> {
    reserved(bits & PasidDeviceTlbDescriptor::RESERVED)?;
    if !caps.device_tlb_names_function() {
        reserved(bits & PasidDeviceTlbDescriptor::PFSID)?;
    }
    let descriptor = PasidDeviceTlbDescriptor::from_bits(bits);
    let spaces = if descriptor.global() {
        DeviceSpaces::AllPasids
    } else {
        DeviceSpaces::Pasid(pasid(descriptor.pasid())?)
    };
    Ok(Invalidation::DeviceTlb(DeviceTlbInvalidation {
        source: SourceId(descriptor.sid()),
        spaces,
        range: device_range(descriptor.page(), descriptor.size()),
    }))
}

/// The range of a device-TLB descriptor: one page, or with S the block whose size the trailing ones of `page` tell.
fn device_range(page: u64, more: bool) -> IovaRange {
    let order = if more { page.trailing_ones() + 1 } else { 0 };
    IovaRange::aligned_block(Iova(page * PAGE_SIZE), order)
}

fn page_response(bits: u128) -> Result<PageResponse, QueueError> {
    reserved(bits & PageResponseDescriptor::RESERVED)?;
    let descriptor = PageResponseDescriptor::from_bits(bits);
    let pasid = if descriptor.pasid_present() {
        Some(pasid(descriptor.pasid())?)
    } else {
        None
    };
    Ok(PageResponse {
        source: SourceId(descriptor.rid()),
        pasid,
        group: descriptor.prgi(),
        code: ResponseCode::from_field(descriptor.code()),
    })
}
