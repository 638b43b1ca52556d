// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices of the host that are taken over: whether the host gives them away, and what it can do for them.

use super::Passed;
use super::host::Host;
use crate::board::Board;
use crate::config::{Config, VfioConfig};
use crate::error::Error;
use crate::interrupts::RouteTable;
use crate::kvm::vfio::VfioFiles;
use crate::offer::HostOffer;
use crate::wiring::iommu::Units;
use crate::wiring::pci::PciBus;
use ::iommu::follow::DeviceHandle;
use ::iommu::memory::Ram;
use std::fs::File;
use std::sync::Arc;
use vfio::backend::{HostError, Limits};
use vfio::hardware::Support;
use vfio::pci_address::PciAddress;
use vfio::ram::{HostVa, RamMap, RamRegion};
use vfio::sysfs::{HostDevice, ReservedKind};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

/// Devices that the host has given away, before they are on the bus.
#[derive(Debug)]
pub struct Taken {
    host: Host,
    kvm: VfioFiles,
    ram: RamMap,
    devices: Vec<Device>,
}

/// A device that is open.
#[derive(Debug)]
pub(super) struct Device {
    pub handle: DeviceHandle,
    pub config: VfioConfig,
    pub host: HostDevice,
    pub file: Arc<File>,
}

impl Device {
    /// The name that the user gave, or the address.
    pub fn name(&self) -> String {
        let address = || self.host.address.to_string();
        self.config.id.clone().unwrap_or_else(address)
    }
}

/// Takes over the devices that the configuration asks for; `None` when it asks for none.
///
/// # Errors
/// The host does not give one of them away.
pub fn take_over(board: &Board) -> Result<Option<Taken>, Error> {
    let configs = &board.config.vfios;
    if configs.is_empty() {
        return Ok(None);
    }
    let devices: Vec<HostDevice> = configs
        .iter()
        .map(|config| permitted(config.address))
        .collect::<Result<_, _>>()?;
    for (index, device) in devices.iter().enumerate() {
        check_group(&board.config, device, &devices[..index])?;
    }
    let ram = ram_map(&board.ram)?;
    let host = Host::new(configs, &devices, &ram)?;
    let kvm = VfioFiles::new(&board.vm)?;
    let open = |(number, (config, device)): (u32, (&VfioConfig, HostDevice))| {
        let handle = DeviceHandle(number);
        let file = host.open(handle, &device, &kvm)?;
        Ok(Device {
            handle,
            config: config.clone(),
            host: device,
            file,
        })
    };
    let devices = (1..).zip(configs.iter().zip(devices));
    let devices = devices.map(open).collect::<Result<_, Error>>()?;
    Ok(Some(Taken {
        host,
        kvm,
        ram,
        devices,
    }))
}

/// What the host says of a device that can be passed through as things are.
pub(super) fn permitted(address: PciAddress) -> Result<HostDevice, Error> {
    let refused = |source| Error::Vfio {
        device: address,
        source,
    };
    let device = HostDevice::read(address).map_err(|error| refused(error.into()))?;
    device.permit().map_err(refused)?;
    Ok(device)
}

/// A device that the host's IOMMU cannot tell from one of `others` cannot go through tables of its own, but the guest may want
/// that.
pub(super) fn check_group(
    config: &Config,
    device: &HostDevice,
    others: &[HostDevice],
) -> Result<(), Error> {
    let group = |device: &HostDevice| device.group.as_ref().map(|group| group.number);
    let same = others.iter().find(|other| group(other) == group(device));
    let Some(other) = same.filter(|_| config.iommu.is_some()) else {
        return Ok(());
    };
    Err(Error::HostLacks(format!(
        "--vfio {}: the host cannot translate for it and for {} differently, as both are in the IOMMU group {}: pass one of them through, or take --iommu off",
        device.address,
        other.address,
        group(device).unwrap_or_default()
    )))
}

/// Where guest RAM lies in this process.
pub(super) fn ram_map(ram: &Ram) -> Result<RamMap, Error> {
    let regions = ram.iter().map(|region| RamRegion {
        gpa: region.start_addr(),
        len: region.len(),
        host: HostVa(region.as_ptr() as u64),
    });
    let regions = regions.inspect(|region| {
        let (gpa, len, host) = (region.gpa.0, region.len, region.host.0);
        tracing::debug!("guest RAM: {len:#x} bytes at {gpa:#x} lie at {host:#x}");
    });
    RamMap::new(regions.collect()).map_err(|error| Error::Bug(error.to_string()))
}

impl Taken {
    /// What the host can do for all of the devices.
    ///
    /// # Errors
    /// It does not translate for one of them as a guest needs it.
    pub fn offer(&mut self) -> Result<HostOffer, Error> {
        let mut offer = HostOffer {
            address_bits: u8::MAX,
            snoop_control: true,
            support: Support::EVERYTHING,
        };
        for device in &self.devices {
            let own = host_offer(&mut self.host, device)?;
            offer.address_bits = offer.address_bits.min(own.address_bits);
            offer.snoop_control &= own.snoop_control;
            offer.support = offer.support.and(own.support);
        }
        Ok(offer)
    }

