// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The capabilities of what a function does together with an IOMMU: translation caches (ATS), page requests (PRI) and PASIDs
//! (PCI Express Base Specification 6.0, sections 10.5.1, 10.5.2 and 7.8.9).
//!
//! The host's kernel has enabled them before the device was passed through, and keeps them so; VFIO shows the first two
//! read-only and hides the third. So what they can do is the device's, and their switches are ours: the guest's driver sees
//! what it sets. What the guest may really use its unit decides, by its context entries.

use super::chain::{self, Found};
use super::view::View;
use crate::hardware::{HardwareInfo, Support};
use devices::pci::config::ConfigSpace;
use devices::pci::express::DeviceCapabilities2;
use devices::pci::pasid::PasidCapability;

pub(super) const ATS: u16 = 0x000f;
pub(super) const PRI: u16 = 0x0013;
pub(super) const PASID: u16 = 0x001b;

/// Bytes of each capability.
const ATS_BYTES: u16 = 8;
const PRI_BYTES: u16 = 16;
const PASID_BYTES: u16 = 8;
/// Where a function that shares another's PASID capability gets its own: at the end of the space.
const PASID_AT_END: u16 = 0x1000 - PASID_BYTES;

/// Registers of the page request capability.
const PRI_CONTROL: u16 = 0x04;
const PRI_STATUS: u16 = 0x06;
const PRI_ALLOCATION: u16 = 0x0c;
/// Bits of its status register: 8, nothing is outstanding; 15, answers to requests with PASID have one.
const STOPPED: u16 = 1 << 8;
const RESPONSE_PASID_REQUIRED: u16 = 1 << 15;

/// `IOMMU_HW_CAP_*` bits (include/uapi/linux/iommufd.h).
const HOST_PASID_PRIVILEGED: u64 = 1 << 2;
const HOST_NO_ATS: u64 = 1 << 3;

/// What a function is to offer the guest's drivers. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// PASIDs.
    pub pasid: Option<PasidService>,
    /// The translation cache, where the device has one.
    pub ats: bool,
    /// Page requests, where the device has them.
    pub page_requests: bool,
}

/// The PASID capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidService {
    /// Where it stands: room that no other capability has.
    pub at: u16,
    /// Bits of a PASID, 1 to 20.
    pub bits: u8,
    /// Requests may have supervisor privilege.
    pub privileged: bool,
}

impl Services {
    /// What a function offers whose unit in the guest offers `offered`. `here` is what the host reports of it, `config` its
    /// configuration space as sysfs has it, where nothing is hidden. The guest's unit has to offer device-TLBs for `ats`.
    #[must_use]
    pub fn new(
        here: (&HardwareInfo, &Support),
        offered: &Support,
        device_tlb: bool,
        config: &[u8],
    ) -> Self {
        let (hardware, support) = here;
        let host = |bit| hardware.capabilities & bit != 0;
        let both = support.and(*offered);
        let found = chain::extended(config);
        let at = found.iter().find(|found| found.id == PASID);
        Self {
            pasid: (both.pasid_bits != 0).then(|| PasidService {
                at: at.map_or(PASID_AT_END, |found| found.at),
                bits: both.pasid_bits,
                privileged: host(HOST_PASID_PRIVILEGED) && both.supervisor,
            }),
            ats: device_tlb && !host(HOST_NO_ATS),
            page_requests: device_tlb && both.page_requests,
        }
    }

    /// The capabilities of `found` that are shown, by `is_allowed` or by what is offered, and the one that the host hides.
    pub(super) fn shown(&self, found: &[Found], is_allowed: impl Fn(u16) -> bool) -> Vec<Found> {
        let fits = |capability: &Found, bytes| capability.end - capability.at >= bytes;
        let mut shown: Vec<Found> = found
            .iter()
            .filter(|capability| match capability.id {
                ATS => self.ats && fits(capability, ATS_BYTES),
                PRI => self.page_requests && fits(capability, PRI_BYTES),
                id => is_allowed(id),
            })
            .copied()
            .collect();
        shown.extend(self.pasid.map(|pasid| Found {
            id: PASID,
            at: pasid.at,
            end: pasid.at + PASID_BYTES,
        }));
        shown
    }

