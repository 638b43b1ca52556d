// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls on `/dev/iommu` that `iommufd-ioctls` has no function for, and the error numbers of those it has.

use super::{Errno, io, size_field, with_struct};
use crate::hardware::{HardwareInfo, VtdRegisters};
use crate::run::Rights;
use iommu::address::{Gpa, Iova, IovaRange};
use iommufd_bindings as bindings;
use iommufd_ioctls::{IommuFd, IommufdError};
use std::error::Error as _;
use std::os::raw::c_ulong;

pub(super) const IOMMU_IOAS_ALLOW_IOVAS: c_ulong = io(bindings::IOMMUFD_CMD_IOAS_ALLOW_IOVAS);
pub(super) const IOMMU_IOAS_COPY: c_ulong = io(bindings::IOMMUFD_CMD_IOAS_COPY);
pub(super) const IOMMU_IOAS_IOVA_RANGES: c_ulong = io(bindings::IOMMUFD_CMD_IOAS_IOVA_RANGES);
pub(super) const IOMMU_OPTION: c_ulong = io(bindings::IOMMUFD_CMD_OPTION);
pub(super) const IOMMU_VFIO_IOAS: c_ulong = io(bindings::IOMMUFD_CMD_VFIO_IOAS);

/// `IOMMU_OPTION_OP_SET`, in the 16 bits that its field has.
const OPTION_SET: u16 = {
    assert!(bindings::iommufd_option_ops_IOMMU_OPTION_OP_SET == 0);
    0
};
/// `IOMMU_VFIO_IOAS_SET`, in the 16 bits that its field has.
const COMPAT_IOAS_SET: u16 = {
    assert!(bindings::iommufd_vfio_ioas_op_IOMMU_VFIO_IOAS_SET == 1);
    1
};

/// What `IOMMU_IOAS_IOVA_RANGES` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IovaRanges {
    /// The addresses that can be mapped, ascending.
    pub ranges: Vec<IovaRange>,
    /// Addresses and lengths of mappings are multiples of this, in bytes.
    pub alignment: u64,
}

/// The error number behind an error of `iommufd-ioctls`.
#[must_use]
pub fn errno(error: &IommufdError) -> Errno {
    let number = error
        .source()
        .and_then(|source| source.downcast_ref::<Errno>());
    // Every call that we make carries one.
    number.copied().unwrap_or_else(|| Errno::new(libc::EIO))
}

/// Mapping flags: always at a given address.
#[must_use]
pub const fn map_flags(rights: Rights) -> u32 {
    let read = if rights.read() {
        bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
    } else {
        0
    };
    let write = if rights.write() {
        bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE
    } else {
        0
    };
    bindings::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA | read | write
}

/// `IOMMU_IOAS_COPY`: maps at `iova` of `to` what `from` maps at `source`, sharing its pinned pages.
///
/// # Errors
/// As the kernel says: ENOENT where `from` has a gap, EEXIST for an overlap, EINVAL for what is misaligned or reserved, EPERM
/// for write access that `from` does not have.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn ioas_copy(
    fd: &IommuFd,
    (from, source): (u32, Gpa),
    (to, iova): (u32, Iova),
    length: u64,
    rights: Rights,
) -> Result<(), Errno> {
    let mut argument = bindings::iommu_ioas_copy {
        size: size_field::<bindings::iommu_ioas_copy>(),
        flags: map_flags(rights),
        dst_ioas_id: to,
        src_ioas_id: from,
        length,
        dst_iova: iova.0,
        src_iova: source.0,
    };
    // SAFETY: the structure is the call's and holds no address of this process.
    unsafe { with_struct(fd, IOMMU_IOAS_COPY, &mut argument) }.map(drop)
}

