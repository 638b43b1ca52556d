// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fault queues of iommufd: page requests of devices are read from a file, and answered by writing to it.

use super::{Errno, io, size_field, with_struct};
use iommu::address::Iova;
use iommu::ids::Pasid;
use iommufd_bindings as bindings;
use iommufd_ioctls::IommuFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::raw::c_ulong;

pub(super) const IOMMU_FAULT_QUEUE_ALLOC: c_ulong = io(bindings::IOMMUFD_CMD_FAULT_QUEUE_ALLOC);

/// Bytes of a record, `struct iommu_hwpt_pgfault`.
pub(super) const RECORD: usize = 40;
/// Records read at once: more than the requests of a group, which are only read together.
const RECORDS: usize = 512;

/// A fault queue.
#[derive(Debug)]
pub struct FaultQueue {
    id: u32,
    file: File,
}

/// A page that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPageRequest {
    /// iommufd's name for the device.
    pub device: u32,
    /// The address space it asks in; `None` for that of requests without PASID.
    pub pasid: Option<Pasid>,
    /// The group, as the device names it.
    pub group: u32,
    /// The page.
    pub address: Iova,
    /// The right to read is wanted.
    pub read: bool,
    /// The right to write is wanted.
    pub write: bool,
    /// The right to execute is wanted.
    pub execute: bool,
    /// The request has supervisor privilege.
    pub privileged: bool,
    /// The last of its group.
    pub last: bool,
    /// What the answer to the group names.
    pub cookie: u32,
}

/// The answer to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostResponse {
    /// The device may try again.
    Success,
    /// It cannot have the page.
    Invalid,
}

impl FaultQueue {
    /// `IOMMU_FAULT_QUEUE_ALLOC`. Reading does not block.
    ///
    /// # Errors
    /// As the kernel says: ENOTTY before Linux 6.11.
    #[expect(unsafe_code, reason = "an ioctl that hands out a descriptor")]
    pub fn new(fd: &IommuFd) -> Result<Self, Errno> {
        let mut argument = bindings::iommu_fault_alloc {
            size: size_field::<bindings::iommu_fault_alloc>(),
            ..Default::default()
        };
        // SAFETY: the structure is the call's and holds no address.
        unsafe { with_struct(fd, IOMMU_FAULT_QUEUE_ALLOC, &mut argument) }?;
        let raw = i32::try_from(argument.out_fault_fd).map_err(|_| Errno::new(libc::EBADF))?;
        // SAFETY: the kernel made this descriptor for us just now, and nobody else knows it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        let flags =
            fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::NONBLOCK));
        flags.map_err(|error| Errno::new(error.raw_os_error()))?;
        Ok(Self {
            id: argument.out_fault_id,
            file,
        })
    }

    /// iommufd's name for it.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The requests that wait: whole groups, in the kernel's order; none when no request waits.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn read(&self) -> Result<Vec<HostPageRequest>, Errno> {
        let mut buffer = [0; RECORD * RECORDS];
        let read = match (&self.file).read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(number(&error)),
        };
        let known = buffer.get(..read).unwrap_or_default();
        Ok(known.chunks_exact(RECORD).filter_map(parse).collect())
    }

    /// Answers a group. One that is not known any more, because the device or its PASID was detached meanwhile, is no
    /// error.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn respond(&self, cookie: u32, response: HostResponse) -> Result<(), Errno> {
        let code = match response {
            HostResponse::Success => bindings::iommufd_page_response_code_IOMMUFD_PAGE_RESP_SUCCESS,
            HostResponse::Invalid => bindings::iommufd_page_response_code_IOMMUFD_PAGE_RESP_INVALID,
        };
        let mut record = [0; 8];
        record[..4].copy_from_slice(&cookie.to_ne_bytes());
        record[4..].copy_from_slice(&code.to_ne_bytes());
        match (&self.file).write(&record).map_err(|error| number(&error)) {
            Err(error) if error.errno() != libc::EINVAL => Err(error),
            _ => Ok(()),
        }
    }
}

impl AsFd for FaultQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn number(error: &std::io::Error) -> Errno {
    Errno::new(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A record, as include/uapi/linux/iommufd.h has it; `None` for a PASID that cannot be.
pub(super) fn parse(record: &[u8]) -> Option<HostPageRequest> {
    let word = |at: usize| {
        let bytes = record.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let flags = word(0)?;
    let perm = word(16)?;
    let address = u64::from_ne_bytes(record.get(24..32)?.try_into().ok()?);
    let has_pasid = flags & bindings::iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_PASID_VALID != 0;
    let wants = |bit| perm & bit != 0;
    Some(HostPageRequest {
        device: word(4)?,
        pasid: if has_pasid {
            Some(Pasid::new(word(8)?)?)
        } else {
            None
        },
        group: word(12)?,
        address: Iova(address),
        read: wants(bindings::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_READ),
        write: wants(bindings::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_WRITE),
        execute: wants(bindings::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_EXEC),
        privileged: wants(bindings::iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_PRIV),
        last: flags & bindings::iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_LAST_PAGE != 0,
        cookie: word(36)?,
    })
}
