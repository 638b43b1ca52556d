// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a function of the host cannot be passed through, and what to do about it.

use super::{HostDevice, Member, ReservedKind};
use crate::error::Error;
use crate::pci_address::PciAddress;

/// The reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A bridge.
    #[error("it is a bridge: pass through the devices behind it")]
    Bridge,
    /// Nothing translates its DMA.
    #[error(
        "it is behind no IOMMU: switch VT-d on in the firmware and boot the host with intel_iommu=on"
    )]
    NoIommu,
    /// The firmware wants memory mapped for it at all times.
    #[error(
        "the firmware reserves memory at {first:#x}-{last:#x} for it (RMRR), which must stay mapped one to one"
    )]
    MandatoryReserved {
        /// The first address.
        first: u64,
        /// The last address.
        last: u64,
    },
    /// A driver of the host uses it.
    #[error("the host's driver {0} uses it: bind it to vfio-pci (remora devices bind)")]
    InUse(String),
    /// No driver is bound to it.
    #[error("it is not bound to vfio-pci (remora devices bind)")]
    NotBound,
    /// A driver of the host uses another function of its group.
    #[error(
        "the host's driver {driver} uses {other}, which is in the same IOMMU group {group}: bind that to vfio-pci as well"
    )]
    GroupNotViable {
        /// The group.
        group: u32,
        /// The other function.
        other: PciAddress,
        /// Its driver.
        driver: String,
    },
}

impl HostDevice {
    /// Why it cannot be passed through as things are; `None` when it can.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.lasting_refusal().or_else(|| {
            let driver = self.driver.as_deref();
            match driver {
                None => Some(Refusal::NotBound),
                Some(driver) if !is_vfio(driver) => Some(Refusal::InUse(driver.to_owned())),
                Some(_) => self.group_refusal(),
            }
        })
    }

    /// Whether a driver of VFIO's for PCI is bound to it: vfio-pci, or a variant of it for some device.
    #[must_use]
    pub fn has_vfio_driver(&self) -> bool {
        self.driver.as_deref().is_some_and(is_vfio)
    }

    /// Fails where it cannot be passed through as things are.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn permit(&self) -> Result<(), Error> {
        self.refusal().map_or(Ok(()), |refusal| {
            Err(Error::Refused {
                device: self.address,
                refusal,
            })
        })
    }

    /// Why it cannot be passed through whatever driver is bound to what; `None` when it can.
    #[must_use]
    pub fn lasting_refusal(&self) -> Option<Refusal> {
        if self.class >> 16 == 0x06 {
            return Some(Refusal::Bridge);
        }
        let Some(group) = &self.group else {
            return Some(Refusal::NoIommu);
        };
        let mut reserved = group.reserved.iter();
        let direct = reserved.find(|reserved| reserved.kind == ReservedKind::Direct)?;
        Some(Refusal::MandatoryReserved {
            first: direct.range.start().0,
            last: direct.range.last().0,
        })
    }

    fn group_refusal(&self) -> Option<Refusal> {
        let group = self.group.as_ref()?;
        let user = |member: &Member| {
            let driver = member.driver.clone()?;
            (!is_harmless(&driver)).then_some((member.address, driver))
        };
        let (other, driver) = group.others.iter().find_map(user)?;
        Some(Refusal::GroupNotViable {
            group: group.number,
            other,
            driver,
        })
    }
}

/// Whether `driver` is one of VFIO's for PCI: vfio-pci, or a variant of it for some device.
fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Whether VFIO lets a group be used while `driver` holds a function of it: it does no DMA.
fn is_harmless(driver: &str) -> bool {
    is_vfio(driver) || matches!(driver, "pci-stub" | "pcieport" | "shpchp")
}
