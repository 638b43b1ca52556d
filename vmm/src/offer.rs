// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the remapping units offer the guest: derived from the machine, narrowed by `--iommu`.
//!
//! What is left open becomes as much as the machine can honour. What was asked for and cannot be had is an error that
//! names the part and the reason. Whether the capability bits go together is `iommu`'s own check, which runs after the
//! checks here; those only say it in the words of the command line.

use crate::config::{AddressWidth, Config, IommuConfig, Stages, Switch, TableMode};
use crate::error::Error;
use crate::options::wrong;
use iommu::capabilities::{
    self, Capabilities, CapabilityError, LegacyOptions, PasidBits, ScalableOptions,
};

mod arrival;
mod passthrough;

pub use arrival::{check_arrival, leave_room};
pub use passthrough::{HostOffer, narrow};

/// Checks that the units can be had, before anything of the host is touched.
///
/// # Errors
/// A part of `--iommu` cannot be had in this machine, or together with another.
pub fn check(config: &Config) -> Result<(), Error> {
    let Some(iommu) = &config.iommu else {
        return Ok(());
    };
    check_units(config, iommu)?;
    passthrough::check(config, iommu)?;
    capabilities(config, iommu, LegacyOptions::default().host_address_width).map(|_| ())
}

/// Every unit but the first is for root ports.
fn check_units(config: &Config, iommu: &IommuConfig) -> Result<(), Error> {
    let (units, ports) = (iommu.units, config.root_ports.len());
    if ports + 1 >= usize::from(units) {
        return Ok(());
    }
    Err(wrong(
        "iommu",
        format!(
            "units={units} needs {} root ports, but there are {ports}: the first unit is for the root bus, each other for one port or more; add --root-port",
            units - 1
        ),
    ))
}

/// The capabilities of every unit of the machine, whose tables hold addresses of `phys_bits` bits.
///
/// # Errors
/// As [`check`].
pub fn capabilities(
    config: &Config,
    iommu: &IommuConfig,
    phys_bits: u8,
) -> Result<Capabilities, Error> {
    let base = LegacyOptions {
        host_address_width: phys_bits,
        ..legacy(config, iommu)
    };
    let capabilities = if is_scalable(iommu)? {
        Capabilities::scalable(&scalable(config, iommu, base)?)
    } else {
        Capabilities::legacy(&base)
    };
    capabilities.map_err(refused)
}

/// Width in bits of what devices can address.
#[must_use]
pub const fn address_bits(iommu: &IommuConfig) -> u8 {
    width(iommu.address_width).bits()
}

const fn width(width: AddressWidth) -> capabilities::AddressWidth {
    match width {
        AddressWidth::Bits39 => capabilities::AddressWidth::Bits39,
        AddressWidth::Auto | AddressWidth::Bits48 => capabilities::AddressWidth::Bits48,
        AddressWidth::Bits57 => capabilities::AddressWidth::Bits57,
    }
}

fn refused(error: CapabilityError) -> Error {
    wrong("iommu", error.to_string())
}

/// Some port of the machine takes devices while the guest runs.
fn has_hotplug(config: &Config) -> bool {
    config.root_ports.iter().any(|port| port.hotplug)
}

/// What both modes have. Caching mode is for whoever follows the guest's tables in the host: for passed-through devices, and
/// for those that may come by a hotplug port.
fn legacy(config: &Config, iommu: &IommuConfig) -> LegacyOptions {
    let may_follow = !config.vfios.is_empty() || has_hotplug(config);
    LegacyOptions {
        address_width: width(iommu.address_width),
        caching_mode: iommu.caching_mode.or(may_follow),
        snoop_control: iommu.snoop_control,
        interrupt_remapping: iommu.intremap,
        extended_interrupt_mode: iommu.intremap,
        fault_records: iommu.records,
        ..LegacyOptions::default()
    }
}

