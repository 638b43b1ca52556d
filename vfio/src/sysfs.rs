// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host says of a PCI function in sysfs, and why it cannot be passed through where it cannot.
//!
//! Read once, before anything is opened: sysfs can change at any time, and what the kernel then refuses is reported by the
//! call that it refuses.

mod refusal;
mod reserved;

pub use refusal::Refusal;
pub use reserved::{ReservedKind, ReservedRange};

use crate::pci_address::PciAddress;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A PCI function of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Where it sits.
    pub address: PciAddress,
    /// Its directory.
    pub path: PathBuf,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class << 16 | subclass << 8 | programming interface.
    pub class: u32,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The unit that translates its DMA, by its name among `/sys/class/iommu`.
    pub unit: Option<String>,
    /// Its IOMMU group.
    pub group: Option<Group>,
}

/// Where the PCI functions of the host with this sysfs sit, in order.
///
/// # Errors
/// The directory of PCI devices cannot be read.
pub fn addresses_below(sysfs: &Path) -> Result<Vec<PciAddress>, Error> {
    let path = sysfs.join("bus/pci/devices");
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let mut addresses = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // Whatever else the kernel may put there is no function.
        addresses.extend(name.to_string_lossy().parse::<PciAddress>());
    }
    addresses.sort_unstable();
    Ok(addresses)
}

/// Functions that the host's IOMMU cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: u32,
    /// The other functions in it.
    pub others: Vec<Member>,
    /// Addresses that it reserves.
    pub reserved: Vec<ReservedRange>,
}

/// Another function of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it sits.
    pub address: PciAddress,
    /// The driver that it is bound to.
    pub driver: Option<String>,
}

/// Something in sysfs that cannot be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such function.
    #[error("the host has no PCI device at {0}: see lspci -D")]
    NoDevice(PciAddress),
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else than it should.
    #[error("{0} does not hold what sysfs has there")]
    Malformed(PathBuf),
}

impl HostDevice {
    /// What the host says of the function at `address`.
    ///
    /// # Errors
    /// There is none, or sysfs cannot be read.
    pub fn read(address: PciAddress) -> Result<Self, Error> {
        Self::read_below(Path::new("/sys"), address)
    }

    /// The same of the sysfs at `sysfs`, which tests make up.
    ///
    /// # Errors
    /// As for [`HostDevice::read`].
    pub fn read_below(sysfs: &Path, address: PciAddress) -> Result<Self, Error> {
        let path = sysfs.join("bus/pci/devices").join(address.to_string());
        if !path.exists() {
            return Err(Error::NoDevice(address));
        }
        let id = |file: &str| {
            let path = path.join(file);
            u16::try_from(number(&path)?).map_err(|_| Error::Malformed(path))
        };
        Ok(Self {
            address,
            vendor: id("vendor")?,
            device: id("device")?,
            class: number(&path.join("class"))?,
            driver: link(&path.join("driver"))?,
            unit: link(&path.join("iommu"))?,
            group: Group::read(&path.join("iommu_group"), address)?,
            path,
        })
    }

    /// The name of the character device by which iommufd knows the function (`/dev/vfio/devices/NAME`); `None` when no driver
    /// of VFIO's is bound to it, or the kernel has none.
    #[must_use]
    pub fn cdev(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.path.join("vfio-dev")).ok()?;
        let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        let name = names.next()?;
        Some(Path::new("/dev/vfio/devices").join(name))
    }
}

impl Group {
    fn read(path: &Path, address: PciAddress) -> Result<Option<Self>, Error> {
        let Some(name) = link(path)? else {
            return Ok(None);
        };
        let number = name.parse();
        Ok(Some(Self {
            number: number.map_err(|_| Error::Malformed(path.to_owned()))?,
            others: members(&path.join("devices"), address)?,
            reserved: reserved::parse(&text(&path.join("reserved_regions"))?)
                .ok_or_else(|| Error::Malformed(path.join("reserved_regions")))?,
        }))
    }
}

fn members(path: &Path, except: PciAddress) -> Result<Vec<Member>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut members = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A group can hold devices that are not PCI's; VFIO's PCI driver has no say over them.
        let Ok(address) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        if address != except {
            let driver = link(&entry.path().join("driver"))?;
            members.push(Member { address, driver });
        }
    }
    members.sort_by_key(|member| member.address);
    Ok(members)
}

/// The last part of where a link points; `None` when there is no link.
fn link(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_link(path) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// A file with one hexadecimal number.
fn number(path: &Path) -> Result<u32, Error> {
    let text = text(path)?;
    let digits = text.trim().strip_prefix("0x");
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Error::Malformed(path.to_owned()))
}

#[cfg(test)]
mod tests;
