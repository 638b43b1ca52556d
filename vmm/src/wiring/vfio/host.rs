// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's kernel by one of its two ways, iommufd or type1, one for all devices of the machine.

use crate::config::{VfioBackend, VfioConfig};
use crate::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use vfio::backend::{Backend, Endpoint, HostError, Limits};
use vfio::device::config::Services;
use vfio::device::reset::Owner;
use vfio::hardware::Support;
use vfio::iommufd::{self, Iommufd};
use vfio::kvm::KvmVfio;
use vfio::page_requests::{PageRequestThread, PageRequests};
use vfio::ram::RamMap;
use vfio::shared::Shared;
use vfio::sysfs::HostDevice;
use vfio::type1::Type1;

use ::iommu::capabilities::Capabilities;
use ::iommu::follow::DeviceHandle;
use ::iommu::ids::Requester;
use ::iommu::unit::Unit;

/// The way.
#[derive(Clone, Debug)]
pub enum Host {
    /// `/dev/iommu`.
    Iommufd(Shared<Iommufd>),
    /// Groups and containers.
    Type1(Shared<Type1>),
}

/// Page requests of devices on their way to units.
#[derive(Debug)]
pub struct PageService {
    backend: Shared<Iommufd>,
    requests: Arc<PageRequests>,
    _thread: PageRequestThread,
}

impl PageService {
    /// What an open device asks for goes to `unit` from now on.
    pub fn add(&self, handle: DeviceHandle, unit: &Arc<Unit>, requester: Arc<Requester>) {
        let id = self.backend.lock().id(handle);
        if let Some(id) = id {
            self.requests.add(id, unit, requester);
        }
    }

    /// A device is about to be closed.
    pub fn remove(&self, handle: DeviceHandle) {
        let id = self.backend.lock().id(handle);
        if let Some(id) = id {
            self.requests.remove(id);
        }
    }
}

/// SC in the extended capability register of the host's unit.
const SNOOP_CONTROL: u64 = 1 << 7;

impl Host {
    /// The way that `configs` ask for, the same one each unless it is left open; `devices` are theirs.
    ///
    /// # Errors
    /// The host does not have it.
    pub fn new(
        configs: &[VfioConfig],
        devices: &[HostDevice],
        ram: &RamMap,
    ) -> Result<Self, Error> {
        let mut asked = configs.iter().map(|config| config.backend);
        let asked = asked.find(|backend| *backend != VfioBackend::Auto);
        let type1 = || Self::Type1(Shared::new(Type1::new()));
        let usable = || {
            Path::new("/dev/iommu").exists() && devices.iter().all(|device| device.cdev().is_some())
        };
        if choose(asked, usable) == VfioBackend::Type1 {
            return Ok(type1());
        }
        match Iommufd::new(ram, iommufd::Options::default()) {
            Ok(iommufd) => Ok(Self::Iommufd(Shared::new(iommufd))),
            // A module that is not there leaves its device node behind.
            Err(error) if asked.is_none() && is_missing(&error) => Ok(type1()),
            Err(source) => Err(Error::Vfio {
                device: configs[0].address,
                source,
            }),
        }
    }

    /// Who opened a device, as far as a reset of its bus has to know.
    #[must_use]
    pub fn owner(&self, handle: DeviceHandle) -> Owner {
        match self {
            Self::Iommufd(_) => Owner::Iommufd,
            Self::Type1(backend) => backend.lock().owner(handle),
        }
    }

    /// Which way it is.
    #[must_use]
    pub const fn kind(&self) -> VfioBackend {
        match self {
            Self::Iommufd(_) => VfioBackend::Iommufd,
            Self::Type1(_) => VfioBackend::Type1,
        }
    }

    /// The backend for the mirror.
    #[must_use]
    pub fn backend(&self) -> Box<dyn Backend> {
        match self {
            Self::Iommufd(backend) => Box::new(backend.clone()),
            Self::Type1(backend) => Box::new(backend.clone()),
        }
    }

    /// Takes a device over: it reaches nothing yet.
    ///
    /// # Errors
    /// The kernel does not give it away.
    pub fn open(
        &self,
        handle: DeviceHandle,
        device: &HostDevice,
        kvm: &dyn KvmVfio,
    ) -> Result<Arc<File>, Error> {
        let opened = match self {
            Self::Iommufd(backend) => backend.lock().open(handle, device, Some(kvm)),
            Self::Type1(backend) => backend.lock().open(handle, device, Some(kvm)),
        };
        opened.map_err(|source| Error::Vfio {
            device: device.address,
            source,
        })
    }

