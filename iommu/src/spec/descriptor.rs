// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors of the invalidation queue, one file each: the low 128 bits. The upper half of a 256-bit descriptor is
//! reserved in every type.
//!
//! Not here: page stream responses (type 10), which the specification has withdrawn.

mod context;
mod device_tlb;
mod header;
mod interrupt;
mod iotlb;
mod page_response;
mod pasid_cache;
mod pasid_device_tlb;
mod pasid_iotlb;
mod wait;

pub use context::ContextDescriptor;
pub use device_tlb::DeviceTlbDescriptor;
pub use header::DescriptorHeader;
pub use interrupt::InterruptDescriptor;
pub use iotlb::IotlbDescriptor;
pub use page_response::PageResponseDescriptor;
pub use pasid_cache::PasidCacheDescriptor;
pub use pasid_device_tlb::PasidDeviceTlbDescriptor;
pub use pasid_iotlb::PasidIotlbDescriptor;
pub use wait::WaitDescriptor;

#[cfg(test)]
mod tests;
