// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls on a VFIO group, `/dev/vfio/GROUP`.

use super::{Errno, io, result, size_field, with_struct};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::raw::c_ulong;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_GROUP_FLAGS_VIABLE, vfio_group_status};
use vmm_sys_util::ioctl::ioctl_with_ptr;

pub(super) const VFIO_GROUP_GET_STATUS: c_ulong = io(VFIO_BASE + 3);
pub(super) const VFIO_GROUP_SET_CONTAINER: c_ulong = io(VFIO_BASE + 4);
pub(super) const VFIO_GROUP_GET_DEVICE_FD: c_ulong = io(VFIO_BASE + 6);

/// `VFIO_GROUP_GET_STATUS`: whether every device of the group is bound to VFIO or to nothing.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn is_viable(group: &impl AsRawFd) -> Result<bool, Errno> {
    let mut status = vfio_group_status {
        argsz: size_field::<vfio_group_status>(),
        flags: 0,
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(group, VFIO_GROUP_GET_STATUS, &mut status) }?;
    Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// `VFIO_GROUP_SET_CONTAINER`.
///
/// # Errors
/// As the kernel says: EINVAL when the group is not viable or has a container already.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn set_container(group: &impl AsRawFd, container: &impl AsRawFd) -> Result<(), Errno> {
    let mut container = container.as_raw_fd();
    // SAFETY: the call takes a pointer to the container's descriptor.
    unsafe { with_struct(group, VFIO_GROUP_SET_CONTAINER, &mut container) }.map(drop)
}

/// `VFIO_GROUP_GET_DEVICE_FD`: opens the device that sysfs calls `name`.
///
/// # Errors
/// As the kernel says: ENODEV when the group has no such device, EPERM when interrupts cannot be isolated.
#[expect(unsafe_code, reason = "an ioctl that returns a descriptor")]
pub fn device(group: &impl AsRawFd, name: &CStr) -> Result<File, Errno> {
    // SAFETY: the call reads a string that ends in zero and outlives it.
    let returned = unsafe { ioctl_with_ptr(group, VFIO_GROUP_GET_DEVICE_FD, name.as_ptr()) };
    let descriptor = result(returned)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
