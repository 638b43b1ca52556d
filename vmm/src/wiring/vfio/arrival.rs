// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices of the host that come while the guest runs, and go.
//!
//! What the guest was offered at its start holds for them, too: one whose host cannot do that is refused. A device is
//! followed from before it is on the bus, under the id that it will have there: when the guest finds it, it reaches what the
//! guest's tables said before, and an entry that the guest writes later is told by its invalidation.

use super::host::Host;
use super::taken::{Device, check_group, host_offer, permitted, ram_map};
use super::{HostSide, Passed, follow};
use crate::config::{VfioBackend, VfioConfig};
use crate::error::Error;
use crate::hotplug::Release;
use crate::kvm::vfio::VfioFiles;
use crate::offer;
use devices::pci::PciFunction;
use iommu::follow::DeviceHandle;
use iommu::ids::SourceId;
use std::sync::Arc;
use vfio::device::function::Passthrough;
use vfio::sysfs::HostDevice;

/// A device that is given back when it has gone.
#[derive(Debug)]
pub struct Arrived {
    passed: Arc<Passed>,
    handle: DeviceHandle,
}

impl Passed {
    /// Takes a device over and makes its function, which goes behind the root port that `config` names, as `source`. One call
    /// after the other.
    ///
    /// # Errors
    /// The host does not give it away, or cannot do for it what the guest was offered. Nothing of it is left then.
    pub fn arrive(
        self: &Arc<Self>,
        config: &VfioConfig,
        source: SourceId,
    ) -> Result<(Arc<Passthrough>, Arrived), Error> {
        let device = permitted(config.address)?;
        let present: Vec<HostDevice> = self
            .roster
            .devices()
            .into_iter()
            .map(|(_, d)| d.host)
            .collect();
        check_group(&self.config, &device, &present)?;
        let side = self.side_for(config, &device)?;
        let handle = self.roster.free_handle();
        let file = side.host.open(handle, &device, &*side.kvm)?;
        let device = Device {
            handle,
            config: config.clone(),
            host: device,
            file,
        };
        self.welcome(&side, &device, source).inspect_err(|_| {
            // What the roster does not know yet is only open.
            self.give_back(&side, handle);
            let _ = side.host.close(handle, &*side.kvm);
        })
    }

    /// What is to be done when the device `name`, which is there, has gone.
    #[must_use]
    pub fn release_of(self: &Arc<Self>, name: &str) -> Option<Arrived> {
        let devices = self.roster.devices();
        let (handle, _) = devices.iter().find(|(_, device)| device.name == name)?;
        Some(Arrived {
            passed: Arc::clone(self),
            handle: *handle,
        })
    }

    fn welcome(
        self: &Arc<Self>,
        side: &HostSide,
        device: &Device,
        source: SourceId,
    ) -> Result<(Arc<Passthrough>, Arrived), Error> {
        self.check_offer(side, device)?;
        let function = self.function(side, device)?;
        function.requester().set_source(source);
        let unit = self.units.behind(device.config.bus.as_ref()).unit();
        let done = match unit {
            Some(unit) => follow(
                unit,
                device.handle,
                &function,
                self.roster.pasids(device.handle),
            )?,
            None => self.bypass(&side.mirror, device.handle)?,
        };
        if !done {
            return Err(Error::HostLacks(format!(
                "--vfio {}: the host refused to map guest RAM for it",
                device.host.address
            )));
        }
        let arrived = Arrived {
            passed: Arc::clone(self),
            handle: device.handle,
        };
        Ok((function, arrived))
    }

    /// The host's side, made for the first device.
    fn side_for(&self, config: &VfioConfig, device: &HostDevice) -> Result<HostSide, Error> {
        let Some(side) = self.side.get() else {
            let ram = ram_map(&self.ram)?;
            let (configs, devices) = (std::slice::from_ref(config), std::slice::from_ref(device));
            let host = Host::new(configs, devices, &ram)?;
            return self.meet(host, VfioFiles::new(&self.vm)?, ram);
        };
        if ![VfioBackend::Auto, side.host.kind()].contains(&config.backend) {
            return Err(Error::Config(format!(
                "--vfio {}: the machine's devices go through another backend already, and all go through one",
                config.address
            )));
        }
        Ok(side.clone())
    }

    /// Fails where the guest was offered more than the host can do for the device.
    fn check_offer(&self, side: &HostSide, device: &Device) -> Result<(), Error> {
        let host = host_offer(&mut side.host.clone(), device)?;
        let Some(unit) = self.units.units().next() else {
            return Ok(());
        };
        offer::check_arrival(unit.capabilities(), &host)
            .map_err(|why| Error::HostLacks(format!("--vfio {}: {why}", device.host.address)))
    }
}

impl Release for Arrived {
    fn release(self: Box<Self>) {
        if let Some(side) = self.passed.side.get() {
            self.passed.give_back(side, self.handle);
        }
    }
}