    /// Puts our switches over those of the capabilities that are shown. Returns where page requests are, if they are.
    pub(super) fn show(
        &self,
        view: &mut View,
        image: &[u8],
        shown: &[Found],
        express: u16,
    ) -> Option<u16> {
        let mut page_requests = None;
        for capability in shown {
            match capability.id {
                ATS => show_ats(view, capability.at),
                PRI => {
                    show_page_requests(view, image, capability.at);
                    page_requests = Some(capability.at);
                }
                PASID => self.show_pasid(view, image, express),
                _ => {}
            }
        }
        page_requests
    }

    fn show_pasid(&self, view: &mut View, image: &[u8], express: u16) {
        let Some(pasid) = self.pasid else {
            return;
        };
        let capability = PasidCapability::new()
            .with_width(pasid.bits)
            .with_privileged(pasid.privileged);
        view.fix(pasid.at + 4, &capability.into_bits().to_le_bytes());
        view.fix(pasid.at + 6, &[0, 0]);
        // Enable, and privileged where there is that. None may execute: the host's kernel cannot be told to allow it.
        let switches = 1 | u8::from(pasid.privileged) << 2;
        view.ours.allow_write(pasid.at + 6, &[switches]);
        // A PASID is an end-end prefix. The host need not say that the device can have one: its root complex decides.
        let from = usize::from(express) + 2;
        let version = image.get(from).map_or(0, |low| low & 0xf);
        if version >= 2 {
            let prefixes = DeviceCapabilities2::from_bits(view.ours.u32(express + 0x24))
                .with_extended_fmt(true)
                .with_end_end_prefixes(true)
                .with_max_end_end_prefixes(1);
            view.fix(express + 0x24, &prefixes.into_bits().to_le_bytes());
        }
    }
}

/// Smallest translation unit and the switch are the guest's to write, and nobody's to obey.
fn show_ats(view: &mut View, at: u16) {
    view.fix(at + 6, &[0, 0]);
    view.ours.allow_write(at + 6, &[0x1f, 0x80]);
}

fn show_page_requests(view: &mut View, image: &[u8], at: u16) {
    let from = usize::from(at + PRI_STATUS);
    let status = image.get(from..from + 2);
    let status = status.map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    view.fix(at + PRI_CONTROL, &[0, 0]);
    view.ours.allow_write(at + PRI_CONTROL, &[1]);
    let shown = status & RESPONSE_PASID_REQUIRED | STOPPED;
    view.fix(at + PRI_STATUS, &shown.to_le_bytes());
    view.fix(at + PRI_ALLOCATION, &[0; 4]);
    view.ours.allow_write(at + PRI_ALLOCATION, &[0xff; 4]);
}

/// Shows the page request capability at `at` as stopped while the guest has it disabled: what is outstanding on the host is no
/// business of its driver.
pub(super) fn settle(ours: &mut ConfigSpace, at: u16) {
    let enabled = ours.u16(at + PRI_CONTROL) & 1 != 0;
    let status = ours.u16(at + PRI_STATUS) & !STOPPED;
    let stopped = if enabled { 0 } else { STOPPED };
    ours.set_u16(at + PRI_STATUS, status | stopped);
}

