// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls on the file of a VFIO device, which a group hands out or `/dev/vfio/devices/vfioN` is.

use super::{Errno, chain, io, result, size_field, with_number, with_struct};
use iommu::ids::Pasid;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::raw::c_ulong;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_DETACH_PASID,
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
    vfio_device_info, vfio_irq_info,
};
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

pub(super) const VFIO_DEVICE_GET_INFO: c_ulong = io(VFIO_BASE + 7);
pub(super) const VFIO_DEVICE_GET_REGION_INFO: c_ulong = io(VFIO_BASE + 8);
pub(super) const VFIO_DEVICE_GET_IRQ_INFO: c_ulong = io(VFIO_BASE + 9);
pub(super) const VFIO_DEVICE_SET_IRQS: c_ulong = io(VFIO_BASE + 10);
pub(super) const VFIO_DEVICE_RESET: c_ulong = io(VFIO_BASE + 11);
pub(super) const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: c_ulong = io(VFIO_BASE + 12);
pub(super) const VFIO_DEVICE_PCI_HOT_RESET: c_ulong = io(VFIO_BASE + 13);
pub(super) const VFIO_DEVICE_BIND_IOMMUFD: c_ulong = io(VFIO_BASE + 18);
pub(super) const VFIO_DEVICE_ATTACH_IOMMUFD_PT: c_ulong = io(VFIO_BASE + 19);
pub(super) const VFIO_DEVICE_DETACH_IOMMUFD_PT: c_ulong = io(VFIO_BASE + 20);

/// Bytes of the fixed part of `struct vfio_region_info`.
const REGION_HEADER: u32 = 32;
/// Bytes of the fixed part of `struct vfio_pci_hot_reset_info`.
const HOT_RESET_HEADER: u32 = 12;
/// More than any kernel answers with.
const ANSWER_LIMIT: u32 = 1 << 20;

/// `VFIO_DEVICE_BIND_IOMMUFD`: the id by which iommufd knows the device from now on.
///
/// # Errors
/// As the kernel says: EPERM without interrupt remapping, EBUSY when the group is used elsewhere, EINVAL for a second time.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn bind_iommufd(device: &File, iommufd: &impl AsRawFd) -> Result<u32, Errno> {
    let mut argument = vfio_device_bind_iommufd {
        argsz: size_field::<vfio_device_bind_iommufd>(),
        flags: 0,
        iommufd: iommufd.as_raw_fd(),
        out_devid: 0,
        token_uuid_ptr: 0,
    };
    // SAFETY: the structure is the call's; the only address in it is unused without its flag.
    unsafe { with_struct(device, VFIO_DEVICE_BIND_IOMMUFD, &mut argument) }?;
    Ok(argument.out_devid)
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: attaches the device, or one PASID of it, to a HWPT in place of the one it has.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn attach(device: &File, pasid: Option<Pasid>, hwpt: u32) -> Result<(), Errno> {
    let mut argument = vfio_device_attach_iommufd_pt {
        argsz: attach_size(size_field::<vfio_device_attach_iommufd_pt>(), pasid),
        flags: pasid.map_or(0, |_| VFIO_DEVICE_ATTACH_PASID),
        pt_id: hwpt,
        pasid: pasid.map_or(0, Pasid::get),
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut argument) }.map(drop)
}

/// `VFIO_DEVICE_DETACH_IOMMUFD_PT`: the device, or one PASID of it, reaches nothing any more.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn detach(device: &File, pasid: Option<Pasid>) -> Result<(), Errno> {
    let mut argument = vfio_device_detach_iommufd_pt {
        argsz: attach_size(size_field::<vfio_device_detach_iommufd_pt>(), pasid),
        flags: pasid.map_or(0, |_| VFIO_DEVICE_DETACH_PASID),
        pasid: pasid.map_or(0, Pasid::get),
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &mut argument) }.map(drop)
}

