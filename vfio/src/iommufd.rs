// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The backend on iommufd (Documentation/userspace-api/iommufd.rst).
//!
//! One `/dev/iommu` for a machine. Guest RAM is mapped once, into the IOAS of the identity table, for reading and writing
//! (an Intel host refuses read-only mappings where guests may nest) and with large host pages. Each other table is an IOAS
//! of its own, filled by `IOMMU_IOAS_COPY` from that of guest RAM: nothing is pinned or counted twice. Its option for large
//! pages is off, which is what lets [`Backend::cut_out`] split a mapping without touching the host's page table.
//!
//! A page table (HWPT) is always allocated by us, because one that `VFIO_DEVICE_ATTACH_IOMMUFD_PT` makes for an IOAS can
//! take no PASIDs. It belongs to one unit of the host; a table that is attached to devices behind several units has one for
//! each, which the kernel keeps equal. An attachment is never tried on another unit's: a failing one leaves the device
//! blocked.
//!
//! Guests' first-stage tables are nested page tables on the identity table's, or on those of a table made for that, one for
//! each unit (`nesting`).
//!
//! Not supported: dirty tracking, mappings of other devices' BARs.

mod nesting;
mod table;

use crate::backend::{Backend, Endpoint, Features, HostError, Limits, Role, TableId};
use crate::error::Error;
use crate::hardware::{HardwareInfo, Support};
use crate::kvm::KvmVfio;
use crate::nested::{Flush, NestedTable};
use crate::ram::{HostVa, RamMap};
use crate::run::{Rights, Run};
use crate::sysfs::HostDevice;
use crate::uapi::{self, Errno};
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use iommu::ids::Pasid;
use iommufd_bindings as bindings;
use iommufd_ioctls::{IommuFd, IommufdError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use table::Table;
use uapi::fault_queue::FaultQueue;
use uapi::iommufd::errno;

/// The identity table's name.
const IDENTITY: TableId = TableId(0);

/// How the host's memory is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Large host pages in every table: less memory and fewer misses on the host, but no mapping can be cut.
    pub large_pages: bool,
}

/// The backend.
pub struct Iommufd {
    fd: IommuFd,
    options: Options,
    promised: Vec<IovaRange>,
    tables: BTreeMap<TableId, Table>,
    devices: BTreeMap<DeviceHandle, Device>,
    names: u32,
    faults: Option<Arc<FaultQueue>>,
}

#[derive(Debug)]
struct Device {
    /// iommufd's name for it.
    id: u32,
    file: Arc<File>,
    /// The host's unit that it is behind.
    unit: String,
    hardware: HardwareInfo,
    support: Support,
    attached: BTreeSet<Option<Pasid>>,
}

impl Iommufd {
    /// Opens `/dev/iommu` and maps guest RAM.
    ///
    /// # Errors
    /// There is no iommufd, or it refuses.
    pub fn new(ram: &RamMap, options: Options) -> Result<Self, Error> {
        let path = Path::new("/dev/iommu");
        let file = OpenOptions::new().read(true).write(true).open(path);
        let fd = IommuFd::new_from_fd(file.map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?);
        let ioas = ioas_alloc(&fd).map_err(|source| failed("IOMMU_IOAS_ALLOC", source))?;
        for region in ram.regions() {
            let map = bindings::iommu_ioas_map {
                size: 40,
                flags: uapi::iommufd::map_flags(Rights::ReadWrite),
                ioas_id: ioas,
                user_va: region.host.0,
                length: region.len,
                iova: region.gpa.0,
                ..Default::default()
            };
            fd.map_iommu_ioas(&map)
                .map_err(|error| failed("IOMMU_IOAS_MAP", errno(&error)))?;
        }
        Ok(Self {
            fd,
            options,
            promised: Vec::new(),
            tables: BTreeMap::from([(IDENTITY, Table::identity(ioas))]),
            devices: BTreeMap::new(),
            names: 0,
            faults: None,
        })
    }

    /// Keeps `ranges` usable in every table made from now on: a device that would take some of them away cannot be attached.
    pub fn promise(&mut self, ranges: Vec<IovaRange>) {
        self.promised = ranges;
    }

    /// Takes `device` over, under a name that no open device has; its file is for regions, interrupts and resets. It is attached to
    /// nothing and reaches nothing.
    ///
    /// # Errors
    /// It cannot be passed through as things are, or the kernel refuses.
    ///
    /// # Panics
    /// The name is that of an open device.
    pub fn open(
        &mut self,
        handle: DeviceHandle,
        device: &HostDevice,
        kvm: Option<&dyn KvmVfio>,
    ) -> Result<Arc<File>, Error> {
        let known = self.devices.contains_key(&handle);
        assert!(!known, "{handle} is open already");
        device.permit()?;
        let cdev = device.cdev().ok_or(Error::HostLacks(
            "it has no /dev/vfio/devices (Linux 6.6 with CONFIG_VFIO_DEVICE_CDEV); take backend=type1",
        ))?;
        let file = OpenOptions::new().read(true).write(true).open(&cdev);
        let file = file.map_err(|source| Error::Open { path: cdev, source })?;
        if let Some(kvm) = kvm {
            kvm.add(file.as_fd()).map_err(|source| Error::Kvm {
                device: device.address,
                source,
            })?;
        }
        let taken = self.take_over(&file, device);
        if taken.is_err() {
            // KVM holds the file otherwise, and with it the device.
            forget(kvm, &file);
        }
        let (id, hardware) = taken?;
        let file = Arc::new(file);
        let opened = Device {
            id,
            file: file.clone(),
            // A function that sysfs shows behind no unit shares page tables with no other.
            unit: device
                .unit
                .clone()
                .unwrap_or_else(|| device.address.to_string()),
            hardware,
            support: nesting::support(&hardware, device),
            attached: BTreeSet::new(),
        };
        self.devices.insert(handle, opened);
        Ok(file)
    }

