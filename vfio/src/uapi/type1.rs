// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Calls of the type1 I/O page table driver on a container. iommufd answers them too, for the IOAS that
//! [`super::iommufd::select_compat_ioas`] chose.

use super::{Errno, io, result, size_field, with_struct};
use crate::ram::HostVa;
use crate::run::Rights;
use iommu::address::{Iova, IovaRange};
use std::os::fd::AsRawFd;
use std::os::raw::c_ulong;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
};
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;

pub(super) const VFIO_IOMMU_GET_INFO: c_ulong = io(VFIO_BASE + 12);
pub(super) const VFIO_IOMMU_MAP_DMA: c_ulong = io(VFIO_BASE + 13);
pub(super) const VFIO_IOMMU_UNMAP_DMA: c_ulong = io(VFIO_BASE + 14);

/// Capability of `VFIO_IOMMU_GET_INFO` with the number of mappings that are left.
const CAP_DMA_AVAIL: u16 = 3;
/// Capability with the addresses that can be mapped.
const CAP_IOVA_RANGE: u16 = {
    assert!(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE == 1);
    1
};
/// Bytes of the fixed part of `struct vfio_iommu_type1_info`.
const INFO_HEADER: u32 = 24;
/// More than any kernel answers with: a range takes 16 bytes.
const INFO_LIMIT: u32 = 1 << 20;

/// What `VFIO_IOMMU_GET_INFO` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Page sizes in bytes, one bit each.
    pub page_sizes: u64,
    /// The addresses that can be mapped; `None` when the container restricts none.
    pub ranges: Option<Vec<IovaRange>>,
    /// How many more mappings fit; `None` when the kernel does not say.
    pub available: Option<u32>,
}

/// `VFIO_IOMMU_GET_INFO`.
///
/// # Errors
/// As the kernel says; EINVAL for an answer that contradicts itself.
pub fn info(container: &impl AsRawFd) -> Result<Info, Errno> {
    let mut bytes = INFO_HEADER;
    loop {
        let answer = raw_info(container, bytes)?;
        let needed = word(&answer, 0).unwrap_or_default();
        if needed <= bytes {
            return parse_info(&answer).ok_or_else(|| Errno::new(libc::EINVAL));
        }
        if needed > INFO_LIMIT {
            return Err(Errno::new(libc::EINVAL));
        }
        bytes = needed;
    }
}

#[expect(unsafe_code, reason = "an ioctl")]
fn raw_info(container: &impl AsRawFd, bytes: u32) -> Result<Vec<u8>, Errno> {
    // Eight-byte elements, because the structure is aligned so.
    let mut buffer = vec![0u64; (bytes as usize).div_ceil(8)];
    buffer[0] = u64::from(bytes);
    // SAFETY: the kernel writes at most `argsz` bytes, the first field, and the buffer has as many.
    let returned =
        unsafe { ioctl_with_mut_ptr(container, VFIO_IOMMU_GET_INFO, buffer.as_mut_ptr()) };
    result(returned)?;
    Ok(buffer.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let long = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(long.try_into().ok()?))
}

/// Reads `struct vfio_iommu_type1_info` and the capabilities behind it; `None` when they do not lie in `bytes`.
fn parse_info(bytes: &[u8]) -> Option<Info> {
    let flags = word(bytes, 4)?;
    let mut info = Info {
        // Kernels without the flag have 4 KiB pages and all multiples.
        page_sizes: if flags & VFIO_IOMMU_INFO_PGSIZES == 0 {
            !0xfff
        } else {
            long(bytes, 8)?
        },
        ranges: None,
        available: None,
    };
    if flags & VFIO_IOMMU_INFO_CAPS == 0 {
        return Some(info);
    }
    for (id, at) in super::chain::capabilities(bytes, word(bytes, 16)?)? {
        match id {
            CAP_IOVA_RANGE => info.ranges = Some(iova_ranges(bytes, at)?),
            CAP_DMA_AVAIL => info.available = Some(word(bytes, at + 8)?),
            _ => {}
        }
    }
    Some(info)
}

fn iova_ranges(bytes: &[u8], at: usize) -> Option<Vec<IovaRange>> {
    let count = word(bytes, at + 8)? as usize;
    let pairs = (0..count).map(|index| at + 16 + 16 * index);
    pairs
        .map(|pair| IovaRange::new(Iova(long(bytes, pair)?), Iova(long(bytes, pair + 8)?)))
        .collect()
}