/// Kernels before PASIDs know the structures without their last field.
const fn attach_size(size: u32, pasid: Option<Pasid>) -> u32 {
    if pasid.is_some() { size } else { size - 4 }
}

/// What `VFIO_DEVICE_GET_INFO` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `VFIO_DEVICE_FLAGS_*`.
    pub flags: u32,
    /// Regions, by index from 0.
    pub regions: u32,
    /// Interrupts, by index from 0.
    pub irqs: u32,
}

/// `VFIO_DEVICE_GET_INFO`.
///
/// # Errors
/// As the kernel says.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn info(device: &File) -> Result<DeviceInfo, Errno> {
    let mut argument = vfio_device_info {
        argsz: size_field::<vfio_device_info>(),
        ..vfio_device_info::default()
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(device, VFIO_DEVICE_GET_INFO, &mut argument) }?;
    Ok(DeviceInfo {
        flags: argument.flags,
        regions: argument.num_regions,
        irqs: argument.num_irqs,
    })
}

/// What `VFIO_DEVICE_GET_REGION_INFO` says of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionInfo {
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub flags: u32,
    /// Bytes; 0 when the device does not have it.
    pub size: u64,
    /// Where it begins in the device's file.
    pub offset: u64,
    /// The parts that can be mapped, as (offset in the region, bytes); `None` when the whole can.
    pub mappable: Option<Vec<(u64, u64)>>,
    /// The part with the MSI-X table can be mapped as well.
    pub msix_mappable: bool,
}

/// `VFIO_DEVICE_GET_REGION_INFO` of the region `index`.
///
/// # Errors
/// As the kernel says: EINVAL for a region that the device cannot have; EINVAL also for an answer that contradicts itself.
pub fn region(device: &File, index: u32) -> Result<RegionInfo, Errno> {
    let question = |bytes| [bytes, 0, index, 0, 0, 0, 0, 0].to_vec();
    let answer = sized(device, VFIO_DEVICE_GET_REGION_INFO, REGION_HEADER, question)?;
    parse_region(&answer).ok_or_else(|| Errno::new(libc::EINVAL))
}

fn parse_region(answer: &[u8]) -> Option<RegionInfo> {
    let mut region = RegionInfo {
        flags: word(answer, 4)?,
        size: long(answer, 16)?,
        offset: long(answer, 24)?,
        ..RegionInfo::default()
    };
    for (id, at) in chain::capabilities(answer, word(answer, 12)?)? {
        match u32::from(id) {
            VFIO_REGION_INFO_CAP_SPARSE_MMAP => {
                let count = word(answer, at + 8)? as usize;
                let areas = (0..count).map(|area| at + 16 + 16 * area);
                let areas = areas.map(|area| Some((long(answer, area)?, long(answer, area + 8)?)));
                region.mappable = Some(areas.collect::<Option<_>>()?);
            }
            VFIO_REGION_INFO_CAP_MSIX_MAPPABLE => region.msix_mappable = true,
            _ => {}
        }
    }
    Some(region)
}

/// What `VFIO_DEVICE_GET_IRQ_INFO` says of one kind of interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqInfo {
    /// `VFIO_IRQ_INFO_*`.
    pub flags: u32,
    /// How many vectors.
    pub count: u32,
}

/// `VFIO_DEVICE_GET_IRQ_INFO` of the interrupts `index`.
///
/// # Errors
/// As the kernel says: EINVAL for a kind that the device cannot have.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn irq(device: &File, index: u32) -> Result<IrqInfo, Errno> {
    let mut argument = vfio_irq_info {
        argsz: size_field::<vfio_irq_info>(),
        index,
        ..vfio_irq_info::default()
    };
    // SAFETY: the structure is the call's and holds no address.
    unsafe { with_struct(device, VFIO_DEVICE_GET_IRQ_INFO, &mut argument) }?;
    Ok(IrqInfo {
        flags: argument.flags,
        count: argument.count,
    })
}

