// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls on a VFIO container, `/dev/vfio/vfio`.

use super::{Errno, io, with_number};
use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_ulong};
use vfio_bindings::bindings::vfio::VFIO_BASE;

pub(super) const VFIO_GET_API_VERSION: c_ulong = io(VFIO_BASE);
pub(super) const VFIO_CHECK_EXTENSION: c_ulong = io(VFIO_BASE + 1);
pub(super) const VFIO_SET_IOMMU: c_ulong = io(VFIO_BASE + 2);

/// `VFIO_GET_API_VERSION`.
///
/// # Errors
/// The file is no container.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn api_version(container: &impl AsRawFd) -> Result<c_int, Errno> {
    // SAFETY: the call takes no argument.
    unsafe { with_number(container, VFIO_GET_API_VERSION, 0) }
}

/// `VFIO_CHECK_EXTENSION`: whether the host has `extension`.
///
/// # Errors
/// The file is no container.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn has_extension(container: &impl AsRawFd, extension: u32) -> Result<bool, Errno> {
    // SAFETY: the argument is the extension's number.
    let has = unsafe { with_number(container, VFIO_CHECK_EXTENSION, c_ulong::from(extension)) };
    has.map(|has| has > 0)
}

/// `VFIO_SET_IOMMU`: chooses the driver of I/O page tables; needs a group in the container.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn set_iommu(container: &impl AsRawFd, kind: u32) -> Result<(), Errno> {
    // SAFETY: the argument is the driver's number.
    unsafe { with_number(container, VFIO_SET_IOMMU, c_ulong::from(kind)) }.map(drop)
}
