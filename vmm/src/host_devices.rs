// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora devices`: the PCI functions of this host, whether they can be passed through, and their way from their driver to
//! vfio-pci and back.
//!
//! Everything is told by small files below a root, and changed by writing to such files, so tests work on trees that they make
//! up.

pub mod binding;
mod class;
mod names;
mod record;
mod show;
mod users;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree;

pub use record::Records;
pub use show::{json, table};
pub use users::User;

use crate::host_files::HostFiles;
use names::PciIds;
use vfio::sysfs::{self, HostDevice, Refusal};

/// Whether a function can be passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passthrough {
    /// As things are.
    Yes,
    /// Once it, or what shares its group, is bound to vfio-pci.
    AfterBind(Refusal),
    /// Not as long as the host uses it in this way.
    InUse(Vec<User>),
    /// Never.
    No(Refusal),
}

/// A PCI function of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// What sysfs says.
    pub device: HostDevice,
    /// The name of its class.
    pub class: String,
    /// Names of vendor and device, where the host knows them.
    pub name: Option<String>,
    /// Whether it can be passed through.
    pub passthrough: Passthrough,
}

/// All functions, in the order of their addresses.
///
/// # Errors
/// The host has no PCI, or sysfs cannot be read.
pub fn list(files: &HostFiles) -> Result<Vec<Function>, sysfs::Error> {
    let ids = PciIds::load(files);
    let sysfs = files.path("sys");
    let mut functions = Vec::new();
    for address in sysfs::addresses_below(&sysfs)? {
        match HostDevice::read_below(&sysfs, address) {
            Ok(device) => functions.push(function(files, &ids, device)),
            // It was taken out meanwhile.
            Err(sysfs::Error::NoDevice(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(functions)
}

fn function(files: &HostFiles, ids: &PciIds, device: HostDevice) -> Function {
    Function {
        class: class::name(device.class),
        name: ids.name(device.vendor, device.device),
        passthrough: passthrough(files, &device),
        device,
    }
}

fn passthrough(files: &HostFiles, device: &HostDevice) -> Passthrough {
    match (device.lasting_refusal(), device.refusal()) {
        (Some(refusal), _) => Passthrough::No(refusal),
        (None, Some(refusal @ Refusal::InUse(_))) => {
            let users = users::of(files, device);
            if users.is_empty() {
                Passthrough::AfterBind(refusal)
            } else {
                Passthrough::InUse(users)
            }
        }
        (None, Some(refusal)) => Passthrough::AfterBind(refusal),
        (None, None) => Passthrough::Yes,
    }
}
