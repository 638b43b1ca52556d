// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device's side of one split virtqueue, behind the IOMMU (virtio 1.2 section 2.7).
//!
//! Everything happens inside a [`Batch`], which is one section of the device's DMA space: take chains, use their memory, give
//! them back. What takes long and touches no guest memory (a flush, a file server's answer) belongs between two batches: the
//! first leaves the chain in the ring ([`Batch::rewind`]), the second takes it again.

use super::Notifier;
use super::chain::Chain;
use iommu::dma::{DmaSection, DmaSpace};
use std::sync::Arc;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryError, Permissions};

/// A ring cannot be used any further. It is the driver's mistake or the IOMMU's verdict, never ours.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The available ring is not readable.
    #[error("available ring at {0:#x} is not readable")]
    AvailableRing(u64),
    /// The available index jumped by more than the queue holds, or a ring address is missing.
    #[error("available ring is inconsistent")]
    Available(#[source] virtio_queue::Error),
    /// The used ring or its event field is not accessible.
    #[error("used ring at {address:#x} is not accessible")]
    UsedRing {
        /// Where it is.
        address: u64,
        /// Why.
        source: virtio_queue::Error,
    },
    /// A buffer is not accessible.
    #[error("buffer is not accessible")]
    Buffer(#[source] GuestMemoryError),
    /// A chain does not end, has a descriptor out of bounds, or mixes directions.
    #[error("descriptor chain {head} is broken")]
    BrokenChain {
        /// Its first descriptor.
        head: u16,
    },
    /// A chain is longer than the device takes.
    #[error("descriptor chain {head} is longer than {max} bytes or than 1024 descriptors")]
    ChainTooLong {
        /// Its first descriptor.
        head: u16,
        /// Bytes that the device takes.
        max: usize,
    },
    /// A chain lacks the header or status that the device requires.
    #[error("descriptor chain is too short: {len} bytes left")]
    ShortBuffer {
        /// Bytes that were left.
        len: usize,
    },
}

/// Where the driver put a queue, as it wrote it to the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLayout {
    /// Entries, a power of two.
    pub size: u16,
    /// IOVA of the descriptor table.
    pub desc: u64,
    /// IOVA of the available ring.
    pub driver: u64,
    /// IOVA of the used ring.
    pub device: u64,
}

/// One queue of a running device.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    index: u16,
    space: Arc<DmaSpace>,
    notifier: Arc<dyn Notifier>,
    max_bytes: usize,
}

