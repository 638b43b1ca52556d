// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI Express capability of the device, rewritten to where the guest has it (PCI Express Base Specification 6.0,
//! section 7.5.3).
//!
//! A device that is part of the host's root complex may sit behind a port in the guest, and the other way round. What
//! depends on the way to the device is hidden: slot, ASPM, LTR, OBFF, ARI, atomic routing.

use super::view::View;
use devices::pci::express::ExpressCapabilities as Capabilities;

/// Where the guest has the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind a port, with a link.
    BehindPort,
    /// On the root bus, part of the root complex.
    RootComplex,
}

/// Device types of endpoints.
const ENDPOINT: u8 = 0x0;
const LEGACY_ENDPOINT: u8 = 0x1;
const INTEGRATED_ENDPOINT: u8 = 0x9;

/// Device capabilities: phantom functions (4:3), slot power (27:18) and function level reset (28).
const PHANTOM_FUNCTIONS: u32 = 0x18;
const SLOT_POWER: u32 = 0x0ffc_0000;
const FUNCTION_LEVEL_RESET: u32 = 1 << 28;
/// Link capabilities: ASPM (11:10) and clock power management (18).
const LINK_POWER: u32 = 0x0004_0c00;
/// Link capabilities and status of a link that the device does not have: 2.5 GT/s, one lane.
const ONE_LANE: u16 = 0x0011;
/// Link control that is the guest's to scribble on: common clock, extended synch.
const LINK_SCRATCH: u8 = 0xc0;
/// Device capabilities 2: completion time-outs.
const TIMEOUTS: u32 = 0x1f;

/// Bytes of the capability, by version.
const BYTES_V1: u16 = 0x14;
const BYTES_V2: u16 = 0x3c;
/// Bytes of the part that functions without a link have in version 1.
const BYTES_V1_NO_LINK: u16 = 0x0c;

/// Offset of the device control register.
pub(super) const DEVICE_CONTROL: u16 = 0x08;
/// Its bit that starts a function level reset, in the register's second byte.
pub(super) const INITIATE_RESET: u8 = 0x80;

/// Whether the capability at `at`, with room up to `end`, can be shown: it is an endpoint's, and has room for what the guest's
/// place demands.
pub(super) fn can_show(image: &[u8], (at, end): (u16, u16), place: Place) -> bool {
    let capabilities = Capabilities::from_bits(u16_at(image, at + 2));
    let endpoint = matches!(
        capabilities.device_type(),
        ENDPOINT | LEGACY_ENDPOINT | INTEGRATED_ENDPOINT
    );
    let needed = match (capabilities.version(), place) {
        (0 | 1, Place::RootComplex) => BYTES_V1_NO_LINK,
        (0 | 1, Place::BehindPort) => BYTES_V1,
        _ => BYTES_V2,
    };
    let has_link = capabilities.device_type() != INTEGRATED_ENDPOINT;
    let linkless = capabilities.version() < 2 && !has_link && place == Place::BehindPort;
    endpoint && !linkless && u32::from(at) + u32::from(needed) <= u32::from(end)
}

/// Shows the capability at `at` as the guest's place demands. `resettable`: a function level reset can be done.
pub(super) fn show(view: &mut View, image: &[u8], at: u16, place: Place, resettable: bool) {
    let host = Capabilities::from_bits(u16_at(image, at + 2));
    let host_link = host.device_type() != INTEGRATED_ENDPOINT;
    let device_type = match place {
        Place::RootComplex => INTEGRATED_ENDPOINT,
        Place::BehindPort if host_link => host.device_type(),
        Place::BehindPort => ENDPOINT,
    };
    let shown = host.with_device_type(device_type).with_slot(false);
    view.fix(at + 2, &shown.into_bits().to_le_bytes());
    show_device(view, image, at, resettable);
    match (place, host_link) {
        (Place::BehindPort, true) => show_link(view, image, at),
        (Place::BehindPort, false) => make_link(view, at),
        (Place::RootComplex, _) if host.version() < 2 && !host_link => {}
        (Place::RootComplex, _) => view.fix(at + 0x0c, &[0; 8]),
    }
    if host.version() >= 2 {
        // Slot and root registers, then the second set.
        view.fix(at + 0x14, &[0; 0x10]);
        let timeouts = u32_at(image, at + 0x24) & TIMEOUTS;
        view.fix(at + 0x24, &timeouts.to_le_bytes());
        view.set_masks(at + 0x28, &[0xe0, 0xff, 0xff, 0xff], &[0x1f, 0, 0, 0]);
        view.fix(at + 0x2c, &[0; 0x10]);
    }
}

fn show_device(view: &mut View, image: &[u8], at: u16, resettable: bool) {
    let mut capabilities = u32_at(image, at + 4) & !PHANTOM_FUNCTIONS & !SLOT_POWER;
    if !resettable {
        capabilities &= !FUNCTION_LEVEL_RESET;
    }
    view.fix(at + 4, &capabilities.to_le_bytes());
    // The device's control and status, but for the bit that starts a reset, which is ours to do.
    let control = at + DEVICE_CONTROL;
    view.set_masks(
        control,
        &[0, INITIATE_RESET, 0, 0],
        &[0xff, !INITIATE_RESET, 0xff, 0xff],
    );
}

/// The device's link, without its power management.
fn show_link(view: &mut View, image: &[u8], at: u16) {
    let capabilities = u32_at(image, at + 0x0c) & !LINK_POWER;
    view.fix(at + 0x0c, &capabilities.to_le_bytes());
    view.fix(at + 0x10, &[0, 0]);
    view.ours.allow_write(at + 0x10, &[LINK_SCRATCH]);
    view.set_masks(at + 0x12, &[0, 0], &[0, 0]);
}

/// A link for a device that has none.
fn make_link(view: &mut View, at: u16) {
    view.fix(at + 0x0c, &u32::from(ONE_LANE).to_le_bytes());
    view.fix(at + 0x10, &[0, 0]);
    view.ours.allow_write(at + 0x10, &[LINK_SCRATCH]);
    view.fix(at + 0x12, &ONE_LANE.to_le_bytes());
}

fn u16_at(image: &[u8], at: u16) -> u16 {
    let from = usize::from(at);
    let bytes = image.get(from..from + 2);
    bytes.map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(image: &[u8], at: u16) -> u32 {
    u32::from(u16_at(image, at)) | u32::from(u16_at(image, at + 2)) << 16
}
