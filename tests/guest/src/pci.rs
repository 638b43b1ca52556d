// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PCI functions as sysfs shows them: finding one, handing it to vfio-pci, and what VFIO calls it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const DEVICES: &str = "/sys/bus/pci/devices";

/// A function of this machine.
#[derive(Debug, Clone)]
pub struct Function {
    /// Segment, bus, device and function: `0000:00:03.0`.
    pub id: String,
}

impl Function {
    /// The first function with these ids, in the order of addresses.
    pub fn find(vendor: u16, device: u16) -> Result<Self> {
        let first = Self::all(vendor, device)?.into_iter().next();
        first.with_context(|| format!("no device {vendor:04x}:{device:04x} here"))
    }

    /// All functions with these ids, in the order of addresses.
    pub fn all(vendor: u16, device: u16) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(DEVICES).context("listing PCI devices")? {
            let path = entry?.path();
            let is = |file: &str, value: u16| {
                let text = fs::read_to_string(path.join(file)).unwrap_or_default();
                text.trim() == format!("{value:#06x}")
            };
            if is("vendor", vendor) && is("device", device) {
                found.push(name_of(&path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|id| Self { id }).collect())
    }

    /// Bus, device and function as requests carry them.
    pub fn source(&self) -> Result<u16> {
        let number = |digits: &str| u16::from_str_radix(digits, 16);
        let parts: Vec<&str> = self.id.split([':', '.']).collect();
        let &[_, bus, device, function] = parts.as_slice() else {
            bail!("'{}' is no PCI address", self.id)
        };
        Ok(number(bus)? << 8 | number(device)? << 3 | number(function)?)
    }

    /// Gives it to vfio-pci, if it is not there yet.
    pub fn bind_to_vfio(&self) -> Result<()> {
        let driver = self.path("driver");
        if fs::read_link(&driver).is_ok_and(|path| name_of(&path) == "vfio-pci") {
            return Ok(());
        }
        if driver.exists() {
            write(&driver.join("unbind"), &self.id)?;
        }
        write(&self.path("driver_override"), "vfio-pci")?;
        write(Path::new("/sys/bus/pci/drivers_probe"), &self.id)?;
        match fs::read_link(&driver) {
            Ok(path) if name_of(&path) == "vfio-pci" => Ok(()),
            _ => bail!("vfio-pci did not take {}; see the kernel's log", self.id),
        }
    }

    /// The number of its IOMMU group.
    pub fn group(&self) -> Result<String> {
        let link = fs::read_link(self.path("iommu_group"));
        let link = link.with_context(|| format!("{} is in no IOMMU group", self.id))?;
        Ok(name_of(&link))
    }

    /// Its VFIO character device.
    pub fn character_device(&self) -> Result<PathBuf> {
        let dir = self.path("vfio-dev");
        let entries = fs::read_dir(&dir);
        let entries = entries.with_context(|| format!("{} has no VFIO device", self.id))?;
        let name = entries.flatten().next().context("an empty vfio-dev")?;
        Ok(Path::new("/dev/vfio/devices").join(name.file_name()))
    }

    /// One of its files in sysfs.
    pub fn path(&self, file: &str) -> PathBuf {
        Path::new(DEVICES).join(&self.id).join(file)
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {text} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_takes_the_three_fields_apart() {
        let source = |id: &str| Function { id: id.to_owned() }.source();
        assert_eq!(source("0000:01:02.3").unwrap(), 0x0113);
        assert_eq!(source("0000:ff:1f.7").unwrap(), 0xffff);
        assert!(source("0000:01").is_err());
    }
}
