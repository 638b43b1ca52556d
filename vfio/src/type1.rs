// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The backend on VFIO containers with the type1 driver, version 2 (drivers/vfio/vfio_iommu_type1.c).
//!
//! A group is in one container, and a container is one I/O virtual address space: so each group has a container of its own,
//! which is the table of its devices for as long as one of them is open. Nothing can be cut and nothing moved. Mappings are
//! counted against the module parameter `dma_entry_limit`, and pinned memory once for each container.
//!
//! Not supported: several groups in one container, dirty tracking.

use crate::backend::{Backend, Endpoint, Features, HostError, Limits, Role, TableId};
use crate::device::reset::Owner;
use crate::error::Error;
use crate::kvm::KvmVfio;
use crate::ram::HostVa;
use crate::run::Run;
use crate::sysfs::HostDevice;
use crate::uapi::{self, Errno};
use iommu::address::IovaRange;
use iommu::follow::DeviceHandle;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_DMA_CC_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL,
};

/// The backend.
#[derive(Debug, Default)]
pub struct Type1 {
    containers: BTreeMap<TableId, Container>,
    devices: BTreeMap<DeviceHandle, Device>,
    names: u32,
}

#[derive(Debug)]
struct Device {
    table: TableId,
    file: Arc<File>,
}

#[derive(Debug)]
struct Container {
    file: File,
    group: Arc<File>,
    number: u32,
    /// The kernel can remove everything in one call.
    unmap_all: bool,
}

impl Type1 {
    /// No device yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `device` over, under a name that no open device has; its file is for regions, interrupts and resets. Its table,
    /// [`Backend::fixed_table`], maps what it mapped for other devices of its group, or nothing.
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
        let group = device.group.as_ref().map(|group| group.number);
        let group = group.ok_or(Error::HostLacks("no IOMMU group"))?;
        let known = self
            .containers
            .iter()
            .find(|(_, container)| container.number == group);
        let table = if let Some((table, _)) = known {
            *table
        } else {
            let container = Container::new(group, device, kvm)?;
            let table = TableId(self.name());
            self.containers.insert(table, container);
            table
        };
        let file = self.containers[&table].device(device);
        if file.is_err() {
            self.drop_unused(kvm);
        }
        let file = Arc::new(file?);
        let opened = Device {
            table,
            file: file.clone(),
        };
        self.devices.insert(handle, opened);
        Ok(file)
    }

    /// Who has an open device, for a reset of its bus.
    #[must_use]
    pub fn owner(&self, handle: DeviceHandle) -> Owner {
        let device = self.devices.get(&handle);
        let container = device.and_then(|device| self.containers.get(&device.table));
        container.map_or(Owner::Unknown, |container| {
            Owner::Group(container.number, Arc::clone(&container.group))
        })
    }

    /// Gives a device back. With the last of its group the container goes, and all that it maps; the kernel has the device
    /// back when the last holder of its file lets go.
    ///
    /// # Errors
    /// There is no such device.
    pub fn close(
        &mut self,
        handle: DeviceHandle,
        kvm: Option<&dyn KvmVfio>,
    ) -> Result<(), HostError> {
        let device = self.devices.remove(&handle).ok_or(HostError::NotFound)?;
        drop(device.file);
        self.drop_unused(kvm);
        Ok(())
    }

    /// Whether the host makes requests of an open device snoop that ask not to.
    #[must_use]
    pub fn snoop_control(&self, handle: DeviceHandle) -> bool {
        let device = self.devices.get(&handle);
        let container = device.and_then(|device| self.containers.get(&device.table));
        container.is_some_and(|container| {
            uapi::container::has_extension(&container.file, VFIO_DMA_CC_IOMMU).unwrap_or(false)
        })
    }

    fn drop_unused(&mut self, kvm: Option<&dyn KvmVfio>) {
        let devices = &self.devices;
        self.containers.retain(|table, container| {
            let used = devices.values().any(|device| device.table == *table);
            if !used
                && let Some(kvm) = kvm
                && let Err(error) = kvm.remove(container.group.as_fd())
            {
                tracing::warn!("KVM does not let go of a VFIO group: {error}");
            }
            used
        });
    }

    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    fn container(&self, table: TableId) -> Result<&Container, HostError> {
        self.containers.get(&table).ok_or(HostError::NotFound)
    }
}

