// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A fault queue of iommufd: page requests of devices are read from it, and their answers written to it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ObjectId;

/// Bytes of `struct iommu_hwpt_pgfault`.
const RECORD: usize = 40;

/// How long a page request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// A page that a device asks for; `struct iommu_hwpt_pgfault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The device, by its id in the iommufd.
    pub device: ObjectId,
    /// The PASID of the request, if it had one.
    pub pasid: Option<u32>,
    /// It is the last (here: the only) one of its group.
    pub last: bool,
    /// `IOMMU_PGFAULT_PERM_*`: 1 read, 2 write, 4 execute, 8 privileged.
    pub permissions: u32,
    /// The page's address.
    pub address: u64,
    cookie: u32,
}

/// What a page request is answered with.
#[derive(Debug, Clone, Copy)]
pub enum Response {
    /// The page is there now.
    Success = 0,
    /// There is no such page.
    Invalid = 1,
}

/// The queue.
pub struct FaultQueue {
    /// What HWPTs name it by.
    pub id: ObjectId,
    file: File,
}

impl FaultQueue {
    /// The queue that the kernel has just made.
    pub(super) fn new(id: ObjectId, file: OwnedFd) -> Self {
        Self {
            id,
            file: File::from(file),
        }
    }

    /// The next page request.
    pub fn next(&mut self) -> Result<PageFault> {
        if !self.wait(PATIENCE)? {
            bail!("no page request came");
        }
        let mut record = [0; RECORD];
        let got = self
            .file
            .read(&mut record)
            .context("reading the fault queue")?;
        if got != RECORD {
            bail!("the fault queue gave {got} bytes");
        }
        Ok(PageFault::decode(&record))
    }

    /// Fails if there is a page request.
    pub fn expect_none(&mut self) -> Result<()> {
        if self.wait(Duration::ZERO)? {
            bail!("a page request that nobody made: {:x?}", self.next()?);
        }
        Ok(())
    }

    /// Answers a page request.
    pub fn answer(&mut self, fault: &PageFault, response: Response) -> Result<()> {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&fault.cookie.to_le_bytes());
        bytes[4..].copy_from_slice(&(response as u32).to_le_bytes());
        self.file
            .write_all(&bytes)
            .context("answering a page request")
    }

    fn wait(&self, limit: Duration) -> Result<bool> {
        let mut polled = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        let limit = Timespec::try_from(limit)?;
        Ok(poll(&mut polled, Some(&limit))? == 1)
    }
}

impl PageFault {
    fn decode(record: &[u8; RECORD]) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&record[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let flags = word(0);
        Self {
            device: word(4),
            pasid: (flags & 1 != 0).then_some(word(8)),
            last: flags & 2 != 0,
            permissions: word(16),
            address: u64::from(word(24)) | u64::from(word(28)) << 32,
            cookie: word(36),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_fault_is_decoded_field_by_field() {
        let mut record = [0; RECORD];
        for (at, value) in [
            (0, 3_u32),
            (4, 7),
            (8, 0x1234),
            (12, 99),
            (16, 2),
            (24, 0x5000),
            (28, 0x12),
            (36, 42),
        ] {
            record[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let expected = PageFault {
            device: 7,
            pasid: Some(0x1234),
            last: true,
            permissions: 2,
            address: 0x12_0000_5000,
            cookie: 42,
        };
        assert_eq!(PageFault::decode(&record), expected);
        record[0] = 0;
        let fault = PageFault::decode(&record);
        assert_eq!((fault.pasid, fault.last), (None, false));
    }
}
