// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The disk (virtio 1.2 section 5.2).
//!
//! Reads and writes move data between the image and guest memory inside one section, which is opened by whoever has the image
//! already. Flush, discard and write-zeroes may take long and touch no guest memory, so they run between two sections. A
//! failing image answers the request with an error, and the machine runs on.
//!
//! Not supported: write-through mode by the driver's choice, secure erase, zones, lifetime information.

mod image;
mod request;

pub use image::Image;
pub use request::{ByteRange, Limits, Request, Status};

use super::chain::Chain;
use super::log_limit::LogLimit;
use super::ring::{Ring, RingError};
use super::{QueueHandler, VirtioDevice, VirtioError, Wait, feature};
use image::ImageAccess;
use request::{MAX_DISCARD_SECTORS, MAX_RANGES, MAX_ZERO_SECTORS, SECTOR};
use std::io;
use std::sync::Arc;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_ID_BYTES,
};

/// Queues that a disk can have.
pub const MAX_QUEUES: u16 = 64;

const QUEUE_SIZE: u16 = 256;

/// Data segments in one request, and bytes in one of them.
const SEG_MAX: u32 = 126;
const SIZE_MAX: u32 = 256 << 10;

/// Bytes in one chain: the data, and room for header and status.
const MAX_CHAIN: usize = SEG_MAX as usize * SIZE_MAX as usize + 4096;

const ID_LEN: usize = VIRTIO_BLK_ID_BYTES as usize;

/// A disk.
#[derive(Debug)]
pub struct Blk {
    disk: Arc<Disk>,
    queues: Vec<u16>,
    config: Vec<u8>,
}

#[derive(Debug)]
struct Disk {
    image: Image,
    limits: Limits,
    id: [u8; ID_LEN],
    errors: LogLimit,
}

impl Blk {
    /// A disk that shows `image`, with `queues` queues. The guest reads the first 20 bytes of `serial` as its serial number.
    ///
    /// # Errors
    /// No queue or too many.
    pub fn new(image: Image, serial: &str, queues: u16) -> Result<Self, VirtioError> {
        if queues == 0 || queues > MAX_QUEUES {
            return Err(VirtioError::BadQueueCount {
                queues,
                max: MAX_QUEUES,
            });
        }
        let mut id = [0; ID_LEN];
        for (to, from) in id.iter_mut().zip(serial.bytes()) {
            *to = from;
        }
        let limits = Limits {
            sectors: image.capacity() / SECTOR,
            readonly: image.is_readonly(),
        };
        Ok(Self {
            config: config(limits.sectors, queues),
            queues: vec![QUEUE_SIZE; usize::from(queues)],
            disk: Arc::new(Disk {
                image,
                limits,
                id,
                errors: LogLimit::new(),
            }),
        })
    }
}

/// `struct virtio_blk_config`, 60 bytes.
fn config(sectors: u64, queues: u16) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &sectors.to_le_bytes());
    put(8, &SIZE_MAX.to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &512u32.to_le_bytes()); // blk_size
    put(34, &queues.to_le_bytes());
    put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
    put(40, &MAX_RANGES.to_le_bytes());
    put(44, &1u32.to_le_bytes()); // discard_sector_alignment
    put(48, &MAX_ZERO_SECTORS.to_le_bytes());
    put(52, &MAX_RANGES.to_le_bytes());
    put(56, &[1]); // write_zeroes_may_unmap
    bytes
}

impl VirtioDevice for Blk {
    fn id(&self) -> u16 {
        2
    }

    fn name(&self) -> &'static str {
        "blk"
    }

    fn class(&self) -> u32 {
        0x01_80_00
    }

    fn features(&self) -> u64 {
        let mut features = feature(VIRTIO_BLK_F_SIZE_MAX)
            | feature(VIRTIO_BLK_F_SEG_MAX)
            | feature(VIRTIO_BLK_F_BLK_SIZE)
            | feature(VIRTIO_BLK_F_FLUSH);
        features |= if self.disk.limits.readonly {
            feature(VIRTIO_BLK_F_RO)
        } else {
            feature(VIRTIO_BLK_F_DISCARD) | feature(VIRTIO_BLK_F_WRITE_ZEROES)
        };
        if self.queues.len() > 1 {
            features |= feature(VIRTIO_BLK_F_MQ);
        }
        features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queues
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&self, _features: u64) -> io::Result<Vec<Box<dyn QueueHandler>>> {
        let handler = || Box::new(BlkQueue(Arc::clone(&self.disk))) as Box<dyn QueueHandler>;
        Ok(self.queues.iter().map(|_| handler()).collect())
    }
}