/// Which interrupts a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irqs {
    /// The kind, `VFIO_PCI_*_IRQ_INDEX`.
    pub index: u32,
    /// The first vector.
    pub start: u32,
    /// How many; 0 with `VFIO_IRQ_SET_ACTION_TRIGGER` takes the whole kind down.
    pub count: u32,
}

/// `VFIO_DEVICE_SET_IRQS` without data: `flags` say what happens to the vectors.
///
/// # Errors
/// As the kernel says.
pub fn set_irqs(device: &File, flags: u32, irqs: Irqs) -> Result<(), Errno> {
    send_irqs(device, vec![20, flags, irqs.index, irqs.start, irqs.count])
}

/// `VFIO_DEVICE_SET_IRQS` with one descriptor a vector from `start` on; `None` takes the vector's away.
///
/// # Errors
/// As the kernel says.
pub fn set_irq_files(
    device: &File,
    flags: u32,
    (index, start): (u32, u32),
    files: &[Option<BorrowedFd<'_>>],
) -> Result<(), Errno> {
    let too_many = |_| Errno::new(libc::E2BIG);
    let count = u32::try_from(files.len()).map_err(too_many)?;
    let mut argument = vec![20 + 4 * count, flags, index, start, count];
    let numbers = files
        .iter()
        .map(|file| file.as_ref().map_or(-1, AsRawFd::as_raw_fd));
    argument.extend(numbers.map(i32::cast_unsigned));
    send_irqs(device, argument)
}

/// The words of `struct vfio_irq_set` with its data; the first says how many bytes they are.
#[expect(unsafe_code, reason = "an ioctl")]
fn send_irqs(device: &File, mut argument: Vec<u32>) -> Result<(), Errno> {
    // SAFETY: the kernel reads `argsz` bytes, the first word, which is what the words take.
    let returned =
        unsafe { ioctl_with_mut_ptr(device, VFIO_DEVICE_SET_IRQS, argument.as_mut_ptr()) };
    result(returned).map(drop)
}

/// `VFIO_DEVICE_RESET`: a function level reset, or what the kernel has in its place.
///
/// # Errors
/// As the kernel says: EINVAL or ENOTTY for a device that cannot be reset alone.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn reset(device: &File) -> Result<(), Errno> {
    // SAFETY: the call takes no argument.
    unsafe { with_number(device, VFIO_DEVICE_RESET, 0) }.map(drop)
}

/// A device that a reset of the bus hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// The IOMMU group, or the id that iommufd has for it: 0 when we have it through another group we hold, -1 as an
    /// unsigned number when it is not ours.
    pub owner: u32,
    /// PCI segment.
    pub segment: u16,
    /// Bus.
    pub bus: u8,
    /// Device number << 3 | function.
    pub devfn: u8,
}

/// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`: the devices that a reset of this one's bus hits.
///
/// # Errors
/// As the kernel says: ENODEV when the bus cannot be reset.
pub fn hot_reset_info(device: &File) -> Result<Vec<Dependent>, Errno> {
    let question = |bytes| {
        let mut words = vec![0; (bytes as usize).div_ceil(4)];
        words[0] = bytes;
        words
    };
    // The kernel says ENOSPC and how many there are when they do not fit; 256 functions fit on any bus.
    let room = HOT_RESET_HEADER + 8 * 256;
    let answer = sized(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, room, question)?;
    parse_dependents(&answer).ok_or_else(|| Errno::new(libc::EINVAL))
}

fn parse_dependents(answer: &[u8]) -> Option<Vec<Dependent>> {
    let count = word(answer, 8)? as usize;
    let entries = (0..count).map(|index| 12 + 8 * index);
    entries
        .map(|at| {
            let place = answer.get(at + 4..at + 8)?;
            Some(Dependent {
                owner: word(answer, at)?,
                segment: u16::from_ne_bytes([place[0], place[1]]),
                bus: place[2],
                devfn: place[3],
            })
        })
        .collect()
}