    /// Puts the devices on the bus, and has the mirror follow every unit.
    ///
    /// # Errors
    /// A device cannot be shown to a guest, or has no place.
    pub fn add(
        self,
        board: &Board,
        units: &Arc<Units>,
        table: Arc<RouteTable>,
        bus: &mut PciBus,
    ) -> Result<Passed, Error> {
        let passed = Passed::new(board, units, table)?;
        let side = passed.meet(self.host, self.kvm, self.ram)?;
        for device in &self.devices {
            let function = passed.function(&side, device)?;
            bus.add(&device.name(), device.config.bus.as_ref(), function as _)?;
        }
        Ok(passed)
    }
}

/// What `host` can do for an open device.
pub(super) fn host_offer(host: &mut Host, device: &Device) -> Result<HostOffer, Error> {
    let unusable = |error| unusable(device.host.address, error);
    let limits = host.limits(device.handle).map_err(unusable)?;
    warn_of_reserved(&device.host);
    Ok(HostOffer {
        address_bits: address_bits(&limits),
        snoop_control: host.snoop_control(device.handle),
        support: host.support(device.handle).map_err(unusable)?,
    })
}

pub(super) fn unusable(device: PciAddress, error: HostError) -> Error {
    Error::HostLacks(format!(
        "--vfio {device}: the host does not translate guest RAM for it: {error}"
    ))
}

/// Width of the addresses that can be mapped, reserved ones aside.
fn address_bits(limits: &Limits) -> u8 {
    let last = limits.ranges.last().map_or(0, |range| range.last().0);
    let bits = last.checked_add(1).map_or(64, |end| end.max(1).ilog2());
    u8::try_from(bits).unwrap_or(u8::MAX)
}

/// A guest is not told of what the host reserves beyond the interrupt window, which no guest maps.
fn warn_of_reserved(device: &HostDevice) {
    let reserved = device.group.iter().flat_map(|group| &group.reserved);
    let hidden = |kind| matches!(kind, ReservedKind::Reserved | ReservedKind::SoftwareMsi);
    for reserved in reserved.filter(|reserved| hidden(reserved.kind)) {
        tracing::warn!(
            "{}: the host reserves the addresses {:#x} to {:#x}, where a guest's mapping for it will fault",
            device.address,
            reserved.range.start().0,
            reserved.range.last().0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::testing;
    use ::iommu::address::{Iova, IovaRange};
    use vfio::sysfs::Group;

    #[test]
    fn address_bits_are_those_that_the_last_range_fills() {
        let bits = |ranges: &[(u64, u64)]| {
            let range = |(first, last): &(u64, u64)| IovaRange::new(Iova(*first), Iova(*last));
            address_bits(&Limits {
                page_sizes: !0xfff,
                ranges: ranges.iter().filter_map(range).collect(),
            })
        };
        // The interrupt window is cut out of every aperture.
        let below = (0, 0xfedf_ffff);
        assert_eq!(bits(&[below, (0xfef0_0000, 0x7f_ffff_ffff)]), 39);
        assert_eq!(bits(&[below, (0xfef0_0000, 0xffff_ffff_ffff)]), 48);
        assert_eq!(bits(&[below, (0xfef0_0000, u64::MAX)]), 64);
        // Not all of 39 bits.
        assert_eq!(bits(&[(0, 0x6f_ffff_ffff)]), 38);
        assert_eq!(bits(&[]), 0);
    }

    fn device(number: u8, group: u32) -> HostDevice {
        HostDevice {
            address: format!("0000:00:{number:02x}.0").parse().unwrap(),
            path: std::path::PathBuf::default(),
            vendor: 0x8086,
            device: 0x10d3,
            class: 0x02_0000,
            driver: Some("vfio-pci".to_owned()),
            unit: None,
            group: Some(Group {
                number: group,
                others: Vec::new(),
                reserved: Vec::new(),
            }),
        }
    }

    #[test]
    fn second_device_of_a_group_is_refused_by_name_unless_there_is_no_unit() {
        let config = testing::config(&[]);
        let (first, second) = (device(3, 7), device(4, 7));
        assert!(check_group(&config, &second, &[device(5, 8)]).is_ok());
        let refused = check_group(&config, &second, &[device(5, 8), first.clone()]);
        let text = refused.unwrap_err().to_string();
        for part in [
            "0000:00:04.0",
            "0000:00:03.0",
            "IOMMU group 7",
            "--iommu off",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let without = testing::config(&["--iommu", "off"]);
        assert!(check_group(&without, &second, &[first]).is_ok());
    }
}
