// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nested page tables of Intel units: `IOMMU_HWPT_ALLOC` with `IOMMU_HWPT_DATA_VTD_S1`, and `IOMMU_HWPT_INVALIDATE`.

use super::{Errno, iommufd::errno, size_field};
use crate::nested::{Flush, NestedTable};
use iommu::address::{IovaRange, PAGE_SIZE};
use iommufd_bindings as bindings;
use iommufd_ioctls::IommuFd;

/// Entries in one call; the kernel takes 2^19.
const MOST_ENTRIES: usize = 4096;

/// The page table that a nested one stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub id: u32,
    /// PASIDs can be attached to it, and then to what stands on it.
    pub takes_pasids: bool,
}

/// Makes a nested page table for the unit of `device`, on `parent` of the same unit; returns its id. One that asks for page
/// requests sends them to the fault queue `faults`.
///
/// The kernel checks width and flags against the hardware only when the table is attached, and the table's address never.
///
/// # Errors
/// As the kernel says: EOPNOTSUPP when the unit does not nest; EINVAL for a parent that is none; EINVAL too for page requests
/// without a queue.
pub fn allocate(
    fd: &IommuFd,
    device: u32,
    parent: Parent,
    table: &NestedTable,
    faults: Option<u32>,
) -> Result<u32, Errno> {
    let flags = [
        (
            table.supervisor,
            bindings::iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_SRE,
        ),
        (
            table.write_protect,
            bindings::iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_WPE,
        ),
        (
            table.extended_accessed,
            bindings::iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_EAFE,
        ),
    ];
    let data = bindings::iommu_hwpt_vtd_s1 {
        flags: flags
            .iter()
            .filter(|(on, _)| *on)
            .fold(0, |all, (_, flag)| all | u64::from(*flag)),
        pgtbl_addr: table.table.0,
        addr_width: table.width,
        ..Default::default()
    };
    let mut argument = bindings::iommu_hwpt_alloc {
        size: size_field::<bindings::iommu_hwpt_alloc>(),
        dev_id: device,
        pt_id: parent.id,
        data_type: bindings::iommu_hwpt_data_type_IOMMU_HWPT_DATA_VTD_S1,
        data_len: size_field::<bindings::iommu_hwpt_vtd_s1>(),
        data_uptr: &raw const data as u64,
        ..Default::default()
    };
    if parent.takes_pasids {
        argument.flags |= bindings::iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_PASID;
    }
    if table.page_requests {
        argument.flags |= bindings::iommufd_hwpt_alloc_flags_IOMMU_HWPT_FAULT_ID_VALID;
        argument.fault_id = faults.ok_or_else(|| Errno::new(libc::EINVAL))?;
    }
    fd.alloc_iommu_hwpt(&mut argument)
        .map_err(|error| errno(&error))?;
    Ok(argument.out_hwpt_id)
}

/// `IOMMU_HWPT_INVALIDATE`: the unit, and the devices behind it, drop what is named of a nested page table. One call unless
/// there are thousands of ranges.
///
/// # Errors
/// As the kernel says. Some ranges may have been dropped by then.
pub fn invalidate(fd: &IommuFd, hwpt: u32, flushes: &[Flush]) -> Result<(), Errno> {
    let entries: Vec<_> = flushes.iter().map(entry).collect();
    for mut part in entries.chunks(MOST_ENTRIES) {
        while !part.is_empty() {
            let done = invalidate_part(fd, hwpt, part)?;
            // The kernel reports what it did of a call that it ended early.
            part = part.get(done.max(1)..).unwrap_or_default();
        }
    }
    Ok(())
}

fn invalidate_part(
    fd: &IommuFd,
    hwpt: u32,
    entries: &[bindings::iommu_hwpt_vtd_s1_invalidate],
) -> Result<usize, Errno> {
    let mut argument = bindings::iommu_hwpt_invalidate {
        size: size_field::<bindings::iommu_hwpt_invalidate>(),
        hwpt_id: hwpt,
        data_uptr: entries.as_ptr() as u64,
        data_type: bindings::iommu_hwpt_invalidate_data_type_IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
        entry_len: size_field::<bindings::iommu_hwpt_vtd_s1_invalidate>(),
        entry_num: u32::try_from(entries.len()).map_err(|_| Errno::new(libc::EINVAL))?,
        ..Default::default()
    };
    fd.invalidate_hwpt(&mut argument)
        .map_err(|error| errno(&error))?;
    Ok(argument.entry_num as usize)
}

/// Whole pages: a range that is none is widened.
pub(super) fn entry(flush: &Flush) -> bindings::iommu_hwpt_vtd_s1_invalidate {
    let flags = if flush.leaf_only {
        bindings::iommu_hwpt_vtd_s1_invalidate_flags_IOMMU_VTD_INV_FLAGS_LEAF
    } else {
        0
    };
    let (addr, npages) = if flush.range == IovaRange::ALL {
        (0, u64::MAX)
    } else {
        let first = flush.range.start().0 / PAGE_SIZE;
        let last = flush.range.last().0 / PAGE_SIZE;
        (first * PAGE_SIZE, last - first + 1)
    };
    bindings::iommu_hwpt_vtd_s1_invalidate {
        addr,
        npages,
        flags,
        ..Default::default()
    }
}
