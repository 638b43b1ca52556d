// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptors of the invalidation queue, one file each: the low 128 bits, which is all there is of the types here even in
//! a queue of 256-bit descriptors.
//!
//! Not here: the types that need device-TLBs, PASIDs or page requests (3, 6 to 9).

mod context;
mod header;
mod interrupt;
mod iotlb;
mod wait;

pub use context::ContextDescriptor;
pub use header::DescriptorHeader;
pub use interrupt::InterruptDescriptor;
pub use iotlb::IotlbDescriptor;
pub use wait::WaitDescriptor;

#[cfg(test)]
mod tests;
