// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtio 1.x devices (virtio specification 1.2): disk, network card, entropy source and shared directory.
//!
//! A device is two things: a [`VirtioDevice`], which says what the driver sees (features, queues, configuration), and one
//! [`QueueHandler`] for each of its queues, made when the driver is ready. Each handler runs on a worker thread of its own and
//! reaches memory only through the sections that its [`Ring`] opens, one for each request, so that an invalidation
//! of the IOMMU waits for at most one request of each queue.
//!
//! Lock rule: a worker holds no lock while it signals the driver, and no section either.
//!
//! Not supported: legacy and transitional devices, packed rings, queue reset, administration queues, live resize.

pub mod blk;
pub mod chain;
mod log_limit;
pub mod net;
pub mod pci;
pub mod ring;
pub mod rng;
pub mod share;
#[cfg(test)]
mod testing;
pub mod worker;

use ring::{Ring, RingError};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

pub use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1,
};
pub use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// The mask of feature bit `bit`, which is numbered as in the specification.
#[must_use]
pub const fn feature(bit: u32) -> u64 {
    1 << bit
}

/// What every device here offers besides its own features.
pub const COMMON_FEATURES: u64 = feature(VIRTIO_F_VERSION_1)
    | feature(VIRTIO_F_ACCESS_PLATFORM)
    | feature(VIRTIO_RING_F_EVENT_IDX)
    | feature(VIRTIO_RING_F_INDIRECT_DESC);

/// What a driver must accept. There is no way around the IOMMU, so a driver that would use guest-physical addresses
/// regardless is refused.
pub const REQUIRED_FEATURES: u64 = feature(VIRTIO_F_VERSION_1) | feature(VIRTIO_F_ACCESS_PLATFORM);

/// What a device is to its driver, apart from the transport.
pub trait VirtioDevice: fmt::Debug + Send + Sync {
    /// The virtio device id (specification section 5).
    fn id(&self) -> u16;

    /// A short name for threads and messages, such as `blk`.
    fn name(&self) -> &'static str;

    /// The PCI class code: base class, subclass, programming interface from the high byte down, 24 bits.
    fn class(&self) -> u32;

    /// The device's own features; [`COMMON_FEATURES`] are added by the transport.
    fn features(&self) -> u64;

    /// The size of each queue, which also says how many there are. Powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// The device configuration space. Reads beyond its end return zeroes; all of it is read-only to the driver.
    fn config(&self) -> &[u8];

    /// One handler for each queue, in order, for a driver that accepted `features`. Called each time a driver gets ready.
    ///
    /// # Errors
    /// The host refused something; the driver then sees a device that needs a reset.
    fn activate(&self, features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>>;
}

/// What a worker waits for when a handler has nothing left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: the handler only paused so that a stop is noticed, and wants to be called again.
    Nothing,
    /// More chains in the ring.
    Chains,
    /// [`QueueHandler::source`] to be readable.
    Source,
}

/// The device's end of one queue. Runs on the queue's worker.
pub trait QueueHandler: fmt::Debug + Send {
    /// A descriptor that brings work besides the ring, for handlers that answer [`Wait::Source`].
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Works off at most one request, so that a stop waits for no more than that, and says what to wait for next.
    ///
    /// # Errors
    /// The ring or a buffer of it cannot be used. The queue is then dead until the driver resets the device.
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError>;
}

/// How queues reach the driver: implemented by the transport.
pub trait Notifier: fmt::Debug + Send + Sync {
    /// Tells the driver that queue `queue` has used buffers.
    fn used(&self, queue: u16);

    /// Sets DEVICE_NEEDS_RESET and tells the driver by a configuration interrupt: queue `queue` stopped.
    fn needs_reset(&self, queue: u16);
}

/// A device cannot be made of what the user gave.
#[derive(Debug, thiserror::Error)]
pub enum VirtioError {
    /// The disk image cannot be opened.
    #[error("cannot open disk image {}", path.display())]
    ImageOpen {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process writes to the disk image.
    #[error(
        "disk image {} is in use by another process (add `,readonly` to both, or give each VM its own copy)",
        path.display()
    )]
    ImageInUse {
        /// The image.
        path: PathBuf,
    },
    /// The disk image is too small to hold a sector.
    #[error("disk image {} holds {len} bytes, less than one sector of 512", path.display())]
    ImageTooSmall {
        /// The image.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// The disk is to have no queue or too many.
    #[error("{queues} queues for a disk: between 1 and {max} are possible")]
    BadQueueCount {
        /// How many were asked for.
        queues: u16,
        /// How many there can be.
        max: u16,
    },
    /// The shared directory cannot be used.
    #[error("cannot share directory {}", path.display())]
    ShareOpen {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount tag is empty or too long.
    #[error("mount tag {tag:?} must have between 1 and {max} bytes")]
    BadTag {
        /// The tag.
        tag: String,
        /// Bytes that a tag can have.
        max: usize,
    },
    /// A host resource for a device could not be had.
    #[error("cannot set up virtio-{device}: {what}")]
    Host {
        /// The device's name.
        device: &'static str,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