/// `VFIO_DEVICE_PCI_HOT_RESET`: resets the bus. `groups` are the files of all groups that it hits; none with iommufd,
/// which knows them.
///
/// # Errors
/// As the kernel says: EINVAL or EPERM when a device that it hits is not ours.
pub fn hot_reset(device: &File, groups: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let count = u32::try_from(groups.len()).map_err(|_| Errno::new(libc::E2BIG))?;
    let mut argument = vec![HOT_RESET_HEADER + 4 * count, 0, count];
    argument.extend(groups.iter().map(|group| group.as_raw_fd().cast_unsigned()));
    send_hot_reset(device, argument)
}

#[expect(unsafe_code, reason = "an ioctl")]
fn send_hot_reset(device: &File, mut argument: Vec<u32>) -> Result<(), Errno> {
    // SAFETY: the kernel reads `argsz` bytes, the first word, which is what the words take.
    let returned =
        unsafe { ioctl_with_mut_ptr(device, VFIO_DEVICE_PCI_HOT_RESET, argument.as_mut_ptr()) };
    result(returned).map(drop)
}

/// Asks a question whose answer says in its first word how many bytes it has, again until they fit.
fn sized(
    device: &File,
    request: c_ulong,
    first: u32,
    question: impl Fn(u32) -> Vec<u32>,
) -> Result<Vec<u8>, Errno> {
    let mut bytes = first;
    loop {
        let mut words = question(bytes);
        words.resize((bytes as usize).div_ceil(4), 0);
        ask(device, request, &mut words)?;
        if words[0] <= bytes {
            return Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect());
        }
        if words[0] > ANSWER_LIMIT {
            return Err(Errno::new(libc::EINVAL));
        }
        bytes = words[0];
    }
}

#[expect(unsafe_code, reason = "an ioctl")]
fn ask(device: &File, request: c_ulong, words: &mut [u32]) -> Result<(), Errno> {
    // SAFETY: the kernel writes at most `argsz` bytes, the first word, and the words are as many.
    let returned = unsafe { ioctl_with_mut_ptr(&device.as_fd(), request, words.as_mut_ptr()) };
    result(returned).map(drop)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let long = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(long.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn region_with_a_trapped_table_has_the_parts_around_it() {
        let bytes = answer(&[
            80,
            0xf,
            0,
            32,
            0x4000,
            0,
            0,
            0x100, // argsz, flags, index, capability, size, offset
            1 << 16 | 1,
            0,
            2,
            0, // SPARSE_MMAP, two areas
            0,
            0,
            0x2000,
            0,
            0x3000,
            0,
            0x1000,
            0,
        ]);
        assert_eq!(
            parse_region(&bytes),
            Some(RegionInfo {
                flags: 0xf,
                size: 0x4000,
                offset: 0x100_0000_0000,
                mappable: Some(vec![(0, 0x2000), (0x3000, 0x1000)]),
                msix_mappable: false,
            })
        );
    }

    #[test]
    fn region_without_capabilities_is_mapped_whole() {
        let bytes = answer(&[32, 0x7, 0, 0, 0x10_0000, 0, 0, 0]);
        assert_eq!(parse_region(&bytes).unwrap().mappable, None);
    }

    #[test]
    fn region_with_areas_beyond_the_answer_is_refused() {
        let bytes = answer(&[48, 0xf, 0, 32, 0x4000, 0, 0, 0, 1 << 16 | 1, 0, 2, 0]);
        assert_eq!(parse_region(&bytes), None);
    }

    #[test]
    fn dependents_of_a_bus_reset_are_named_by_their_place() {
        let bytes = answer(&[28, 0, 2, 7, 0x0803_0000, 0xffff_ffff, 0x1903_0001]);
        let found = parse_dependents(&bytes).unwrap();
        assert_eq!(
            found[0],
            Dependent {
                owner: 7,
                segment: 0,
                bus: 3,
                devfn: 8
            }
        );
        assert_eq!((found[1].segment, found[1].devfn), (1, 0x19));
        assert_eq!(parse_dependents(&bytes[..24]), None);
    }
}
