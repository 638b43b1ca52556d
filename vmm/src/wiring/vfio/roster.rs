// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which devices are passed through now.

use ::iommu::follow::{DeviceHandle, PasidBudget};
use ::iommu::unit::Unit;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vfio::device::function::Passthrough;
use vfio::pci_address::PciAddress;
use vfio::sysfs::HostDevice;

/// The devices by the name that they have in units' events.
#[derive(Debug, Default)]
pub struct Roster(Mutex<BTreeMap<DeviceHandle, Passed>>);

/// A device.
#[derive(Clone, Debug)]
pub struct Passed {
    /// Its name in the machine.
    pub name: String,
    /// Where the host has it.
    pub address: PciAddress,
    /// What the host said of it.
    pub host: HostDevice,
    /// What the guest sees.
    pub function: Arc<Passthrough>,
    /// The unit that it is behind; `None` in a machine without.
    pub unit: Option<Arc<Unit>>,
    /// How many PASIDs may be bound; `None` when it has none.
    pub pasids: Option<PasidBudget>,
    held: bool,
}

impl Roster {
    /// A device comes.
    pub fn add(
        &self,
        (handle, name): (DeviceHandle, String),
        host: &HostDevice,
        function: Arc<Passthrough>,
        unit: Option<Arc<Unit>>,
        pasids: Option<PasidBudget>,
    ) {
        let device = Passed {
            name,
            address: host.address,
            host: host.clone(),
            function,
            unit,
            pasids,
            held: false,
        };
        self.lock().insert(handle, device);
    }

    /// A device goes; what was known of it.
    pub fn remove(&self, handle: DeviceHandle) -> Option<Passed> {
        self.lock().remove(&handle)
    }

    /// A name that no device has.
    #[must_use]
    pub fn free_handle(&self) -> DeviceHandle {
        let devices = self.lock();
        let mut names = (1..).map(DeviceHandle);
        let free = names.find(|name| !devices.contains_key(name));
        free.unwrap_or(DeviceHandle(0))
    }

    /// How many PASIDs of a device may be bound; `None` when it has none.
    #[must_use]
    pub fn pasids(&self, handle: DeviceHandle) -> Option<PasidBudget> {
        self.lock().get(&handle)?.pasids
    }

    /// All of them.
    #[must_use]
    pub fn devices(&self) -> Vec<(DeviceHandle, Passed)> {
        let devices = self.lock();
        devices.iter().map(|(h, d)| (*h, d.clone())).collect()
    }

    /// A device for people: where the host has it or, where it is no longer known, its number.
    #[must_use]
    pub fn name(&self, handle: DeviceHandle) -> String {
        let devices = self.lock();
        let device = devices.get(&handle);
        device.map_or_else(|| handle.to_string(), |device| device.address.to_string())
    }

    /// The device that people know as `name`, or that the host has at that address.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<DeviceHandle> {
        let devices = self.lock();
        let mut devices = devices.iter();
        let found = devices.find(|(_, d)| d.name == name || d.address.to_string() == name);
        found.map(|(handle, _)| *handle)
    }

    /// Whether some device is kept from sending.
    #[must_use]
    pub fn holds_some(&self) -> bool {
        self.lock().values().any(|device| device.held)
    }

    /// Keeps exactly the devices `reachable` from sending.
    pub fn hold(&self, reachable: &[DeviceHandle]) {
        for (handle, device) in &mut *self.lock() {
            let held = reachable.contains(handle);
            if held != std::mem::replace(&mut device.held, held) {
                if held {
                    tracing::error!(
                        "{}: the host does not take away what the guest took away; the device may not send until it does",
                        device.address
                    );
                }
                device.function.hold(held);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeviceHandle, Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
