// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's interface to user space, one function for each ioctl (include/uapi/linux/{vfio,iommufd}.h).
//!
//! Structures come from `vfio-bindings` and `iommufd-bindings`, and iommufd's plain calls from `iommufd-ioctls`. What is
//! here is what those crates lack, or report without the error number that the caller must act on: `vfio-ioctls` drops the
//! numbers of interrupt, group and reset calls and of every access to a region, and maps for reading and writing only.
//!
//! Each function is one call, keeps the kernel's error number, and logs nothing.

pub mod chain;
pub mod container;
pub mod device;
pub mod fault_queue;
pub mod group;
pub mod iommufd;
pub mod nesting;
pub mod type1;

/// An error number of the kernel.
pub use vmm_sys_util::errno::Error as Errno;

use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_ulong};
use vfio_bindings::bindings::vfio::VFIO_TYPE;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_mut_ref, ioctl_with_val};

/// The number of a call, `_IO(';', nr)`: neither VFIO nor iommufd puts a direction or a size into it.
const fn io(nr: u32) -> c_ulong {
    ioctl_expr(_IOC_NONE, VFIO_TYPE as u32, nr, 0)
}

/// The bytes of a structure, which the kernel wants in its first field.
const fn size_field<T>() -> u32 {
    assert!(
        size_of::<T>() < 4096,
        "structures of these interfaces are small"
    );
    #[expect(clippy::cast_possible_truncation, reason = "below 4096, see above")]
    let size = size_of::<T>() as u32;
    size
}

/// Issues a call whose argument is a structure.
///
/// # Safety
/// `request` takes a pointer to a `T`, and every address in `argument` is valid for what the call does with it.
#[expect(unsafe_code, reason = "an ioctl")]
unsafe fn with_struct<T>(
    file: &impl AsRawFd,
    request: c_ulong,
    argument: &mut T,
) -> Result<c_int, Errno> {
    // SAFETY: the caller vouches for the type and its contents; the reference outlives the call.
    result(unsafe { ioctl_with_mut_ref(file, request, argument) })
}

/// Issues a call whose argument is a number.
///
/// # Safety
/// `request` takes a number, not an address.
#[expect(unsafe_code, reason = "an ioctl")]
unsafe fn with_number(
    file: &impl AsRawFd,
    request: c_ulong,
    number: c_ulong,
) -> Result<c_int, Errno> {
    // SAFETY: the caller vouches that the kernel takes no address here.
    result(unsafe { ioctl_with_val(file, request, number) })
}

fn result(returned: c_int) -> Result<c_int, Errno> {
    if returned < 0 {
        Err(Errno::last())
    } else {
        Ok(returned)
    }
}

#[cfg(test)]
mod tests;
