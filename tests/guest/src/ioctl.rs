// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ioctls of VFIO (linux/vfio.h) and iommufd (linux/iommufd.h): which structure belongs to which request.
//!
//! vfio-ioctls maps read-write only and iommufd-ioctls knows no dirty tracking, no fault queues and no options; all requests have
//! one form, so all are made here, with the structures of the bindings.

use std::ffi::c_ulong;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use iommufd_bindings::iommufd as iommu;
use vfio_bindings::bindings::vfio;

/// `_IO(';', number)`, the form of all requests of both interfaces.
const fn request(number: u8) -> c_ulong {
    // Lossless: `c_ulong::from` is not const.
    0x3b00 | number as c_ulong
}

/// The argument of one request.
pub trait Command {
    /// The request's number.
    const REQUEST: c_ulong;
}

/// The file descriptor of a container, for `VFIO_GROUP_SET_CONTAINER`.
#[repr(transparent)]
pub struct SetContainer(pub RawFd);

/// A device's name and a zero, for `VFIO_GROUP_GET_DEVICE_FD`.
#[repr(transparent)]
pub struct GetDevice(pub [u8; 32]);

macro_rules! commands {
    ($($structure:ty: $number:literal;)*) => {
        $(impl Command for $structure {
            const REQUEST: c_ulong = request($number);
        })*
    };
}

// Who adds a line upholds what `call` relies on.
commands! {
    vfio::vfio_group_status: 103;
    SetContainer: 104;
    GetDevice: 106;
    vfio::vfio_region_info: 108;
    vfio::vfio_iommu_type1_dma_map: 113;
    vfio::vfio_iommu_type1_dma_unmap: 114;
    vfio::vfio_device_bind_iommufd: 118;
    vfio::vfio_device_attach_iommufd_pt: 119;
    vfio::vfio_device_detach_iommufd_pt: 120;
    iommu::iommu_destroy: 0x80;
    iommu::iommu_ioas_alloc: 0x81;
    iommu::iommu_ioas_map: 0x85;
    iommu::iommu_ioas_unmap: 0x86;
    iommu::iommu_option: 0x87;
    iommu::iommu_hwpt_alloc: 0x89;
    iommu::iommu_hw_info: 0x8a;
    iommu::iommu_hwpt_set_dirty_tracking: 0x8b;
    iommu::iommu_hwpt_get_dirty_bitmap: 0x8c;
    iommu::iommu_hwpt_invalidate: 0x8d;
    iommu::iommu_fault_alloc: 0x8e;
}

/// The bytes of `C`, for the field that every structure begins with.
pub fn size<C: Command>() -> u32 {
    u32::try_from(size_of::<C>()).unwrap_or(u32::MAX)
}

/// Makes the request that `command` belongs to; what the kernel returns when it is not an error.
///
/// Addresses within the structure must be those of memory that is mapped and that no Rust reference covers, or that the kernel
/// only reads; their lengths must be true.
pub fn call<C: Command>(fd: impl AsFd, command: &mut C) -> io::Result<i32> {
    let fd = fd.as_fd().as_raw_fd();
    let command: *mut C = command;
    #[expect(unsafe_code, reason = "no library makes these requests")]
    // SAFETY: `Command` ties the request to the kernel's structure for it, so the kernel keeps within `command`, which is
    // borrowed for the call, and within the memory that the caller named in it.
    let result = unsafe { libc::ioctl(fd, C::REQUEST, command) };
    checked(result)
}

/// VFIO's container requests that take a number or nothing.
#[derive(Clone, Copy)]
pub enum Plain {
    ApiVersion,
    CheckExtension(u32),
    SetIommu(u32),
}

/// Makes a request without a structure.
pub fn call_plain(fd: impl AsFd, plain: Plain) -> io::Result<i32> {
    let (number, argument) = match plain {
        Plain::ApiVersion => (100, 0),
        Plain::CheckExtension(extension) => (101, extension),
        Plain::SetIommu(kind) => (102, kind),
    };
    let fd = fd.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes these requests")]
    // SAFETY: these requests take a number; the kernel touches no memory of this program.
    let result = unsafe { libc::ioctl(fd, request(number), c_ulong::from(argument)) };
    checked(result)
}

/// The file descriptor that the kernel has just made for the caller of `call`, by the number that it returned.
pub fn own(fd: RawFd) -> OwnedFd {
    assert!(fd >= 0, "the kernel returned a file descriptor");
    #[expect(unsafe_code, reason = "the kernel returns numbers")]
    // SAFETY: called once with each number that the kernel returned as a new file descriptor, so nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    owned
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
