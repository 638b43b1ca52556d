// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device of the host as a function of the guest's bus.

use super::host::Host;
use super::taken::Device;
use crate::error::Error;
use devices::pci::PciFunction;
use std::sync::Arc;
use vfio::device::config::{Place, Services};
use vfio::device::function::{Machine, Options, Passthrough};
use vfio::device::port::DeviceFile;
use vfio::device::reset::{Functions, Owner};

/// The function of `device`, which `host` has opened, one of `functions`; its drivers are offered `services`.
///
/// # Errors
/// The device does not answer, or cannot be shown to a guest.
pub(super) fn open(
    device: &Device,
    host: &Host,
    functions: &Functions,
    machine: Machine,
    services: Services,
) -> Result<Arc<Passthrough>, Error> {
    let address = device.host.address;
    let owner = host.owner(device.handle);
    let file = DeviceFile::new(Arc::clone(&device.file), matches!(owner, Owner::Iommufd));
    let file = file.map_err(|error| Error::host(format!("describe {address}"), error))?;
    let file = file.among(address, functions, owner);
    let place = match device.config.bus {
        Some(_) => Place::BehindPort,
        None => Place::RootComplex,
    };
    let options = Options {
        name: device.name(),
        map: device.config.map,
        services,
    };
    let function = Passthrough::with_options(file, place, machine, options);
    let function = function.map_err(|source| Error::Vfio {
        device: address,
        source,
    })?;
    functions.add(address, function.requester());
    Ok(Arc::new(function))
}
