// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ioctls of VFIO (linux/vfio.h) and iommufd (linux/iommufd.h): which structure belongs to which request.
//!
//! vfio-ioctls maps read-write only and iommufd-ioctls knows no dirty tracking, no fault queues and no options; all requests have
//! one form, so all are made here, with the structures of the bindings.
//!
//! A wrong value in a structure is an error of the request, never of this program's memory: what the kernel or a device may
//! write to is named by [`call_on`] alone, and the kernel itself checks addresses that it only reads.

use std::ffi::c_ulong;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use iommufd_bindings::iommufd as iommu;
use vfio_bindings::bindings::vfio;

use crate::memory::Memory;

/// `_IO(';', number)`, the form of all requests of both interfaces.
const fn request(number: u8) -> c_ulong {
    // Lossless: `c_ulong::from` is not const.
    0x3b00 | number as c_ulong
}

/// The argument of one request.
pub trait Argument {
    /// The request's number.
    const REQUEST: c_ulong;
}

/// An argument that names no memory to be written to.
pub trait Plain: Argument {}

/// An argument that names memory to be written to.
pub trait OnMemory: Argument {
    /// How many bytes.
    fn bytes(&self) -> u64;

    /// Says where.
    fn place(&mut self, address: u64);
}

/// An argument that the kernel answers with a new file.
pub trait Opening: Plain {
    /// The file, where `returned` is what the request returned.
    fn opened(&self, returned: i32) -> RawFd;
}

/// The file descriptor of a container, for `VFIO_GROUP_SET_CONTAINER`.
#[repr(transparent)]
pub struct SetContainer(pub RawFd);

/// A device's name and a zero, for `VFIO_GROUP_GET_DEVICE_FD`.
#[repr(transparent)]
pub struct GetDevice(pub [u8; 32]);

/// `struct vfio_irq_set` for one vector, with room for a descriptor.
#[repr(C)]
pub struct SetIrq {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    event: RawFd,
}

impl SetIrq {
    /// The action of `flags` for vector 0 of the kind `index`, with a descriptor.
    pub const fn with_event(flags: u32, index: u32, event: RawFd) -> Self {
        Self {
            argsz: 24,
            flags,
            index,
            start: 0,
            count: 1,
            event,
        }
    }

    /// The action of `flags` for vector 0 of the kind `index`.
    pub const fn without_data(flags: u32, index: u32) -> Self {
        Self {
            argsz: 20,
            ..Self::with_event(flags, index, -1)
        }
    }
}

/// Who adds a line upholds that the structure is the request's.
macro_rules! arguments {
    ($($structure:ty: $number:literal;)*) => {
        $(impl Argument for $structure {
            const REQUEST: c_ulong = request($number);
        })*
    };
}

macro_rules! plain {
    ($($structure:ty: $number:literal;)*) => {
        arguments! { $($structure: $number;)* }
        $(impl Plain for $structure {})*
    };
}

plain! {
    vfio::vfio_group_status: 103;
    SetContainer: 104;
    GetDevice: 106;
    vfio::vfio_region_info: 108;
    SetIrq: 110;
    vfio::vfio_iommu_type1_dma_unmap: 114;
    vfio::vfio_device_bind_iommufd: 118;
    vfio::vfio_device_attach_iommufd_pt: 119;
    vfio::vfio_device_detach_iommufd_pt: 120;
    iommu::iommu_destroy: 0x80;
    iommu::iommu_ioas_alloc: 0x81;
    iommu::iommu_ioas_unmap: 0x86;
    iommu::iommu_option: 0x87;
    iommu::iommu_hwpt_alloc: 0x89;
    iommu::iommu_hwpt_set_dirty_tracking: 0x8b;
    iommu::iommu_hwpt_invalidate: 0x8d;
    iommu::iommu_fault_alloc: 0x8e;
}

arguments! {
    vfio::vfio_iommu_type1_dma_map: 113;
    iommu::iommu_ioas_map: 0x85;
    iommu::iommu_hw_info: 0x8a;
    iommu::iommu_hwpt_get_dirty_bitmap: 0x8c;
}

