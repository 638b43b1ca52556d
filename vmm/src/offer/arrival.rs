// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is left out of the offer so that a device of the host can come later, and whether one that comes can honour it.

use super::{HostOffer, has_hotplug, width};
use crate::config::{AddressWidth, Config, Stages, Switch};
use crate::host_files::HostFiles;
use iommu::capabilities::Capabilities;
use iommu::spec::regs::{Cap, Ecap};
use vfio::hardware::Support;

/// The configuration of a machine with hotplug slots: what was left open is what the host's units can do, too. Where the host
/// has none, nothing can be passed through, and nothing is left out.
#[must_use]
pub fn leave_room(config: &Config, host: &HostFiles) -> Config {
    let mut config = config.clone();
    let units = units(host);
    if !has_hotplug(&config) || units.is_empty() {
        return config;
    }
    let Some(iommu) = &mut config.iommu else {
        return config;
    };
    let bits = units.iter().map(|(cap, _)| address_bits(*cap)).min();
    let bits = bits.unwrap_or(u8::MAX);
    if iommu.address_width == AddressWidth::Auto && bits < width(AddressWidth::Auto).bits() {
        iommu.address_width = AddressWidth::Bits39;
    }
    iommu.snoop_control &= units.iter().all(|(_, ecap)| ecap.sc());
    if iommu.dirty == Switch::Auto {
        iommu.dirty = Switch::Off;
    }
    let asked = iommu.mode == crate::config::TableMode::Scalable
        || iommu.pasid_bits.is_some()
        || iommu.pri == Switch::On;
    if asked && iommu.stages == Stages::Auto && iommu.nesting == Switch::Auto {
        // Changes in first-stage tables need not be reported.
        iommu.stages = Stages::Second;
        iommu.nesting = Switch::Off;
    }
    config
}

/// CAP and ECAP of the host's Intel units.
fn units(host: &HostFiles) -> Vec<(Cap, Ecap)> {
    let names = host.names("sys/class/iommu");
    let unit = |name: &String| {
        let register =
            |register: &str| host.hex(&format!("sys/class/iommu/{name}/intel-iommu/{register}"));
        Some((Cap::from(register("cap")?), Ecap::from(register("ecap")?)))
    };
    names.iter().filter_map(unit).collect()
}

/// Width in bits of the addresses that a unit's second stage translates.
fn address_bits(cap: Cap) -> u8 {
    let widths = [(3, 57), (2, 48), (1, 39)];
    let widest = widths.iter().find(|(bit, _)| cap.sagaw() >> bit & 1 == 1);
    widest.map_or(0, |(_, bits)| *bits).min(cap.mgaw() + 1)
}

/// Whether a device of which the host can do `host` can come to a guest that was offered `offered`.
///
/// # Errors
/// It cannot: why, and what to do.
pub fn check_arrival(offered: &Capabilities, host: &HostOffer) -> Result<(), String> {
    let bits = offered.address_bits();
    if bits > u32::from(host.address_bits) {
        return Err(format!(
            "the guest was offered addresses of {bits} bits, but the host translates {} bits for it: start the machine with --iommu aw=39",
            host.address_bits
        ));
    }
    if offered.snoop_control() && !host.snoop_control {
        return Err(
            "the guest was offered that requests can be made to snoop, but the host cannot do that for it: have a device like it there from the start"
                .to_owned(),
        );
    }
    if !offered.caching_mode() {
        return Err(
            "the guest need not report new mappings: start the machine with --iommu caching-mode=on"
                .to_owned(),
        );
    }
    let ecap = offered.ecap();
    if ecap.fsts() && !host.support.first_stage {
        return Err(
            "the guest was offered first-stage tables, which this host does not walk itself: start the machine with --iommu stages=second"
                .to_owned(),
        );
    }
    // PASIDs and page requests are the device's own to have or not; how tables are read is the unit's.
    let unit = Support {
        pasid_bits: 0,
        page_requests: false,
        ..Support::offered(offered)
    };
    if let Some(lack) = host.support.lacks(&unit) {
        return Err(lack.to_string());
    }
    if ecap.ssads() {
        return Err(
            "the guest was offered accessed and dirty bits, which the host does not set: start the machine with --iommu dirty=off"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
