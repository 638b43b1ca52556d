// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests to a disk (virtio 1.2 section 5.2.6): what the driver wrote, checked against the disk's limits.

use crate::virtio::chain::Buffers;
use crate::virtio::ring::RingError;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

/// Bytes in a sector, the unit of all positions and lengths.
pub const SECTOR: u64 = 512;

/// Ranges in one discard or write-zeroes request.
pub const MAX_RANGES: u32 = 16;

/// Sectors in one range to discard: 1 GiB.
pub const MAX_DISCARD_SECTORS: u32 = 1 << 21;

/// Sectors in one range to fill with zeroes: 64 MiB, because a host that cannot do it cheaply writes them all.
pub const MAX_ZERO_SECTORS: u32 = 1 << 17;

const HEADER_LEN: usize = 16;
const RANGE_LEN: usize = 16;

/// The status byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Out of bounds, or the image failed.
    IoError,
    /// The disk does not do this.
    Unsupported,
}

impl Status {
    /// As the driver reads it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        let value = match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        };
        value.to_le_bytes()[0]
    }
}

/// A range of bytes that lies within the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A request that can be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Image to memory.
    Read(ByteRange),
    /// Memory to image.
    Write(ByteRange),
    /// The disk's serial number to memory.
    GetId,
    /// Make all writes durable.
    Flush,
    /// Give ranges back to the host.
    Discard(Vec<ByteRange>),
    /// Fill ranges with zeroes.
    WriteZeroes(Vec<ByteRange>),
}

/// What a disk allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sectors of the disk.
    pub sectors: u64,
    /// Writes of any kind are refused.
    pub readonly: bool,
}

impl Limits {
    /// Decodes the request at the front of `readable`; `room` is the number of writable bytes without the status.
    ///
    /// # Errors
    /// Outer: there is no whole header. Inner: the status to answer with.
    pub fn decode(
        &self,
        readable: &mut Buffers<'_>,
        room: usize,
    ) -> Result<Result<Request, Status>, RingError> {
        let mut header = [0; HEADER_LEN];
        readable.read(&mut header)?;
        let (kind, sector) = (le32(&header, 0), le64(&header, 8));
        Ok(match kind {
            VIRTIO_BLK_T_IN => self.span(sector, room).map(Request::Read),
            VIRTIO_BLK_T_GET_ID => Ok(Request::GetId),
            VIRTIO_BLK_T_FLUSH => Ok(Request::Flush),
            VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES
                if self.readonly =>
            {
                Err(Status::IoError)
            }
            VIRTIO_BLK_T_OUT => self.span(sector, readable.len()).map(Request::Write),
            VIRTIO_BLK_T_DISCARD => self
                .ranges(readable, MAX_DISCARD_SECTORS, 0)?
                .map(Request::Discard),
            VIRTIO_BLK_T_WRITE_ZEROES => self
                .ranges(readable, MAX_ZERO_SECTORS, FLAG_UNMAP)?
                .map(Request::WriteZeroes),
            _ => Err(Status::Unsupported),
        })
    }

    fn span(&self, sector: u64, len: usize) -> Result<ByteRange, Status> {
        let len = len as u64;
        if !len.is_multiple_of(SECTOR) {
            return Err(Status::IoError);
        }
        self.within(sector, len / SECTOR)
    }

    fn within(&self, sector: u64, count: u64) -> Result<ByteRange, Status> {
        let end = sector.checked_add(count).ok_or(Status::IoError)?;
        if end > self.sectors {
            return Err(Status::IoError);
        }
        Ok(ByteRange {
            offset: sector * SECTOR,
            len: count * SECTOR,
        })
    }

    fn ranges(
        &self,
        readable: &mut Buffers<'_>,
        max_sectors: u32,
        allowed_flags: u32,
    ) -> Result<Result<Vec<ByteRange>, Status>, RingError> {
        let len = readable.len();
        let count = len / RANGE_LEN;
        if !len.is_multiple_of(RANGE_LEN) || count == 0 || count > MAX_RANGES as usize {
            return Ok(Err(Status::IoError));
        }
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let mut entry = [0; RANGE_LEN];
            readable.read(&mut entry)?;
            let (sector, sectors, flags) = (le64(&entry, 0), le32(&entry, 8), le32(&entry, 12));
            if flags & !allowed_flags != 0 {
                return Ok(Err(Status::Unsupported));
            }
            if sectors > max_sectors {
                return Ok(Err(Status::IoError));
            }
            match self.within(sector, sectors.into()) {
                Ok(range) => ranges.push(range),
                Err(status) => return Ok(Err(status)),
            }
        }
        Ok(Ok(ranges))
    }
}

/// The driver does not mind if the range loses its storage.
const FLAG_UNMAP: u32 = 1;

fn le32(bytes: &[u8; 16], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn le64(bytes: &[u8; 16], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
