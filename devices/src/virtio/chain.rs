// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptor chains and the guest memory behind them (virtio 1.2 section 2.7).
//!
//! A chain is translated whole before any of it is used, and bounded: at most [`MAX_DESCRIPTORS`] descriptors and as many bytes
//! as the device says, so a driver cannot make the device allocate or copy without end.

use super::ring::RingError;
use iommu::dma::DmaSection;
use std::collections::VecDeque;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

/// Descriptors in one chain, indirect ones included.
pub const MAX_DESCRIPTORS: usize = 1024;

/// Guest memory that a driver gave for one direction. Reading or writing consumes it from the front.
#[derive(Debug, Default)]
pub struct Buffers<'s> {
    slices: VecDeque<VolatileSlice<'s>>,
    len: usize,
}

impl<'s> Buffers<'s> {
    /// Bytes left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` from the front.
    ///
    /// # Errors
    /// Fewer bytes are left; none was consumed.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<(), RingError> {
        let mut done = 0;
        for slice in self.split_front(buf.len())?.slices {
            let end = done + slice.len();
            slice.copy_to(&mut buf[done..end]);
            done = end;
        }
        Ok(())
    }

    /// Writes `buf` at the front.
    ///
    /// # Errors
    /// Fewer bytes are left; none was consumed.
    pub fn write(&mut self, buf: &[u8]) -> Result<(), RingError> {
        let mut done = 0;
        for slice in self.split_front(buf.len())?.slices {
            let end = done + slice.len();
            slice.copy_from(&buf[done..end]);
            done = end;
        }
        Ok(())
    }

    /// Takes the first `len` bytes out.
    ///
    /// # Errors
    /// Fewer bytes are left; none was consumed.
    pub fn split_front(&mut self, len: usize) -> Result<Self, RingError> {
        let rest = self
            .len
            .checked_sub(len)
            .ok_or(RingError::ShortBuffer { len: self.len })?;
        let mut front = Self::default();
        while front.len < len {
            let Some(slice) = self.slices.pop_front() else {
                break;
            };
            let wanted = len - front.len;
            if slice.len() <= wanted {
                front.push(slice);
            } else {
                let (head, tail) = split_slice(slice, wanted)?;
                front.push(head);
                self.slices.push_front(tail);
            }
        }
        self.len = rest;
        Ok(front)
    }

    /// Takes the last `len` bytes out.
    ///
    /// # Errors
    /// Fewer bytes are left; none was consumed.
    pub fn split_back(&mut self, len: usize) -> Result<Self, RingError> {
        let front = self
            .len
            .checked_sub(len)
            .ok_or(RingError::ShortBuffer { len: self.len })?;
        let front = self.split_front(front)?;
        Ok(std::mem::replace(self, front))
    }

    /// The memory itself, front first.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &VolatileSlice<'s>> {
        self.slices.iter()
    }

    /// Takes at most `count` slices off the front.
    pub fn take_slices(&mut self, count: usize) -> Self {
        let rest = self.slices.split_off(count.min(self.slices.len()));
        let taken = std::mem::replace(&mut self.slices, rest);
        let len = taken.iter().map(VolatileSlice::len).sum();
        self.len -= len;
        Self { slices: taken, len }
    }

    fn push(&mut self, slice: VolatileSlice<'s>) {
        self.len += slice.len();
        self.slices.push_back(slice);
    }
}

fn split_slice(
    slice: VolatileSlice<'_>,
    at: usize,
) -> Result<(VolatileSlice<'_>, VolatileSlice<'_>), RingError> {
    let head = slice
        .subslice(0, at)
        .map_err(|_| RingError::ShortBuffer { len: slice.len() })?;
    let tail = slice
        .offset(at)
        .map_err(|_| RingError::ShortBuffer { len: slice.len() })?;
    Ok((head, tail))
}

/// One request of a driver.
#[derive(Debug)]
pub struct Chain<'s> {
    head: u16,
    /// What the driver wrote for the device.
    pub readable: Buffers<'s>,
    /// What the driver left for the device to write.
    pub writable: Buffers<'s>,
}

impl<'s> Chain<'s> {
    /// Translates a chain of at most `max_bytes` bytes, both directions together.
    pub(super) fn gather(
        descriptors: DescriptorChain<&'s DmaSection<'s>>,
        section: &'s DmaSection<'s>,
        max_bytes: usize,
    ) -> Result<Self, RingError> {
        let mut chain = Self {
            head: descriptors.head_index(),
            readable: Buffers::default(),
            writable: Buffers::default(),
        };
        let mut complete = false;
        for (count, descriptor) in descriptors.enumerate() {
            let len = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let total = chain.readable.len.saturating_add(chain.writable.len);
            if count >= MAX_DESCRIPTORS || total.saturating_add(len) > max_bytes {
                return Err(RingError::ChainTooLong {
                    head: chain.head,
                    max: max_bytes,
                });
            }
            let (buffers, access) = if descriptor.is_write_only() {
                (&mut chain.writable, Permissions::Write)
            } else if chain.writable.is_empty() {
                (&mut chain.readable, Permissions::Read)
            } else {
                return Err(RingError::BrokenChain { head: chain.head });
            };
            let slices = section.get_slices(descriptor.addr(), len, access);
            for slice in slices.map_err(RingError::Buffer)? {
                buffers.push(slice.map_err(RingError::Buffer)?);
            }
            complete = !descriptor.has_next();
        }
        // The iterator also ends where a descriptor is unreadable, out of bounds or part of a loop.
        if complete {
            Ok(chain)
        } else {
            Err(RingError::BrokenChain { head: chain.head })
        }
    }

    /// The index of the chain's first descriptor, by which it is returned.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }
}