/// Whether the unit has scalable mode: where it is asked for, or where something that is asked for needs it.
fn is_scalable(iommu: &IommuConfig) -> Result<bool, Error> {
    let needs = [
        (iommu.stages != Stages::Auto, "stages"),
        (iommu.nesting == Switch::On, "nesting=on"),
        (iommu.pasid_bits.is_some_and(|bits| bits != 0), "pasid-bits"),
        (iommu.pri == Switch::On, "pri=on"),
        (iommu.dirty == Switch::On, "dirty=on"),
        (iommu.posted, "posted=on"),
    ];
    let need = needs.iter().find(|(asked, _)| *asked);
    match (iommu.mode, need) {
        (TableMode::Legacy, Some((_, part))) => Err(wrong(
            "iommu",
            format!("{part} needs mode=scalable: it is not offered in legacy mode"),
        )),
        (mode, need) => Ok(mode == TableMode::Scalable || need.is_some()),
    }
}

fn scalable(
    config: &Config,
    iommu: &IommuConfig,
    base: LegacyOptions,
) -> Result<ScalableOptions, Error> {
    check_stages(iommu)?;
    check_posting(config, iommu)?;
    let stages = stages(iommu.stages);
    let pasid = match iommu.pasid_bits {
        None => Some(PasidBits::MAX),
        Some(0) => None,
        Some(bits) => Some(PasidBits::new(bits).map_err(refused)?),
    };
    let ats = config.dmatests.iter().any(|dmatest| dmatest.ats);
    let (passed, host) = (!config.vfios.is_empty(), &iommu.host);
    let asks = config.dmatests.iter().any(|dmatest| dmatest.pri);
    let page_requests = iommu.pri.or(asks || passed && host.page_requests);
    let device_tlb = ats || page_requests;
    Ok(ScalableOptions {
        base,
        stages,
        // A host that walks first-stage tables does so on a copy of second-stage ones, too.
        nesting: (iommu.nesting).or(stages == capabilities::Stages::Both),
        pasid,
        // The host cannot be told who may execute.
        execute_requests: pasid.is_some() && !passed,
        supervisor_requests: pasid.is_some() && (!passed || host.supervisor),
        extended_accessed: pasid.is_some() && (!passed || host.extended_accessed),
        without_first_stage_gigabyte_pages: passed && !host.gigabyte_pages,
        device_tlb,
        no_write_flag: device_tlb,
        page_requests,
        dirty_tracking: iommu.dirty.or(stages != capabilities::Stages::First),
        abort_mode: true,
        posted_interrupts: iommu.posted,
    })
}

const fn stages(stages: Stages) -> capabilities::Stages {
    match stages {
        Stages::First => capabilities::Stages::First,
        Stages::Second => capabilities::Stages::Second,
        Stages::Auto | Stages::Both => capabilities::Stages::Both,
    }
}

fn check_stages(iommu: &IommuConfig) -> Result<(), Error> {
    let one_stage = matches!(iommu.stages, Stages::First | Stages::Second);
    if iommu.nesting == Switch::On && one_stage {
        return Err(wrong(
            "iommu",
            "nesting=on needs stages=both: first-stage tables stand on second-stage ones",
        ));
    }
    if iommu.dirty == Switch::On && iommu.stages == Stages::First {
        return Err(wrong(
            "iommu",
            "dirty=on needs stages=second or stages=both: it is about accessed and dirty bits of second-stage tables",
        ));
    }
    Ok(())
}

/// Posting is carried out by the unit itself. The interrupts of a passed-through device never come by it.
fn check_posting(config: &Config, iommu: &IommuConfig) -> Result<(), Error> {
    if !iommu.posted {
        return Ok(());
    }
    if !iommu.intremap {
        return Err(wrong(
            "iommu",
            "posted=on needs intremap=on: entries of the interrupt remapping table say what is posted",
        ));
    }
    match config.root_ports.iter().find(|port| port.hotplug) {
        Some(port) => Err(wrong(
            "iommu",
            format!(
                "posted=on cannot be had with the hotplug root port {:?}: interrupts of a passed-through device, which may come there, are not posted",
                port.id
            ),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