    fn take_over(&self, file: &File, device: &HostDevice) -> Result<(u32, HardwareInfo), Error> {
        let failed = |call| {
            move |source| Error::Call {
                call,
                on: device.address.to_string(),
                source,
            }
        };
        let id = uapi::device::bind_iommufd(file, &self.fd)
            .map_err(failed("VFIO_DEVICE_BIND_IOMMUFD"))?;
        let hardware = uapi::iommufd::hardware_info(&self.fd, id);
        Ok((id, hardware.map_err(failed("IOMMU_GET_HW_INFO"))?))
    }

    /// Gives a device back: it reaches nothing any more, and the kernel has it back when the last holder of its file lets go.
    ///
    /// # Errors
    /// The kernel does not detach it. It is no longer ours all the same.
    pub fn close(
        &mut self,
        handle: DeviceHandle,
        kvm: Option<&dyn KvmVfio>,
    ) -> Result<(), HostError> {
        let device = self.devices.remove(&handle).ok_or(HostError::NotFound)?;
        // PASIDs first, and all of them whatever the kernel says of one.
        let attached = device.attached.iter().rev();
        let detached = attached
            .map(|pasid| uapi::device::detach(&device.file, *pasid))
            .fold(Ok(()), Result::and);
        forget(kvm, &device.file);
        detached.map_err(host_error)
    }

    /// What the host says of a device and its unit.
    #[must_use]
    pub fn hardware(&self, device: DeviceHandle) -> Option<HardwareInfo> {
        self.devices.get(&device).map(|device| device.hardware)
    }

    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// The IOAS of a table that the mirror fills.
    fn shadow(&self, table: TableId) -> Result<u32, HostError> {
        if table == IDENTITY {
            return Err(HostError::Unsupported);
        }
        self.ioas(table)
    }

    fn ioas(&self, table: TableId) -> Result<u32, HostError> {
        let table = self.tables.get(&table).ok_or(HostError::NotFound)?;
        table.ioas().ok_or(HostError::Unsupported)
    }

    fn unmap_bytes(&self, ioas: u32, iova: u64, length: u64) -> Result<u64, HostError> {
        let mut argument = bindings::iommu_ioas_unmap {
            size: 24,
            ioas_id: ioas,
            iova,
            length,
        };
        match self.fd.unmap_iommu_ioas(&mut argument) {
            Ok(()) => Ok(argument.length),
            Err(error) => nothing_there(errno(&error)),
        }
    }
}

impl Backend for Iommufd {
    fn features(&self) -> Features {
        Features {
            can_cut: !self.options.large_pages,
            can_move: true,
            pasid: true,
            // Only by a dma-buf (Linux 7.0), whose mappings cannot be cut.
            device_memory: false,
            nesting: true,
        }
    }

    fn identity_table(&self) -> Option<TableId> {
        Some(IDENTITY)
    }

    fn fixed_table(&self, _device: DeviceHandle) -> Option<TableId> {
        None
    }

    fn create_table(&mut self, role: Role) -> Result<TableId, HostError> {
        let ioas = ioas_alloc(&self.fd).map_err(host_error)?;
        let prepare = || {
            if !self.options.large_pages {
                uapi::iommufd::set_huge_pages(&self.fd, ioas, false)?;
            }
            if !self.promised.is_empty() {
                uapi::iommufd::allow_iovas(&self.fd, ioas, &self.promised)?;
            }
            Ok(())
        };
        if let Err(error) = prepare() {
            // Nothing refers to it, so this cannot fail; if it does, it goes with the descriptor.
            drop(self.fd.destroy_iommu_object(ioas));
            return Err(host_error(error));
        }
        let table = TableId(self.name());
        self.tables.insert(table, Table::shadow(ioas, role));
        Ok(table)
    }

    fn create_nested(&mut self, parent: TableId, table: NestedTable) -> Result<TableId, HostError> {
        self.add_nested(parent, table)
    }

    fn invalidate(&mut self, table: TableId, flushes: &[Flush]) -> Result<(), HostError> {
        self.invalidate_nested(table, flushes)
    }

    fn page_requests(&self, device: DeviceHandle) -> bool {
        let device = self.devices.get(&device);
        device.is_some_and(|device| device.support.page_requests)
    }

