// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The text of `--vfio`.

use crate::config::{VfioBackend, VfioConfig};
use crate::error::Error;
use crate::options::{Parts, wrong};

const BACKENDS: [(&str, VfioBackend); 3] = [
    ("auto", VfioBackend::Auto),
    ("iommufd", VfioBackend::Iommufd),
    ("type1", VfioBackend::Type1),
];

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

/// The device that `text` asks for.
///
/// # Errors
/// A part is not known, or its value is not allowed. Whether the host has the device is not asked here.
pub(super) fn vfio(text: &str) -> Result<VfioConfig, Error> {
    let mut parts = Parts::with_first("vfio", text)?;
    let address = parts.first().parse();
    let config = VfioConfig {
        address: address
            .map_err(|error: vfio::pci_address::ParseError| wrong("vfio", error.to_string()))?,
        backend: parts.choice("backend", &BACKENDS)?.unwrap_or_default(),
        id: parts.value("id", "ID")?.map(str::to_owned),
        bus: parts.value("bus", "ID")?.map(str::to_owned),
        map: parts.choice("mmap", &SWITCH)?.unwrap_or(true),
    };
    parts.finish()?;
    Ok(config)
}

/// One process has a device once, and one table of the host's serves all devices that share a guest domain.
///
/// # Errors
/// A device is asked for twice, or devices by different backends.
pub(super) fn check(configs: &[VfioConfig]) -> Result<(), Error> {
    for (index, config) in configs.iter().enumerate() {
        let (before, address) = (&configs[..index], config.address);
        if before.iter().any(|other| other.address == address) {
            return Err(wrong("vfio", format!("{address} is given twice")));
        }
        let differs = |other: &&VfioConfig| {
            other.backend != config.backend
                && ![other.backend, config.backend].contains(&VfioBackend::Auto)
        };
        if let Some(other) = before.iter().find(differs) {
            return Err(wrong(
                "vfio",
                format!(
                    "{address} and {} ask for different backends: all devices of a machine go through one",
                    other.address
                ),
            ));
        }
    }
    Ok(())
}