#[derive(Debug)]
struct BlkQueue(Arc<Disk>);

/// What became of the front of the ring.
enum Step {
    Empty,
    Done,
    /// The request is still in the ring and has no data.
    Slow(Request),
}

impl QueueHandler for BlkQueue {
    fn process(&mut self, ring: &mut Ring) -> Result<Wait, RingError> {
        ring.set_max_bytes(MAX_CHAIN);
        match self.0.step(ring)? {
            Step::Empty => return Ok(Wait::Chains),
            Step::Done => {}
            Step::Slow(request) => {
                let status = self.0.run(&request);
                ring.serve(|chain| answer(chain, 0, status))?;
            }
        }
        Ok(Wait::Nothing)
    }
}

/// Writes the status, the last byte of the chain; answers how many bytes the driver may look at.
fn answer(chain: &mut Chain<'_>, data: usize, status: Status) -> Result<u32, RingError> {
    chain.writable.split_back(1)?.write(&[status.byte()])?;
    Ok(u32::try_from(data).unwrap_or(u32::MAX).saturating_add(1))
}

impl Disk {
    fn step(&self, ring: &mut Ring) -> Result<Step, RingError> {
        let image = || self.image.access();
        ring.batch_holding(image, |batch, image| {
            let Some(mut chain) = batch.pop()? else {
                return Ok(Step::Empty);
            };
            let mut status_byte = chain.writable.split_back(1)?;
            let room = chain.writable.len();
            let (data, status) = match self.limits.decode(&mut chain.readable, room)? {
                Err(status) => (0, status),
                Ok(Request::Read(range)) => (room, self.read(image, range, &mut chain)),
                Ok(Request::Write(range)) => (0, self.write(image, range, &mut chain)),
                Ok(Request::GetId) => self.get_id(&mut chain)?,
                Ok(request) => {
                    batch.rewind(1);
                    return Ok(Step::Slow(request));
                }
            };
            status_byte.write(&[status.byte()])?;
            let written = u32::try_from(data).unwrap_or(u32::MAX).saturating_add(1);
            batch.push(&chain, written)?;
            Ok(Step::Done)
        })
    }

    fn read(&self, image: &ImageAccess<'_>, range: ByteRange, chain: &mut Chain<'_>) -> Status {
        let buffers = std::mem::take(&mut chain.writable);
        self.judge("read", image.read(range.offset, buffers))
    }

    fn write(&self, image: &ImageAccess<'_>, range: ByteRange, chain: &mut Chain<'_>) -> Status {
        let buffers = std::mem::take(&mut chain.readable);
        self.judge("write", image.write(range.offset, buffers))
    }

    fn get_id(&self, chain: &mut Chain<'_>) -> Result<(usize, Status), RingError> {
        let len = chain.writable.len().min(ID_LEN);
        chain.writable.write(&self.id[..len])?;
        Ok((len, Status::Ok))
    }

    fn run(&self, request: &Request) -> Status {
        let each = |ranges: &[ByteRange], act: &dyn Fn(ByteRange) -> io::Result<()>| {
            ranges.iter().try_for_each(|range| act(*range))
        };
        match request {
            Request::Flush => self.judge("flush", self.image.flush()),
            Request::Discard(ranges) => self.judge(
                "discard",
                each(ranges, &|range| self.image.discard(range.offset, range.len)),
            ),
            Request::WriteZeroes(ranges) => self.judge(
                "write zeroes",
                each(ranges, &|range| {
                    self.image.write_zeroes(range.offset, range.len)
                }),
            ),
            Request::Read(_) | Request::Write(_) | Request::GetId => Status::Unsupported,
        }
    }

    fn judge(&self, what: &'static str, result: io::Result<()>) -> Status {
        match result {
            Ok(()) => Status::Ok,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Status::Unsupported,
            Err(error) => {
                if let Some(number) = self.errors.admit() {
                    tracing::warn!(number, image = ?self.image, %error, "disk failed to {what}");
                }
                Status::IoError
            }
        }
    }
}

#[cfg(test)]
mod tests;
