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
