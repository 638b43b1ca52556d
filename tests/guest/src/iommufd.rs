// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! iommufd: address spaces (IOAS), page tables over them (HWPT), tables that the program writes itself (nested HWPT), dirty
//! tracking and fault queues. Objects live until the file is closed, unless they are destroyed before.

pub mod faults;

use std::fs::{File, OpenOptions};
use std::io;

use anyhow::{Context, Result};
use iommufd_bindings::iommufd as iommu;

use crate::ioctl::{call, call_on, open, size};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use faults::FaultQueue;

/// What the kernel calls an object of one iommufd.
pub type ObjectId = u32;

/// What a HWPT is for; flags of `IOMMU_HWPT_ALLOC`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purpose {
    /// Nested HWPTs may stand on it.
    pub parent: bool,
    /// It can record what the device writes.
    pub dirty: bool,
    /// It, and others for the same device, may be attached to PASIDs.
    pub pasid: bool,
    /// Page requests go into this fault queue.
    pub faults: Option<ObjectId>,
}

/// An open `/dev/iommu`.
pub struct Iommufd(File);

impl Iommufd {
    /// Opens it.
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/iommu");
        Ok(Self(file.context("opening /dev/iommu")?))
    }

    /// Its file.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// An empty address space.
    pub fn ioas(&self) -> Result<ObjectId> {
        let mut alloc = iommu::iommu_ioas_alloc {
            size: size::<iommu::iommu_ioas_alloc>(),
            ..Default::default()
        };
        call(&self.0, &mut alloc).context("making an IOAS")?;
        Ok(alloc.out_ioas_id)
    }

    /// Has an IOAS, which no table stands on yet, map in pages of 4 KiB only.
    pub fn small_pages_only(&self, ioas: ObjectId) -> Result<()> {
        let mut option = iommu::iommu_option {
            size: size::<iommu::iommu_option>(),
            option_id: iommu::iommufd_option_IOMMU_OPTION_HUGE_PAGES,
            op: u16::try_from(iommu::iommufd_option_ops_IOMMU_OPTION_OP_SET)?,
            object_id: ioas,
            val64: 0,
            ..Default::default()
        };
        call(&self.0, &mut option).context("setting the option for small pages")?;
        Ok(())
    }

    /// Maps all of `memory` at `iova`.
    pub fn map(
        &self,
        ioas: ObjectId,
        memory: &Memory,
        iova: u64,
        writable: bool,
    ) -> io::Result<()> {
        self.map_part(ioas, memory, 0..memory.bytes(), iova, writable)
    }

    /// Maps the pages at these offsets of `memory` at `iova`.
    pub fn map_part(
        &self,
        ioas: ObjectId,
        memory: &Memory,
        part: std::ops::Range<u64>,
        iova: u64,
        writable: bool,
    ) -> io::Result<()> {
        let mut flags = iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
            | iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE;
        if writable {
            flags |= iommu::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE;
        }
        let mut map = iommu::iommu_ioas_map {
            size: size::<iommu::iommu_ioas_map>(),
            flags,
            ioas_id: ioas,
            length: part.end.saturating_sub(part.start),
            iova,
            ..Default::default()
        };
        call_on(&self.0, &mut map, memory, part.start).map(drop)
    }

    /// Unmaps a range, which must consist of whole mappings; the bytes that were mapped there.
    pub fn unmap(&self, ioas: ObjectId, iova: u64, bytes: u64) -> io::Result<u64> {
        let mut unmap = iommu::iommu_ioas_unmap {
            size: size::<iommu::iommu_ioas_unmap>(),
            ioas_id: ioas,
            iova,
            length: bytes,
        };
        call(&self.0, &mut unmap)?;
        Ok(unmap.length)
    }

    /// A page table of the kernel's over an IOAS, for one device.
    pub fn hwpt(
        &self,
        device: ObjectId,
        ioas: ObjectId,
        purpose: &Purpose,
    ) -> io::Result<ObjectId> {
        self.alloc(iommu::iommu_hwpt_alloc {
            dev_id: device,
            pt_id: ioas,
            ..allocation(purpose)
        })
    }

    /// A page table of the program's over a HWPT that may be a parent: first-stage tables of 4 levels whose top lies at
    /// `top` of the parent's address space.
    pub fn nested(
        &self,
        device: ObjectId,
        parent: ObjectId,
        top: u64,
        purpose: &Purpose,
    ) -> io::Result<ObjectId> {
        let data = iommu::iommu_hwpt_vtd_s1 {
            pgtbl_addr: top,
            addr_width: 48,
            ..Default::default()
        };
        self.alloc(iommu::iommu_hwpt_alloc {
            dev_id: device,
            pt_id: parent,
            data_type: iommu::iommu_hwpt_data_type_IOMMU_HWPT_DATA_VTD_S1,
            data_len: u32::try_from(size_of_val(&data)).unwrap_or(u32::MAX),
            data_uptr: (&raw const data).expose_provenance() as u64,
            ..allocation(purpose)
        })
    }

    fn alloc(&self, mut alloc: iommu::iommu_hwpt_alloc) -> io::Result<ObjectId> {
        call(&self.0, &mut alloc)?;
        Ok(alloc.out_hwpt_id)
    }

    /// Tells the kernel that the program changed entries for so many pages from `iova` on in the tables of a nested HWPT; with
    /// `leaf`, leaves only.
    pub fn invalidate(
        &self,
        nested: ObjectId,
        iova: u64,
        pages: u64,
        leaf: bool,
    ) -> io::Result<()> {
        let entry = iommu::iommu_hwpt_vtd_s1_invalidate {
            addr: iova,
            npages: pages,
            flags: u32::from(leaf),
            ..Default::default()
        };
        let mut invalidate = iommu::iommu_hwpt_invalidate {
            size: size::<iommu::iommu_hwpt_invalidate>(),
            hwpt_id: nested,
            data_uptr: (&raw const entry).expose_provenance() as u64,
            data_type: iommu::iommu_hwpt_invalidate_data_type_IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
            entry_len: u32::try_from(size_of_val(&entry)).unwrap_or(u32::MAX),
            entry_num: 1,
            ..Default::default()
        };
        call(&self.0, &mut invalidate)?;
        if invalidate.entry_num == 1 {
            Ok(())
        } else {
            Err(io::Error::other("the kernel left the invalidation out"))
        }
    }

    /// Switches dirty tracking of a HWPT.
    pub fn track_dirty(&self, hwpt: ObjectId, enable: bool) -> io::Result<()> {
        let mut set = iommu::iommu_hwpt_set_dirty_tracking {
            size: size::<iommu::iommu_hwpt_set_dirty_tracking>(),
            flags: u32::from(enable),
            hwpt_id: hwpt,
            ..Default::default()
        };
        call(&self.0, &mut set).map(drop)
    }

    /// Which of so many pages from `iova` on the device wrote since that was last cleared; and clears it.
    pub fn dirty(&self, hwpt: ObjectId, iova: u64, pages: usize, clear: bool) -> Result<Vec<bool>> {
        let bitmap = Memory::new(pages.div_ceil(8 * PAGE) * PAGE)?;
        let mut get = iommu::iommu_hwpt_get_dirty_bitmap {
            size: size::<iommu::iommu_hwpt_get_dirty_bitmap>(),
            hwpt_id: hwpt,
            flags: u32::from(!clear),
            iova,
            length: pages as u64 * PAGE_BYTES,
            page_size: PAGE_BYTES,
            ..Default::default()
        };
        call_on(&self.0, &mut get, &bitmap, 0).context("reading the dirty bitmap")?;
        let bit = |page: usize| Ok(bitmap.word(page / 64 * 8)? >> (page % 64) & 1 == 1);
        (0..pages).map(bit).collect()
    }

    /// A queue for page requests.
    pub fn fault_queue(&self) -> Result<FaultQueue> {
        let mut alloc = iommu::iommu_fault_alloc {
            size: size::<iommu::iommu_fault_alloc>(),
            ..Default::default()
        };
        let file = open(&self.0, &mut alloc).context("making a fault queue")?;
        Ok(FaultQueue::new(alloc.out_fault_id, file))
    }

    /// Bits of a PASID that the kernel has enabled for a device.
    pub fn pasid_bits(&self, device: ObjectId) -> Result<u8> {
        let mut info = iommu::iommu_hw_info {
            size: size::<iommu::iommu_hw_info>(),
            dev_id: device,
            ..Default::default()
        };
        call_on(&self.0, &mut info, &Memory::new(PAGE)?, 0)
            .context("asking for the IOMMU's abilities")?;
        Ok(info.out_max_pasid_log2)
    }

    /// Frees an object that nothing uses any more.
    pub fn destroy(&self, id: ObjectId) -> io::Result<()> {
        let mut destroy = iommu::iommu_destroy {
            size: size::<iommu::iommu_destroy>(),
            id,
        };
        call(&self.0, &mut destroy).map(drop)
    }
}

fn allocation(purpose: &Purpose) -> iommu::iommu_hwpt_alloc {
    let flags = [
        (
            purpose.parent,
            iommu::iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT,
        ),
        (
            purpose.dirty,
            iommu::iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
        ),
        (
            purpose.faults.is_some(),
            iommu::iommufd_hwpt_alloc_flags_IOMMU_HWPT_FAULT_ID_VALID,
        ),
        (
            purpose.pasid,
            iommu::iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_PASID,
        ),
    ];
    let flags = flags.iter().filter(|(wanted, _)| *wanted);
    iommu::iommu_hwpt_alloc {
        size: size::<iommu::iommu_hwpt_alloc>(),
        flags: flags.map(|(_, flag)| flag).sum(),
        fault_id: purpose.faults.unwrap_or(0),
        ..Default::default()
    }
}
