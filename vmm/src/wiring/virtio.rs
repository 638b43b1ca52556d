// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Disks, network cards, shared directories and the entropy source.

use super::iommu::Units;
use super::pci::PciBus;
use crate::config::{Config, DiskConfig, NetConfig, ShareConfig};
use crate::error::Error;
use crate::net::tap;
use devices::virtio::blk::{Blk, Image};
use devices::virtio::net::{Net, mac_of};
use devices::virtio::pci::VirtioPci;
use devices::virtio::rng::Rng;
use devices::virtio::share::Share;
use devices::virtio::{VirtioDevice, VirtioError};
use iommu::ids::Requester;
use std::sync::Arc;

/// Adds every virtio device that the configuration asks for: disks, cards, shares, entropy, each kind in the order given.
///
/// # Errors
/// A file or a host resource of a device cannot be had, or the device has no place.
pub fn add(config: &Config, units: &Units, bus: &mut PciBus) -> Result<(), Error> {
    let mut add = |name: &str, port: Option<&String>, device: Box<dyn VirtioDevice>| {
        let function = function(units, port, device);
        bus.add(name, port, function).map(|_| ())
    };
    for (number, config) in config.disks.iter().enumerate() {
        let name = config.id.clone();
        let name = name.unwrap_or_else(|| format!("disk{number}"));
        add(&name, config.bus.as_ref(), disk(config, &name)?)?;
    }
    for config in &config.nets {
        add(&config.tap, config.bus.as_ref(), net(config)?)?;
    }
    for config in &config.shares {
        add(&config.tag, None, share(config)?)?;
    }
    if config.rng {
        add("rng", None, Box::new(Rng::new().map_err(refused)?))?;
    }
    Ok(())
}

/// `device` on the bus of `port`, behind the unit that is for it.
pub fn function(
    units: &Units,
    port: Option<&String>,
    device: Box<dyn VirtioDevice>,
) -> Arc<VirtioPci> {
    let translation = units.behind(port);
    let space = translation.dma_space(&Arc::new(Requester::default()));
    let place = PciBus::device_type(port);
    VirtioPci::new(device, place, space, translation.messages())
}

/// A disk.
///
/// # Errors
/// The image cannot be had.
pub fn disk(config: &DiskConfig, name: &str) -> Result<Box<dyn VirtioDevice>, Error> {
    let image = Image::open(&config.path, config.readonly, config.direct).map_err(refused)?;
    Ok(Box::new(
        Blk::new(image, name, config.queues).map_err(refused)?,
    ))
}

/// A network card.
///
/// # Errors
/// The interface cannot be had.
pub fn net(config: &NetConfig) -> Result<Box<dyn VirtioDevice>, Error> {
    let mac = config.mac.unwrap_or_else(|| mac_of(&config.tap));
    let tap = tap::open(&config.tap)?;
    Ok(Box::new(Net::new(tap.into(), mac).map_err(refused)?))
}

fn share(config: &ShareConfig) -> Result<Box<dyn VirtioDevice>, Error> {
    let share = Share::new(&config.dir, &config.tag, config.readonly).map_err(refused)?;
    Ok(Box::new(share))
}

fn refused(error: VirtioError) -> Error {
    match error {
        VirtioError::ImageOpen { path, source } => Error::File {
            action: "open",
            what: "disk image",
            path,
            source,
        },
        VirtioError::ShareOpen { path, source } => Error::File {
            action: "share",
            what: "directory",
            path,
            source,
        },
        VirtioError::Host {
            device,
            what,
            source,
        } => Error::host(format!("set up virtio-{device} ({what})"), source),
        other => Error::Config(other.to_string()),
    }
}