    /// Gives a device back.
    ///
    /// # Errors
    /// The kernel does not let go of it.
    pub fn close(&self, handle: DeviceHandle, kvm: &dyn KvmVfio) -> Result<(), HostError> {
        match self {
            Self::Iommufd(backend) => backend.lock().close(handle, Some(kvm)),
            Self::Type1(backend) => backend.lock().close(handle, Some(kvm)),
        }
    }

    /// What can be mapped for an open device, before it is attached to anything.
    ///
    /// # Errors
    /// The host does not translate all guest RAM for it.
    pub fn limits(&mut self, handle: DeviceHandle) -> Result<Limits, HostError> {
        let mut backend = self.backend();
        let table = backend
            .identity_table()
            .or_else(|| backend.fixed_table(handle))
            .ok_or(HostError::NotFound)?;
        let endpoint = Endpoint {
            device: handle,
            pasid: None,
        };
        backend.prepare(table, endpoint)?;
        backend.limits(table)
    }

    /// What can be done for PASIDs and first-stage tables of an open device.
    ///
    /// # Errors
    /// The host has no table for it at all.
    pub fn support(&self, handle: DeviceHandle) -> Result<Support, HostError> {
        match self {
            Self::Iommufd(backend) => backend.lock().support(handle),
            Self::Type1(_) => Ok(Support::NOTHING),
        }
    }

    /// What a function of an open device shows its drivers whose unit is `unit`.
    ///
    /// # Errors
    /// As [`Self::support`].
    pub fn services(
        &self,
        handle: DeviceHandle,
        device: &HostDevice,
        unit: &Capabilities,
    ) -> Result<Services, HostError> {
        let support = self.support(handle)?;
        let Self::Iommufd(backend) = self else {
            return Ok(Services::default());
        };
        let hardware = backend.lock().hardware(handle);
        let hardware = hardware.ok_or(HostError::NotFound)?;
        let config = fs::read(device.path.join("config")).unwrap_or_default();
        let offered = Support::offered(unit);
        Ok(Services::new(
            (&hardware, &support),
            &offered,
            unit.device_tlb(),
            &config,
        ))
    }

    /// Starts to bring page requests of devices to their units.
    ///
    /// # Errors
    /// The host has no fault queue, or gives no thread.
    pub fn serve_page_requests(&self) -> Result<Option<PageService>, Error> {
        let Self::Iommufd(backend) = self else {
            return Ok(None);
        };
        let queue = backend.lock().fault_queue();
        let queue = queue.map_err(|error| {
            Error::HostLacks(format!("page requests of devices cannot be had: {error}"))
        })?;
        let requests = PageRequests::new(Arc::clone(&queue) as _);
        let thread = PageRequestThread::start(Arc::clone(&requests), queue);
        Ok(Some(PageService {
            backend: backend.clone(),
            requests,
            _thread: thread
                .map_err(|error| Error::host("start the thread for page requests", error))?,
        }))
    }

    /// Whether the host makes requests of an open device snoop that ask not to.
    #[must_use]
    pub fn snoop_control(&self, handle: DeviceHandle) -> bool {
        match self {
            // A unit that is not Intel's is always coherent.
            Self::Iommufd(backend) => backend.lock().hardware(handle).is_some_and(|hardware| {
                let unit = hardware.vtd;
                unit.is_none_or(|unit| unit.ecap & SNOOP_CONTROL != 0)
            }),
            Self::Type1(backend) => backend.lock().snoop_control(handle),
        }
    }
}

/// The way that is taken when one is `asked` for, or none.
fn choose(asked: Option<VfioBackend>, iommufd_usable: impl Fn() -> bool) -> VfioBackend {
    match asked {
        Some(asked) => asked,
        None if iommufd_usable() => VfioBackend::Iommufd,
        None => {
            tracing::info!("devices go through VFIO containers: the host has no iommufd for them");
            VfioBackend::Type1
        }
    }
}

fn is_missing(error: &vfio::error::Error) -> bool {
    let vfio::error::Error::Open { source, .. } = error else {
        return false;
    };
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iommufd_is_chosen_where_it_is_usable_unless_another_way_is_asked_for() {
        let (iommufd, type1) = (VfioBackend::Iommufd, VfioBackend::Type1);
        for (asked, usable, chosen) in [
            (None, true, iommufd),
            (None, false, type1),
            (Some(type1), true, type1),
            (Some(iommufd), false, iommufd),
        ] {
            assert_eq!(choose(asked, || usable), chosen, "{asked:?} {usable}");
        }
    }
}
