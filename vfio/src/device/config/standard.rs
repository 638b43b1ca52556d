// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The list of capabilities that the guest sees: those that are on the allow-list, at the offsets that the device has them
//! at, linked past the others.

use super::chain::Found;
use super::express::{self, Place};
use super::view::View;
use devices::pci::config::{Status, offset};
use devices::pci::msi::MsiControl;
use devices::pci::msix::{MsixControl, MsixPlace};

const POWER_MANAGEMENT: u16 = 0x01;
const VITAL_PRODUCT_DATA: u16 = 0x03;
const MSI: u16 = 0x05;
const VENDOR: u16 = 0x09;
const EXPRESS: u16 = 0x10;
const MSIX: u16 = 0x11;
const SATA: u16 = 0x12;
const ADVANCED_FEATURES: u16 = 0x13;

/// Where the guest finds what we act upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) power_management: Option<u16>,
    pub(super) msi: Option<MsiPlace>,
    pub(super) msix: Option<MsixCapability>,
    pub(super) express: Option<u16>,
    pub(super) advanced_features: Option<u16>,
}

/// The MSI capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsiPlace {
    pub(super) at: u16,
    pub(super) wide: bool,
    pub(super) masking: bool,
}

impl MsiPlace {
    fn bytes(self) -> u16 {
        let data = if self.wide { 0x0c } else { 0x08 };
        if self.masking { data + 12 } else { data + 2 }
    }

    /// Offset of the data register.
    pub(super) fn data(self) -> u16 {
        self.at + if self.wide { 0x0c } else { 0x08 }
    }

    /// Offset of the mask register.
    pub(super) fn mask(self) -> u16 {
        self.data() + 4
    }
}

/// The MSI-X capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsixCapability {
    pub(super) at: u16,
    pub(super) place: MsixPlace,
}

/// What decides about capabilities beside the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) place: Place,
    pub(super) resettable: bool,
    /// MSI vectors that VFIO offers.
    pub(super) msi: u32,
    /// MSI-X vectors that VFIO offers.
    pub(super) msix: u32,
}

/// Shows the capabilities of `found` that may be shown, and links them.
pub(super) fn show(
    view: &mut View,
    image: &[u8],
    found: &[Found],
    conditions: Conditions,
) -> Places {
    let mut places = Places::default();
    let mut link = offset::CAPABILITIES;
    for capability in found {
        if !show_one(view, image, *capability, conditions, &mut places) {
            view.fix(
                capability.at,
                &vec![0; usize::from(capability.end - capability.at)],
            );
            continue;
        }
        let [id, _] = capability.id.to_le_bytes();
        let [at, _] = capability.at.to_le_bytes();
        view.fix(capability.at, &[id, 0]);
        view.ours.set_u8(link, at);
        link = capability.at + 1;
    }
    let any = link != offset::CAPABILITIES;
    let status = Status::new().with_capability_list(any);
    view.ours.set_u16(offset::STATUS, status.into_bits());
    places
}

/// Whether `capability` is shown. Its bytes are the device's, other than what is set here.
fn show_one(
    view: &mut View,
    image: &[u8],
    capability: Found,
    conditions: Conditions,
    places: &mut Places,
) -> bool {
    let Found { id, at, end } = capability;
    let room = end - at;
    match id {
        POWER_MANAGEMENT if room >= 8 => {
            show_power_management(view, image, at);
            places.power_management = Some(at);
        }
        MSI if conditions.msi > 0 => {
            let Some(msi) = show_msi(view, image, at, room) else {
                return false;
            };
            places.msi = Some(msi);
        }
        MSIX if room >= 12 && conditions.msix > 0 => {
            let Some(msix) = show_msix(view, image, at, conditions.msix) else {
                return false;
            };
            places.msix = Some(msix);
        }
        EXPRESS if express::can_show(image, (at, end), conditions.place) => {
            express::show(view, image, at, conditions.place, conditions.resettable);
            places.express = Some(at);
        }
        ADVANCED_FEATURES if room >= 6 && conditions.resettable => {
            // Its control register holds nothing but the bit that starts a reset.
            view.fix(at + 4, &[0]);
            places.advanced_features = Some(at);
        }
        VITAL_PRODUCT_DATA | VENDOR | SATA => {}
        _ => return false,
    }
    true
}

/// No PME: nobody would tell the guest.
fn show_power_management(view: &mut View, image: &[u8], at: u16) {
    let high = image[usize::from(at) + 3] & 0x07;
    view.fix(at + 3, &[high]);
    // The power state; what the guest asked for is remembered here as well.
    view.set_masks(at + 4, &[0, 0xff, 0xff, 0xff], &[0x03, 0, 0, 0]);
    view.ours.allow_write(at + 4, &[0x03]);
}

/// All of it is ours: the kernel programs the device's, by way of `VFIO_DEVICE_SET_IRQS`.
fn show_msi(view: &mut View, image: &[u8], at: u16, room: u16) -> Option<MsiPlace> {
    let control = MsiControl::from_bits(u16_at(image, at + 2));
    let place = MsiPlace {
        at,
        wide: control.wide(),
        masking: control.masking(),
    };
    if place.bytes() > room {
        return None;
    }
    view.fix(at + 2, &vec![0; usize::from(place.bytes() - 2)]);
    let shown = MsiControl::new()
        .with_capable(control.capable().min(5))
        .with_wide(place.wide)
        .with_masking(place.masking);
    view.ours.set_u16(at + 2, shown.into_bits());
    let software = MsiControl::new().with_enable(true).with_granted(7);
    view.ours
        .allow_write(at + 2, &software.into_bits().to_le_bytes());
    view.ours.allow_write(at + 4, &[0xfc, 0xff, 0xff, 0xff]);
    if place.wide {
        view.ours.allow_write(at + 8, &[0xff; 4]);
    }
    view.ours.allow_write(place.data(), &[0xff; 2]);
    if place.masking {
        let vectors = 1u32 << shown.capable();
        let bits = u32::MAX >> (32 - vectors);
        view.ours.allow_write(place.mask(), &bits.to_le_bytes());
    }
    Some(place)
}

/// Ours, too; the table is where the device has it, in a BAR. `None` for a table that no function can have.
fn show_msix(view: &mut View, image: &[u8], at: u16, most: u32) -> Option<MsixCapability> {
    let control = MsixControl::from_bits(u16_at(image, at + 2));
    let vectors = control.last() + 1;
    let register = |at: u16| {
        let value = u32::from(u16_at(image, at)) | u32::from(u16_at(image, at + 2)) << 16;
        let bar = value.to_le_bytes()[0] & 7;
        (bar < 6).then_some((bar, value & !7))
    };
    let place = MsixPlace {
        vectors,
        table: register(at + 4)?,
        pending: register(at + 8)?,
    };
    if u32::from(vectors) > most {
        return None;
    }
    let shown = MsixControl::new().with_last(control.last());
    view.fix(at + 2, &shown.into_bits().to_le_bytes());
    let software = MsixControl::new()
        .with_function_mask(true)
        .with_enable(true);
    view.ours
        .allow_write(at + 2, &software.into_bits().to_le_bytes());
    let from = usize::from(at) + 4;
    view.fix(at + 4, &image[from..from + 8]);
    Some(MsixCapability { at, place })
}

fn u16_at(image: &[u8], at: u16) -> u16 {
    let from = usize::from(at);
    let bytes = image.get(from..from + 2);
    bytes.map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}