/// Whether the host's kernel has enabled the function's page requests; `config` is its configuration space.
#[must_use]
pub fn page_requests_enabled(config: &[u8]) -> bool {
    let found = chain::extended(config);
    let control = found
        .iter()
        .find(|capability| capability.id == PRI)
        .and_then(|capability| config.get(usize::from(capability.at + PRI_CONTROL)));
    control.is_some_and(|control| control & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::express_image;
    use super::super::{HostFunction, Place, VirtualConfig};
    use super::*;

    /// An endpoint with PASIDs at 0x160 (which VFIO hides), ATS at 0x168 and page requests, enabled, at 0x180.
    fn sysfs() -> Vec<u8> {
        let mut image = express_image(0);
        image[0x90..0x92].copy_from_slice(&[0x14, 0xc0]);
        let mut put = |at: usize, word: u32| image[at..at + 4].copy_from_slice(&word.to_le_bytes());
        put(0x100, 0x1601_0003);
        put(0x160, 0x1681_001b);
        put(0x164, 0x0001_1400);
        put(0x168, 0x1801_000f);
        put(0x16c, 0x8000_0060);
        put(0x180, 0x0001_0013);
        put(0x184, 0x8000_0001);
        put(0x188, 0x40);
        put(0x18c, 0x20);
        image
    }

    /// The same as VFIO shows it.
    fn vfio() -> Vec<u8> {
        let mut image = sysfs();
        image[0x100..0x104].copy_from_slice(&0x1681_0003u32.to_le_bytes());
        image[0x160..0x168].fill(0);
        image
    }

    fn services() -> Services {
        let hardware = HardwareInfo {
            pasid_bits: 20,
            capabilities: HOST_PASID_PRIVILEGED,
            ..HardwareInfo::default()
        };
        let offered = Support {
            pasid_bits: 16,
            ..Support::EVERYTHING
        };
        Services::new((&hardware, &Support::EVERYTHING), &offered, true, &sysfs())
    }

    fn config(image: &[u8], services: &Services) -> VirtualConfig {
        let host = HostFunction {
            image,
            bars: [0; 6],
            intx: false,
            msi: 0,
            msix: 0,
            resettable: true,
        };
        VirtualConfig::with_services(&host, Place::BehindPort, services).unwrap()
    }

    fn dword(config: &VirtualConfig, image: &[u8], at: u16) -> u32 {
        let from = usize::from(at);
        let mut data = [0; 4];
        data.copy_from_slice(&image[from..from + 4]);
        config.read(at, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn services_are_what_host_and_unit_have() {
        assert_eq!(
            services().pasid,
            Some(PasidService {
                at: 0x160,
                bits: 16,
                privileged: true,
            })
        );
        assert!(services().ats && services().page_requests);
        let hardware = HardwareInfo {
            capabilities: HOST_NO_ATS,
            ..HardwareInfo::default()
        };
        let none = Services::new(
            (&hardware, &Support::NOTHING),
            &Support::EVERYTHING,
            true,
            &[],
        );
        assert_eq!(none, Services::default());
    }

    #[test]
    fn hidden_capabilities_stand_in_the_list_with_switches_of_ours() {
        let image = vfio();
        let mut config = config(&image, &services());
        let read = |config: &VirtualConfig, at| dword(config, &image, at);
        assert_eq!(read(&config, 0x100), 0x1681_0003);
        assert_eq!(read(&config, 0x168), 0x1801_000f);
        assert_eq!(read(&config, 0x180), 0x1601_0013);
        assert_eq!(read(&config, 0x160), 0x0001_001b);
        assert_eq!(read(&config, 0x164), 0x0000_1004, "16 bits, privileged");
        assert_eq!(read(&config, 0x16c), 0x0000_0060, "ATS is disabled");
        assert_eq!(read(&config, 0x184), 0x8100_0000, "disabled and stopped");
        assert_eq!(read(&config, 0x188), 0x40, "the device's capacity");
        assert_eq!(read(&config, 0x18c), 0);
        for (at, data, expected) in [
            (0x166, [0xff, 0xff], 0x0005_1004),
            (0x16e, [0x1f, 0x80], 0x801f_0060),
            (0x184, [0x01, 0x00], 0x8000_0001),
        ] {
            let outcome = config.write(at, &data);
            assert_eq!(outcome.host, None, "the host's stays as it is");
            assert_eq!(read(&config, at & !3), expected);
        }
        assert_eq!(config.write(0x184, &[0, 0]).host, None);
        assert_eq!(read(&config, 0x184), 0x8100_0000, "stopped again");
        config.reset();
        assert_eq!(read(&config, 0x164), 0x0000_1004);
    }

    #[test]
    fn prefixes_of_a_function_with_pasids_are_shown() {
        let image = vfio();
        let with = config(&image, &services());
        assert_eq!(dword(&with, &image, 0xe4) & 0x00f0_0000, 0x0070_0000);
        let without = config(&image, &Services::default());
        assert_eq!(dword(&without, &image, 0xe4) & 0x00f0_0000, 0);
        assert_eq!(
            dword(&without, &image, 0x100),
            0x0001_0003,
            "and no service"
        );
    }

    #[test]
    fn page_requests_are_the_hosts_to_enable() {
        assert!(page_requests_enabled(&sysfs()));
        let mut off = sysfs();
        off[0x184] = 0;
        assert!(!page_requests_enabled(&off));
        assert!(!page_requests_enabled(&[]));
    }
}
