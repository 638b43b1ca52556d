// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The list of extended capabilities that the guest sees (PCI Express Base Specification 6.0, section 7.6): an allow-list.
//!
//! Hidden is what the host decides on (SR-IOV, resizable BARs, ACS, ARI, link training, LTR), what would be a second way to
//! what is virtualised, and all that nobody has looked at. ATS, page requests and PASIDs are the unit's to offer
//! (`services`).

use super::chain::Found;
use super::services::{PASID, Services};
use super::view::View;

const ADVANCED_ERROR_REPORTING: u16 = 0x0001;
const DEVICE_SERIAL_NUMBER: u16 = 0x0003;
const POWER_BUDGETING: u16 = 0x0004;
const VENDOR_SPECIFIC: u16 = 0x000b;
const DESIGNATED_VENDOR_SPECIFIC: u16 = 0x0023;

const ALLOWED: [u16; 5] = [
    ADVANCED_ERROR_REPORTING,
    DEVICE_SERIAL_NUMBER,
    POWER_BUDGETING,
    VENDOR_SPECIFIC,
    DESIGNATED_VENDOR_SPECIFIC,
];

/// Shows those capabilities of `found` that are on the list or among `services`, at the device's offsets. When the first is
/// hidden an empty one stands in its place, because the list begins there. `express` is where the PCI Express capability
/// is. Returns where page requests are, if they are shown.
pub(super) fn show(
    view: &mut View,
    image: &[u8],
    found: &[Found],
    (services, express): (&Services, u16),
) -> Option<u16> {
    let shown = services.shown(found, |id| ALLOWED.contains(&id));
    let first = shown.first().map_or(0, |capability| capability.at);
    if first != 0x100 {
        view.fix(0x100, &(u32::from(first) << 20).to_le_bytes());
    }
    for (index, capability) in shown.iter().enumerate() {
        let next = shown.get(index + 1).map_or(0, |next| next.at);
        let version = match capability.id {
            PASID => 1,
            _ => u32::from(image[usize::from(capability.at) + 2] & 0xf),
        };
        let header = u32::from(capability.id) | version << 16 | u32::from(next) << 20;
        view.give(capability.at, capability.end - capability.at);
        view.fix(capability.at, &header.to_le_bytes());
    }
    services.show(view, image, &shown, express)
}