impl Container {
    fn new(number: u32, device: &HostDevice, kvm: Option<&dyn KvmVfio>) -> Result<Self, Error> {
        let file = open(Path::new("/dev/vfio/vfio"))?;
        let failed = |call, source| Error::Call {
            call,
            on: format!("group {number} of {}", device.address),
            source,
        };
        let version = uapi::container::api_version(&file);
        let version = version.map_err(|source| failed("VFIO_GET_API_VERSION", source))?;
        let has = |extension| uapi::container::has_extension(&file, extension);
        if version.cast_unsigned() != VFIO_API_VERSION || !has(VFIO_TYPE1v2_IOMMU).unwrap_or(false)
        {
            return Err(Error::HostLacks(
                "VFIO has no type1 driver, version 2 (load vfio_iommu_type1)",
            ));
        }
        let group = open(&PathBuf::from(format!("/dev/vfio/{number}")))?;
        let viable = uapi::group::is_viable(&group);
        if !viable.map_err(|source| failed("VFIO_GROUP_GET_STATUS", source))? {
            return Err(Error::HostLacks(
                "VFIO calls the group not viable: a driver of the host uses another device of it",
            ));
        }
        uapi::group::set_container(&group, &file)
            .map_err(|source| failed("VFIO_GROUP_SET_CONTAINER", source))?;
        uapi::container::set_iommu(&file, VFIO_TYPE1v2_IOMMU)
            .map_err(|source| failed("VFIO_SET_IOMMU", source))?;
        if let Some(kvm) = kvm {
            kvm.add(group.as_fd()).map_err(|source| Error::Kvm {
                device: device.address,
                source,
            })?;
        }
        Ok(Self {
            unmap_all: has(VFIO_UNMAP_ALL).unwrap_or(false),
            file,
            group: Arc::new(group),
            number,
        })
    }

    fn device(&self, device: &HostDevice) -> Result<File, Error> {
        let failed = |source| Error::Call {
            call: "VFIO_GROUP_GET_DEVICE_FD",
            on: device.address.to_string(),
            source,
        };
        let name = CString::new(device.address.to_string());
        let name = name.map_err(|_| failed(Errno::new(libc::EINVAL)))?;
        uapi::group::device(&self.group, &name).map_err(failed)
    }

    fn unmap_everything(&self) -> Result<u64, HostError> {
        if self.unmap_all {
            return uapi::type1::unmap_all(&self.file).map_err(host_error);
        }
        // Without the call for everything no length covers the last byte of the space, which nothing maps anyway: whole
        // pages are mapped, and no host has 64 address bits.
        let half = 1 << 63;
        let low = uapi::type1::unmap(&self.file, iommu::address::Iova(0), half);
        let high = uapi::type1::unmap(&self.file, iommu::address::Iova(half), half - 4096);
        Ok(low.map_err(host_error)? + high.map_err(host_error)?)
    }
}

impl Backend for Type1 {
    fn features(&self) -> Features {
        Features {
            can_cut: false,
            can_move: false,
            pasid: false,
            // BARs that VFIO maps for this process are pinned by nobody, and so for as long as they are mapped.
            device_memory: true,
            nesting: false,
        }
    }

    fn identity_table(&self) -> Option<TableId> {
        None
    }

    fn fixed_table(&self, device: DeviceHandle) -> Option<TableId> {
        self.devices.get(&device).map(|device| device.table)
    }

    fn create_table(&mut self, _role: Role) -> Result<TableId, HostError> {
        Err(HostError::Unsupported)
    }

    /// Tables come and go with their devices ([`Type1::close`]).
    fn destroy_table(&mut self, _table: TableId) -> Result<(), HostError> {
        Err(HostError::Unsupported)
    }

    fn limits(&mut self, table: TableId) -> Result<Limits, HostError> {
        let info = uapi::type1::info(&self.container(table)?.file).map_err(host_error)?;
        Ok(Limits {
            page_sizes: info.page_sizes,
            ranges: info.ranges.unwrap_or_else(|| vec![IovaRange::ALL]),
        })
    }

    fn entries_left(&mut self, table: TableId) -> Result<Option<u32>, HostError> {
        let info = uapi::type1::info(&self.container(table)?.file).map_err(host_error)?;
        Ok(info.available)
    }

    fn map(&mut self, table: TableId, run: &Run, host: HostVa) -> Result<(), HostError> {
        let container = &self.container(table)?.file;
        uapi::type1::map(container, run.iova.start(), run.len(), host, run.rights)
            .map_err(host_error)
    }

    fn unmap(&mut self, table: TableId, range: IovaRange) -> Result<u64, HostError> {
        let container = self.container(table)?;
        if range == IovaRange::ALL {
            return container.unmap_everything();
        }
        uapi::type1::unmap(&container.file, range.start(), crate::run::bytes(range))
            .map_err(host_error)
    }

    fn cut_out(&mut self, _table: TableId, _range: IovaRange) -> Result<u64, HostError> {
        Err(HostError::Unsupported)
    }

    fn unmap_all(&mut self, table: TableId) -> Result<(), HostError> {
        self.container(table)?.unmap_everything().map(drop)
    }

    /// The table is the device's for as long as it is open.
    fn prepare(&mut self, _table: TableId, _endpoint: Endpoint) -> Result<(), HostError> {
        Ok(())
    }

    /// Only to the table that the device has anyway.
    fn attach(&mut self, endpoint: Endpoint, table: TableId) -> Result<(), HostError> {
        let device = self.devices.get(&endpoint.device);
        let device = device.ok_or(HostError::NotFound)?;
        if device.table == table && endpoint.pasid.is_none() {
            Ok(())
        } else {
            Err(HostError::Unsupported)
        }
    }

    fn detach(&mut self, _endpoint: Endpoint) -> Result<(), HostError> {
        Err(HostError::Unsupported)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|source| Error::Open {
        path: path.to_owned(),
        source,
    })
}

fn host_error(error: Errno) -> HostError {
    HostError::from_errno(error.errno())
}