/// `VFIO_IOMMU_MAP_DMA`: maps `length` bytes of this process at `host`.
///
/// # Errors
/// As the kernel says: EEXIST for an overlap, ENOSPC for the limit of entries, ENOMEM for locked memory, EINVAL for what is
/// misaligned or out of range.
#[expect(unsafe_code, reason = "an ioctl")]
pub fn map(
    container: &impl AsRawFd,
    iova: Iova,
    length: u64,
    host: HostVa,
    rights: Rights,
) -> Result<(), Errno> {
    let read = if rights.read() {
        VFIO_DMA_MAP_FLAG_READ
    } else {
        0
    };
    let write = if rights.write() {
        VFIO_DMA_MAP_FLAG_WRITE
    } else {
        0
    };
    let mut argument = vfio_iommu_type1_dma_map {
        argsz: size_field::<vfio_iommu_type1_dma_map>(),
        flags: read | write,
        vaddr: host.0,
        iova: iova.0,
        size: length,
    };
    // SAFETY: the structure is the call's; the memory behind `vaddr` is pinned by the kernel, or refused with EFAULT. That a
    // device may write it is the meaning of the call: whoever made the `HostVa` says that it is memory of the guest.
    unsafe { with_struct(container, VFIO_IOMMU_MAP_DMA, &mut argument) }.map(drop)
}

/// `VFIO_IOMMU_UNMAP_DMA` of `length` bytes; returns the bytes removed.
///
/// # Errors
/// As the kernel says: EINVAL when the range cuts a mapping (on iommufd ENOENT, or no error where it can cut).
pub fn unmap(container: &impl AsRawFd, iova: Iova, length: u64) -> Result<u64, Errno> {
    unmap_with(container, 0, iova, length)
}

/// `VFIO_IOMMU_UNMAP_DMA` of everything (`VFIO_UNMAP_ALL`); returns the bytes removed.
///
/// # Errors
/// As the kernel says: EINVAL where it cannot do so.
pub fn unmap_all(container: &impl AsRawFd) -> Result<u64, Errno> {
    unmap_with(container, VFIO_DMA_UNMAP_FLAG_ALL, Iova(0), 0)
}

#[expect(unsafe_code, reason = "an ioctl")]
fn unmap_with(container: &impl AsRawFd, flags: u32, iova: Iova, length: u64) -> Result<u64, Errno> {
    let mut argument = vfio_iommu_type1_dma_unmap {
        argsz: size_field::<vfio_iommu_type1_dma_unmap>(),
        flags,
        iova: iova.0,
        size: length,
        ..vfio_iommu_type1_dma_unmap::default()
    };
    // SAFETY: the structure is the call's and holds no address; without a flag for dirty pages nothing follows it.
    unsafe { with_struct(container, VFIO_IOMMU_UNMAP_DMA, &mut argument) }?;
    Ok(argument.size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct vfio_iommu_type1_info` with capabilities, as a 7.2 kernel lays it out.
    fn answer(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn info_of_an_intel_host_has_ranges_and_what_is_left() {
        let bytes = answer(&[
            88,
            3,
            0x4020_1000,
            0,
            24,
            0, // argsz, flags, page sizes, first capability
            1 << 16 | 3,
            40,
            65535,
            0, // DMA_AVAIL, next at 40
            1 << 16 | 1,
            0,
            2,
            0, // IOVA_RANGE, two ranges
            0,
            0,
            0xfedf_ffff,
            0,
            0xfef0_0000,
            0,
            0xffff_ffff,
            0x7f,
        ]);
        let range = |start, last| IovaRange::new(Iova(start), Iova(last)).unwrap();
        assert_eq!(
            parse_info(&bytes),
            Some(Info {
                page_sizes: 0x4020_1000,
                ranges: Some(vec![
                    range(0, 0xfedf_ffff),
                    range(0xfef0_0000, 0x7f_ffff_ffff)
                ]),
                available: Some(65535),
            })
        );
    }

    #[test]
    fn info_without_capabilities_restricts_nothing() {
        let bytes = answer(&[24, 1, 0x1000, 0, 0, 0]);
        let info = parse_info(&bytes).unwrap();
        assert_eq!(
            (info.page_sizes, info.ranges, info.available),
            (0x1000, None, None)
        );
    }

    #[test]
    fn info_that_points_beyond_its_end_is_refused() {
        assert_eq!(
            parse_info(&answer(&[24, 3, 0x1000, 0, 4096, 0])),
            None,
            "capability beyond the end"
        );
        let endless = [40, 3, 0x1000, 0, 24, 0, 9, 24, 0, 0];
        assert_eq!(parse_info(&answer(&endless)), None, "a loop");
        let short = [40, 3, 0x1000, 0, 24, 0, 1, 0, 1000, 0];
        assert_eq!(parse_info(&answer(&short)), None, "ranges beyond the end");
    }
}