/// `IOMMU_IOAS_IOVA_RANGES`. What it says changes with each device that is attached.
///
/// # Errors
/// As the kernel says; EINVAL for an answer that contradicts itself.
pub fn iova_ranges(fd: &IommuFd, ioas: u32) -> Result<IovaRanges, Errno> {
    // The aperture with the interrupt range and a few reserved ones cut out of it.
    let mut room = 16;
    loop {
        match raw_ranges(fd, ioas, room) {
            Ok((argument, ranges)) => return from_kernel(argument, &ranges),
            Err((error, needed)) if error.errno() == libc::EMSGSIZE && needed > room => {
                room = needed;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

type RawRanges = (
    bindings::iommu_ioas_iova_ranges,
    Vec<bindings::iommu_iova_range>,
);

/// One call with room for `room` ranges; an error comes with how many there are.
#[expect(unsafe_code, reason = "an ioctl")]
fn raw_ranges(fd: &IommuFd, ioas: u32, room: u32) -> Result<RawRanges, (Errno, u32)> {
    let mut ranges = vec![bindings::iommu_iova_range::default(); room as usize];
    let mut argument = bindings::iommu_ioas_iova_ranges {
        size: size_field::<bindings::iommu_ioas_iova_ranges>(),
        ioas_id: ioas,
        num_iovas: room,
        allowed_iovas: ranges.as_mut_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `num_iovas` ranges to `allowed_iovas`, which has room for them and outlives the call.
    let called = unsafe { with_struct(fd, IOMMU_IOAS_IOVA_RANGES, &mut argument) };
    match called {
        Ok(_) => Ok((argument, ranges)),
        Err(error) => Err((error, argument.num_iovas)),
    }
}

fn from_kernel(
    argument: bindings::iommu_ioas_iova_ranges,
    ranges: &[bindings::iommu_iova_range],
) -> Result<IovaRanges, Errno> {
    let known = ranges.iter().take(argument.num_iovas as usize);
    let ranges = known.map(|range| IovaRange::new(Iova(range.start), Iova(range.last)));
    let ranges: Option<Vec<_>> = ranges.collect();
    Ok(IovaRanges {
        ranges: ranges.ok_or_else(|| Errno::new(libc::EINVAL))?,
        alignment: argument.out_iova_alignment,
    })
}

/// `IOMMU_IOAS_ALLOW_IOVAS`: keeps `ranges` usable; a device that would take some away cannot be attached any more.
///
/// # Errors
/// As the kernel says: EADDRINUSE or EINVAL when they are not usable now.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn allow_iovas(fd: &IommuFd, ioas: u32, ranges: &[IovaRange]) -> Result<(), Errno> {
    let raw: Vec<_> = ranges
        .iter()
        .map(|range| bindings::iommu_iova_range {
            start: range.start().0,
            last: range.last().0,
        })
        .collect();
    let mut argument = bindings::iommu_ioas_allow_iovas {
        size: size_field::<bindings::iommu_ioas_allow_iovas>(),
        ioas_id: ioas,
        num_iovas: u32::try_from(raw.len()).map_err(|_| Errno::new(libc::E2BIG))?,
        allowed_iovas: raw.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: the kernel reads `num_iovas` ranges, which outlive the call.
    unsafe { with_struct(fd, IOMMU_IOAS_ALLOW_IOVAS, &mut argument) }.map(drop)
}

/// `IOMMU_OPTION_HUGE_PAGES` of an IOAS: whether the host may use page-table entries larger than a page. Without them a
/// mapping can be cut.
///
/// # Errors
/// As the kernel says: EINVAL once large entries are in use.
pub fn set_huge_pages(fd: &IommuFd, ioas: u32, on: bool) -> Result<(), Errno> {
    let id = bindings::iommufd_option_IOMMU_OPTION_HUGE_PAGES;
    set_option(fd, id, ioas, u64::from(on))
}

/// `IOMMU_OPTION_RLIMIT_MODE`: counts locked memory for the process and not for the user. Only before anything is in `fd`.
///
/// # Errors
/// As the kernel says: EPERM without CAP_SYS_RESOURCE, EBUSY once there are objects.
pub fn count_locked_memory_by_process(fd: &IommuFd) -> Result<(), Errno> {
    set_option(fd, bindings::iommufd_option_IOMMU_OPTION_RLIMIT_MODE, 0, 1)
}

#[expect(unsafe_code, reason = "an ioctl")]
fn set_option(fd: &IommuFd, option: u32, object: u32, value: u64) -> Result<(), Errno> {
    let mut argument = bindings::iommu_option {
        size: size_field::<bindings::iommu_option>(),
        option_id: option,
        op: OPTION_SET,
        object_id: object,
        val64: value,
        ..Default::default()
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(fd, IOMMU_OPTION, &mut argument) }.map(drop)
}

/// `IOMMU_VFIO_IOAS_SET`: the IOAS on which this descriptor's type1 calls act.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn select_compat_ioas(fd: &IommuFd, ioas: u32) -> Result<(), Errno> {
    let mut argument = bindings::iommu_vfio_ioas {
        size: size_field::<bindings::iommu_vfio_ioas>(),
        ioas_id: ioas,
        op: COMPAT_IOAS_SET,
        ..Default::default()
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(fd, IOMMU_VFIO_IOAS, &mut argument) }.map(drop)
}

/// `IOMMU_GET_HW_INFO`.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "a union of two names for one number")]
pub fn hardware_info(fd: &IommuFd, device: u32) -> Result<HardwareInfo, Errno> {
    let mut vtd = bindings::iommu_hw_info_vtd::default();
    let mut argument = bindings::iommu_hw_info {
        size: size_field::<bindings::iommu_hw_info>(),
        dev_id: device,
        data_len: size_field::<bindings::iommu_hw_info_vtd>(),
        data_uptr: &raw mut vtd as u64,
        ..Default::default()
    };
    fd.get_hw_info(&mut argument)
        .map_err(|error| errno(&error))?;
    // SAFETY: both fields of the union are the same 32-bit number.
    let kind = unsafe { argument.__bindgen_anon_1.out_data_type };
    let is_vtd = kind == bindings::iommu_hw_info_type_IOMMU_HW_INFO_TYPE_INTEL_VTD;
    Ok(HardwareInfo {
        vtd: is_vtd.then_some(VtdRegisters {
            cap: vtd.cap_reg,
            ecap: vtd.ecap_reg,
        }),
        pasid_bits: argument.out_max_pasid_log2,
        capabilities: argument.out_capabilities,
    })
}