    fn destroy_table(&mut self, table: TableId) -> Result<(), HostError> {
        if table == IDENTITY {
            return Err(HostError::Unsupported);
        }
        let content = self.tables.get_mut(&table).ok_or(HostError::NotFound)?;
        content.destroy(&self.fd).map_err(host_error)?;
        self.tables.remove(&table);
        Ok(())
    }

    fn limits(&mut self, table: TableId) -> Result<Limits, HostError> {
        let known = uapi::iommufd::iova_ranges(&self.fd, self.ioas(table)?).map_err(host_error)?;
        Ok(Limits {
            page_sizes: !(known.alignment.max(1) - 1),
            ranges: known.ranges,
        })
    }

    fn entries_left(&mut self, _table: TableId) -> Result<Option<u32>, HostError> {
        Ok(None)
    }

    /// The pages come from guest RAM's IOAS by guest-physical address, so `host` is not needed. On a host that uses
    /// first-stage tables a mapping for writing only can be read as well: such tables cannot say otherwise.
    fn map(&mut self, table: TableId, run: &Run, _host: HostVa) -> Result<(), HostError> {
        let from = (self.ioas(IDENTITY)?, run.gpa);
        let to = (self.shadow(table)?, run.iova.start());
        uapi::iommufd::ioas_copy(&self.fd, from, to, run.len(), run.rights).map_err(host_error)
    }

    fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        let ioas = self.shadow(table)?;
        // For the whole space the length saturates to the value that means everything.
        self.unmap_bytes(ioas, range.start().0, crate::run::bytes(range))
    }

    fn cut_out(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        if self.options.large_pages {
            return Err(HostError::Unsupported);
        }
        let ioas = self.shadow(table)?;
        if range == IovaRange::ALL {
            return self.unmap_bytes(ioas, 0, u64::MAX);
        }
        uapi::iommufd::select_compat_ioas(&self.fd, ioas).map_err(host_error)?;
        uapi::type1::unmap(&self.fd, range.start(), crate::run::bytes(range)).or_else(nothing_there)
    }

    fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        let ioas = self.shadow(table)?;
        self.unmap_bytes(ioas, 0, u64::MAX).map(drop)
    }

    /// Makes the page table for the device's unit, which is when the table learns its width.
    fn prepare(&mut self, table: TableId, endpoint: Endpoint) -> Result<(), HostError> {
        let device = self.devices.get(&endpoint.device);
        let device = device.ok_or(HostError::NotFound)?;
        if let Some(pasid) = endpoint.pasid {
            device.allows(pasid)?;
        }
        self.hwpt(table, endpoint.device).map(drop)
    }

    fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        let hwpt = self.hwpt(table, endpoint.device)?;
        let device = self.devices.get_mut(&endpoint.device);
        let device = device.ok_or(HostError::NotFound)?;
        if let Some(pasid) = endpoint.pasid {
            device.allows(pasid)?;
        }
        uapi::device::attach(&device.file, endpoint.pasid, hwpt).map_err(host_error)?;
        device.attached.insert(endpoint.pasid);
        Ok(())
    }

    fn detach(&mut self, endpoint: Endpoint) -> Result<(), HostError> {
        let device = self.devices.get_mut(&endpoint.device);
        let device = device.ok_or(HostError::NotFound)?;
        uapi::device::detach(&device.file, endpoint.pasid).map_err(host_error)?;
        device.attached.remove(&endpoint.pasid);
        Ok(())
    }
}

impl Device {
    /// Checked here, because a kernel that has no PASIDs for the device may do nothing and report success.
    fn allows(&self, pasid: Pasid) -> Result<(), HostError> {
        match self.hardware.pasid_bits {
            0 => Err(HostError::Unsupported),
            // PASID 0 stands for requests without one.
            bits if pasid.get() == 0 || pasid.get() >> bits != 0 => Err(HostError::Invalid),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Iommufd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iommufd")
            .field("options", &self.options)
            .field("tables", &self.tables)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

/// KVM lets go of the device's file.
fn forget(kvm: Option<&dyn KvmVfio>, file: &File) {
    if let Some(kvm) = kvm
        && let Err(error) = kvm.remove(file.as_fd())
    {
        tracing::warn!("KVM does not let go of a VFIO device: {error}");
    }
}

fn ioas_alloc(fd: &IommuFd) -> Result<u32, Errno> {
    let mut argument = bindings::iommu_ioas_alloc {
        size: 12,
        ..Default::default()
    };
    let made = fd.alloc_iommu_ioas(&mut argument);
    made.map_err(|error: IommufdError| errno(&error))?;
    Ok(argument.out_ioas_id)
}

fn failed(call: &'static str, source: Errno) -> Error {
    Error::Call {
        call,
        on: "/dev/iommu".to_owned(),
        source,
    }
}

fn host_error(error: Errno) -> HostError {
    HostError::from_errno(error.errno())
}

/// An empty range is no error to us.
fn nothing_there(error: Errno) -> Result<u64, HostError> {
    match error.errno() {
        libc::ENOENT => Ok(0),
        number => Err(HostError::from_errno(number)),
    }
}