impl Ring {
    /// A ring at `layout`. `features` are those that the driver accepted.
    ///
    /// # Errors
    /// The size is no power of two or above `max_size`, or a part is misaligned.
    pub fn new(
        index: u16,
        layout: QueueLayout,
        max_size: u16,
        features: u64,
        space: Arc<DmaSpace>,
        notifier: Arc<dyn Notifier>,
    ) -> Result<Self, RingError> {
        let mut queue = Queue::new(max_size).map_err(RingError::Available)?;
        queue
            .try_set_size(layout.size)
            .and_then(|()| queue.try_set_desc_table_address(GuestAddress(layout.desc)))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(layout.driver)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(layout.device)))
            .map_err(RingError::Available)?;
        queue.set_event_idx(features & super::feature(super::VIRTIO_RING_F_EVENT_IDX) != 0);
        queue.set_ready(true);
        Ok(Self {
            queue,
            index,
            space,
            notifier,
            max_bytes: DEFAULT_MAX_BYTES,
        })
    }

    /// Which queue of the device this is.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Sets how many bytes one chain may have.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
    }

    /// Runs `work` inside one section and afterwards, outside of it, signals the driver if it is to be.
    ///
    /// # Errors
    /// Those of `work`, or the used ring is not accessible.
    pub fn batch<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_, '_>) -> Result<T, RingError>,
    ) -> Result<T, RingError> {
        self.batch_holding(|| (), |batch, ()| work(batch))
    }

    /// [`Self::batch`] for work that needs something of the host's for which it may have to wait: `take` gets it before the
    /// section opens, and it is let go before the driver is signalled.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn batch_holding<H, T>(
        &mut self,
        take: impl FnOnce() -> H,
        work: impl FnOnce(&mut Batch<'_, '_>, &H) -> Result<T, RingError>,
    ) -> Result<T, RingError> {
        let held = take();
        let section = self.space.section();
        let mut batch = Batch {
            queue: &mut self.queue,
            section: &section,
            max_bytes: self.max_bytes,
            used: false,
        };
        let result = work(&mut batch, &held)?;
        let signal = batch.used && signal_wanted(&mut self.queue, &section)?;
        drop(section);
        drop(held);
        if signal {
            self.notifier.used(self.index);
        }
        Ok(result)
    }

    /// Works off one chain inside one section. `work` answers how many bytes it wrote. Whether there was a chain.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn serve(
        &mut self,
        work: impl FnOnce(&mut Chain<'_>) -> Result<u32, RingError>,
    ) -> Result<bool, RingError> {
        self.batch(|batch| {
            let Some(mut chain) = batch.pop()? else {
                return Ok(false);
            };
            let written = work(&mut chain)?;
            batch.push(&chain, written)?;
            Ok(true)
        })
    }

    /// Asks the driver to notify about new chains, or not to. Whether there are chains already.
    ///
    /// # Errors
    /// The ring is not accessible.
    pub fn set_notifications(&mut self, wanted: bool) -> Result<bool, RingError> {
        let section = self.space.section();
        let result = if wanted {
            self.queue.enable_notification(&section)
        } else {
            self.queue.disable_notification(&section).map(|()| false)
        };
        result.map_err(|source| used_ring(&self.queue, source))
    }
}

const DEFAULT_MAX_BYTES: usize = 1 << 20;

fn used_ring(queue: &Queue, source: virtio_queue::Error) -> RingError {
    RingError::UsedRing {
        address: queue.used_ring(),
        source,
    }
}

fn signal_wanted(queue: &mut Queue, section: &DmaSection<'_>) -> Result<bool, RingError> {
    let wanted = queue.needs_notification(section);
    wanted.map_err(|source| used_ring(queue, source))
}

/// One section in which chains are taken, used and given back.
#[derive(Debug)]
pub struct Batch<'q, 's> {
    queue: &'q mut Queue,
    section: &'s DmaSection<'s>,
    max_bytes: usize,
    used: bool,
}

impl<'s> Batch<'_, 's> {
    /// Takes the next chain.
    ///
    /// # Errors
    /// The ring, the chain or one of its buffers cannot be used.
    pub fn pop(&mut self) -> Result<Option<Chain<'s>>, RingError> {
        // The queue takes an unreadable entry for an empty ring, so look first.
        let len = 6 + 2 * usize::from(self.queue.size());
        let ring = self.queue.avail_ring();
        if !self
            .section
            .check_range(GuestAddress(ring), len, Permissions::Read)
        {
            return Err(RingError::AvailableRing(ring));
        }
        let mut chains = self
            .queue
            .iter(self.section)
            .map_err(RingError::Available)?;
        match chains.next() {
            None => Ok(None),
            Some(descriptors) => Chain::gather(descriptors, self.section, self.max_bytes).map(Some),
        }
    }

    /// Gives `chain` back with `written` bytes in it.
    ///
    /// # Errors
    /// The used ring is not writable.
    pub fn push(&mut self, chain: &Chain<'_>, written: u32) -> Result<(), RingError> {
        self.used = true;
        self.queue
            .add_used(self.section, chain.head(), written)
            .map_err(|source| used_ring(self.queue, source))
    }

    /// Puts the last `count` chains that were taken, and not given back, into the ring again.
    pub fn rewind(&mut self, count: u16) {
        let next = self.queue.next_avail().wrapping_sub(count);
        self.queue.set_next_avail(next);
    }
}

#[cfg(test)]
mod tests;
