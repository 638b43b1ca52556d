// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sizes of structures and numbers of calls, as include/uapi/linux/{vfio,iommufd}.h of Linux 7.2 gives them.

use super::*;
use iommufd_bindings as bindings;
use vfio_bindings::bindings::vfio;

/// Checks the bytes of each structure.
macro_rules! sizes {
    ($($structure:ty = $bytes:literal),+ $(,)?) => {
        $(assert_eq!(size_of::<$structure>(), $bytes, stringify!($structure));)+
    };
}

#[test]
fn structures_have_the_sizes_of_the_kernels_headers() {
    sizes! {
        bindings::iommu_ioas_allow_iovas = 24,
        bindings::iommu_ioas_copy = 40,
        bindings::iommu_ioas_iova_ranges = 32,
        bindings::iommu_iova_range = 16,
        bindings::iommu_ioas_map = 40,
        bindings::iommu_ioas_unmap = 24,
        bindings::iommu_option = 24,
        bindings::iommu_vfio_ioas = 12,
        bindings::iommu_hwpt_alloc = 48,
        bindings::iommu_hw_info = 40,
        bindings::iommu_hw_info_vtd = 24,
        bindings::iommu_hwpt_vtd_s1 = 24,
        bindings::iommu_hwpt_invalidate = 32,
        bindings::iommu_hwpt_vtd_s1_invalidate = 24,
        bindings::iommu_fault_alloc = 16,
        bindings::iommu_hwpt_pgfault = 40,
        bindings::iommu_hwpt_page_response = 8,
        vfio::vfio_iommu_type1_dma_map = 32,
        vfio::vfio_iommu_type1_dma_unmap = 24,
        vfio::vfio_iommu_type1_info = 24,
        vfio::vfio_device_bind_iommufd = 24,
        vfio::vfio_device_attach_iommufd_pt = 16,
        vfio::vfio_device_detach_iommufd_pt = 12,
        vfio::vfio_device_info = 24,
        vfio::vfio_region_info = 32,
        vfio::vfio_irq_info = 16,
        vfio::vfio_group_status = 8,
    }
}

#[test]
fn calls_have_the_numbers_of_the_kernels_headers() {
    assert_eq!(container::VFIO_GET_API_VERSION, 0x3b64);
    assert_eq!(container::VFIO_CHECK_EXTENSION, 0x3b65);
    assert_eq!(container::VFIO_SET_IOMMU, 0x3b66);
    assert_eq!(group::VFIO_GROUP_GET_STATUS, 0x3b67);
    assert_eq!(group::VFIO_GROUP_SET_CONTAINER, 0x3b68);
    assert_eq!(group::VFIO_GROUP_GET_DEVICE_FD, 0x3b6a);
    assert_eq!(device::VFIO_DEVICE_GET_INFO, 0x3b6b);
    assert_eq!(device::VFIO_DEVICE_SET_IRQS, 0x3b6e);
    assert_eq!(device::VFIO_DEVICE_RESET, 0x3b6f);
    assert_eq!(device::VFIO_DEVICE_PCI_HOT_RESET, 0x3b71);
    assert_eq!(device::VFIO_DEVICE_BIND_IOMMUFD, 0x3b76);
    assert_eq!(device::VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0x3b77);
    assert_eq!(device::VFIO_DEVICE_DETACH_IOMMUFD_PT, 0x3b78);
    assert_eq!(type1::VFIO_IOMMU_GET_INFO, 0x3b70);
    assert_eq!(type1::VFIO_IOMMU_MAP_DMA, 0x3b71);
    assert_eq!(type1::VFIO_IOMMU_UNMAP_DMA, 0x3b72);
    assert_eq!(iommufd::IOMMU_IOAS_ALLOW_IOVAS, 0x3b82);
    assert_eq!(iommufd::IOMMU_IOAS_COPY, 0x3b83);
    assert_eq!(iommufd::IOMMU_IOAS_IOVA_RANGES, 0x3b84);
    assert_eq!(iommufd::IOMMU_OPTION, 0x3b87);
    assert_eq!(iommufd::IOMMU_VFIO_IOAS, 0x3b88);
    assert_eq!(fault_queue::IOMMU_FAULT_QUEUE_ALLOC, 0x3b8e);
}

#[test]
fn errors_keep_the_kernels_number() {
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(type1::unmap_all(&null).unwrap_err().errno(), libc::ENOTTY);
    assert_eq!(
        super::device::reset(&null).unwrap_err().errno(),
        libc::ENOTTY
    );
}

#[test]
fn invalidated_ranges_are_whole_pages() {
    use crate::nested::Flush;
    use iommu::address::{Iova, IovaRange};
    let entry = |range, leaf_only| {
        let entry = nesting::entry(&Flush { range, leaf_only });
        (entry.addr, entry.npages, entry.flags)
    };
    let range = |start, last| IovaRange::new(Iova(start), Iova(last)).unwrap();
    assert_eq!(entry(range(0x5000, 0x5fff), true), (0x5000, 1, 1));
    assert_eq!(entry(range(0x5800, 0x6000), false), (0x5000, 2, 0));
    assert_eq!(entry(IovaRange::ALL, false), (0, u64::MAX, 0));
    let half = range(1 << 63, u64::MAX);
    assert_eq!(entry(half, false), (1 << 63, 1 << 51, 0));
}

#[test]
fn fault_records_are_read_as_the_kernel_writes_them() {
    use fault_queue::HostPageRequest;
    use iommu::{address::Iova, ids::Pasid};
    let words = [3u32, 7, 0x12, 5, 3, 0, 0x5000, 0x7f, 0, 99];
    let record: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert_eq!(record.len(), fault_queue::RECORD);
    let expected = HostPageRequest {
        device: 7,
        pasid: Pasid::new(0x12),
        group: 5,
        address: Iova(0x7f_0000_5000),
        read: true,
        write: true,
        execute: false,
        privileged: false,
        last: true,
        cookie: 99,
    };
    assert_eq!(fault_queue::parse(&record), Some(expected));
    let mut without = record.clone();
    without[0] = 2;
    let parsed = fault_queue::parse(&without).unwrap();
    assert_eq!((parsed.pasid, parsed.last), (None, true));
    let mut wide = record;
    wide[11] = 0xff;
    assert_eq!(fault_queue::parse(&wide), None, "no PASID has so many bits");
}