impl OnMemory for vfio::vfio_iommu_type1_dma_map {
    fn bytes(&self) -> u64 {
        self.size
    }

    fn place(&mut self, address: u64) {
        self.vaddr = address;
    }
}

impl OnMemory for iommu::iommu_ioas_map {
    fn bytes(&self) -> u64 {
        self.length
    }

    fn place(&mut self, address: u64) {
        self.user_va = address;
    }
}

impl OnMemory for iommu::iommu_hw_info {
    fn bytes(&self) -> u64 {
        self.data_len.into()
    }

    fn place(&mut self, address: u64) {
        self.data_uptr = address;
    }
}

impl OnMemory for iommu::iommu_hwpt_get_dirty_bitmap {
    /// A bit for each page, in words of 8 bytes.
    fn bytes(&self) -> u64 {
        self.length.div_ceil(self.page_size).div_ceil(64) * 8
    }

    fn place(&mut self, address: u64) {
        self.data = address;
    }
}

impl Opening for GetDevice {
    fn opened(&self, returned: i32) -> RawFd {
        returned
    }
}

impl Opening for iommu::iommu_fault_alloc {
    fn opened(&self, _: i32) -> RawFd {
        self.out_fault_fd.cast_signed()
    }
}

/// The bytes of `A`, for the field that every structure begins with.
pub fn size<A: Argument>() -> u32 {
    u32::try_from(size_of::<A>()).unwrap_or(u32::MAX)
}

/// Makes the request that `argument` belongs to; what the kernel returns when it is not an error.
pub fn call<A: Plain>(fd: impl AsFd, argument: &mut A) -> io::Result<i32> {
    make(fd, argument)
}

/// Makes a request for the part of `memory` that begins at `offset`.
pub fn call_on<A: OnMemory>(
    fd: impl AsFd,
    argument: &mut A,
    memory: &Memory,
    offset: u64,
) -> io::Result<i32> {
    let end = offset.checked_add(argument.bytes());
    if end.is_none_or(|end| end > memory.bytes()) {
        return Err(io::Error::other("beyond the memory at hand"));
    }
    argument.place(memory.address() + offset);
    make(fd, argument)
}

/// Makes a request for a new file.
pub fn open<A: Opening>(fd: impl AsFd, argument: &mut A) -> io::Result<OwnedFd> {
    let returned = make(fd, argument)?;
    let opened = argument.opened(returned);
    #[expect(unsafe_code, reason = "the kernel returns a number")]
    // SAFETY: by `Opening` it is the file that the kernel has made for this request; nobody else has been told of it.
    let owned = unsafe { OwnedFd::from_raw_fd(opened) };
    Ok(owned)
}

fn make<A: Argument>(fd: impl AsFd, argument: &mut A) -> io::Result<i32> {
    let fd = fd.as_fd().as_raw_fd();
    let argument: *mut A = argument;
    #[expect(unsafe_code, reason = "no library makes these requests")]
    // SAFETY: `Argument` ties the request to the kernel's structure for it, so the kernel keeps within `argument`, which is
    // borrowed for the call, and writes besides only to memory that `call_on` has checked and no reference covers.
    let result = unsafe { libc::ioctl(fd, A::REQUEST, argument) };
    checked(result)
}

/// Requests of VFIO's container that take a number or nothing.
#[derive(Clone, Copy)]
pub enum Number {
    ApiVersion,
    CheckExtension(u32),
    SetIommu(u32),
}

/// Makes a request without a structure.
pub fn call_number(fd: impl AsFd, number: Number) -> io::Result<i32> {
    let (number, argument) = match number {
        Number::ApiVersion => (100, 0),
        Number::CheckExtension(extension) => (101, extension),
        Number::SetIommu(kind) => (102, kind),
    };
    let fd = fd.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no library makes these requests")]
    // SAFETY: these requests take a number; the kernel touches no memory of this program.
    let result = unsafe { libc::ioctl(fd, request(number), c_ulong::from(argument)) };
    checked(result)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
