// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What passed-through devices leave of the offer: the host's IOMMU translates for them, so that the guest is offered nothing
//! that it cannot carry out.

use super::{is_scalable, width};
use crate::config::{AddressWidth, Config, IommuConfig, Stages, Switch, TableMode};
use crate::error::Error;
use crate::options::wrong;
use vfio::hardware::Support;

/// What the host can do for every device that is passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOffer {
    /// Width in bits of the addresses that its tables translate.
    pub address_bits: u8,
    /// It makes requests snoop that ask not to.
    pub snoop_control: bool,
    /// PASIDs that it can bind, and whether it walks the guest's first-stage tables itself.
    pub support: Support,
}

/// Checks what no host can do.
///
/// # Errors
/// A part of `--iommu` cannot be had with a passed-through device.
pub(super) fn check(config: &Config, iommu: &IommuConfig) -> Result<(), Error> {
    let Some(device) = config.vfios.first() else {
        return Ok(());
    };
    let refused = [
        (
            iommu.caching_mode == Switch::Off,
            "caching-mode=off",
            "a guest then need not report new mappings, and the host would not have them",
        ),
        (
            iommu.posted,
            "posted=on",
            "the unit posts interrupts itself, but those of the device do not come to it",
        ),
        (
            iommu.dirty == Switch::On,
            "dirty=on",
            "the host does not note in the guest's tables what the device wrote to",
        ),
    ];
    match refused.iter().find(|(asked, ..)| *asked) {
        Some((_, part, why)) => Err(wrong(
            "iommu",
            format!("{part} cannot be had with --vfio {}: {why}", device.address),
        )),
        None => Ok(()),
    }
}

/// The configuration of a machine whose devices the host passes through as `host` says: what was left open is what the host
/// can do, too.
///
/// # Errors
/// The host cannot do what was asked for.
pub fn narrow(config: &Config, host: &HostOffer) -> Result<Config, Error> {
    let mut config = config.clone();
    if let Some(iommu) = &mut config.iommu {
        iommu.address_width = address_width(iommu.address_width, host.address_bits)?;
        iommu.snoop_control &= host.snoop_control;
        iommu.dirty = Switch::Off;
        if is_scalable(iommu)? {
            iommu.host = host.support;
            if !host.support.first_stage {
                second_stage_alone(iommu)?;
            }
            iommu.pasid_bits = Some(pasid_bits(iommu.pasid_bits, host.support.pasid_bits)?);
            check_levels(iommu, &host.support)?;
        }
    }
    Ok(config)
}

fn address_width(asked: AddressWidth, host_bits: u8) -> Result<AddressWidth, Error> {
    if asked == AddressWidth::Auto {
        let widths = [AddressWidth::Bits48, AddressWidth::Bits39];
        let fitting = |asked: &AddressWidth| width(*asked).bits() <= host_bits;
        return widths.into_iter().find(fitting).ok_or_else(|| {
            Error::HostLacks(format!(
                "--vfio: the host's IOMMU translates addresses of {host_bits} bits only; 39 are the least that a guest can be offered"
            ))
        });
    }
    let bits = width(asked).bits();
    if bits <= host_bits {
        return Ok(asked);
    }
    Err(Error::HostLacks(format!(
        "--iommu: aw={bits} cannot be had with --vfio: the host's IOMMU translates addresses of {host_bits} bits only"
    )))
}

fn pasid_bits(asked: Option<u8>, host_bits: u8) -> Result<u8, Error> {
    match asked {
        Some(bits) if bits > host_bits => Err(Error::HostLacks(format!(
            "--iommu: pasid-bits={bits} cannot be had with --vfio: the host can bind PASIDs of {host_bits} bits for the device"
        ))),
        asked => Ok(asked.unwrap_or(host_bits)),
    }
}

/// A width of 57 bits means five levels of first-stage tables, too.
fn check_levels(iommu: &IommuConfig, host: &Support) -> Result<(), Error> {
    let first = host.first_stage && iommu.stages != Stages::Second;
    if first && iommu.address_width == AddressWidth::Bits57 && !host.five_levels {
        return Err(Error::HostLacks(
            "--iommu: aw=57 cannot be had with --vfio: the host does not walk first-stage tables of five levels; take aw=48 or stages=second".to_owned(),
        ));
    }
    Ok(())
}

/// Software need not report what becomes present in first-stage tables, so that only a host that walks them itself can serve
/// them.
fn second_stage_alone(iommu: &mut IommuConfig) -> Result<(), Error> {
    let asked = match (iommu.stages, iommu.nesting) {
        (Stages::First, _) => Some("stages=first"),
        (Stages::Both, _) => Some("stages=both"),
        (_, Switch::On) => Some("nesting=on"),
        _ => None,
    };
    if let Some(part) = asked {
        return Err(Error::HostLacks(format!(
            "--iommu: {part} cannot be had with --vfio: changes in first-stage tables need not be reported, and this host does not walk the guest's tables itself; take stages=second"
        )));
    }
    iommu.mode = TableMode::Scalable;
    iommu.stages = Stages::Second;
    iommu.nesting = Switch::Off;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::capabilities;
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    const LAB: HostOffer = HostOffer {
        address_bits: 39,
        snoop_control: false,
        support: Support::NOTHING,
    };

    fn config(iommu: &str) -> Result<Config, Error> {
        let all = ["remora", "run", "--kernel", "k", "--vfio=00:03.0", iommu];
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run(args) => args.config(),
            other => panic!("{other:?} is no run"),
        }
    }

    /// CAP and ECAP.
    fn registers(iommu: &str, host: HostOffer) -> (u64, u64) {
        let config = narrow(&config(iommu).unwrap(), &host).unwrap();
        let offered = capabilities(&config, &config.iommu.unwrap(), 46).unwrap();
        (offered.cap().into_bits(), offered.ecap().into_bits())
    }

    #[test]
    fn passed_through_device_brings_caching_mode_and_the_hosts_width() {
        // CM is bit 7, MGAW bits 21:16, SC bit 7 of ECAP.
        let (cap, ecap) = registers("--iommu=mode=legacy", LAB);
        assert_eq!((cap >> 7 & 1, cap >> 16 & 0x3f, ecap >> 7 & 1), (1, 38, 0));
        let wide = HostOffer {
            address_bits: 57,
            snoop_control: true,
            support: Support::NOTHING,
        };
        let (cap, ecap) = registers("--iommu=mode=legacy", wide);
        assert_eq!((cap >> 7 & 1, cap >> 16 & 0x3f, ecap >> 7 & 1), (1, 47, 1));
        let (cap, _) = registers("--iommu=aw=57", wide);
        assert_eq!(cap >> 16 & 0x3f, 56);
    }

    #[test]
    fn scalable_mode_has_second_stage_tables_alone_where_the_host_cannot_nest() {
        // SMTS 43, FSTS 47, SSTS 46, NEST 26, SSADS 45.
        let bits = |ecap: u64| [43, 47, 46, 26, 45].map(|bit| ecap >> bit & 1);
        let (_, ecap) = registers("--iommu=mode=scalable", LAB);
        assert_eq!(bits(ecap), [1, 0, 1, 0, 0]);
        let nests = HostOffer {
            address_bits: 48,
            support: Support {
                pasid_bits: 16,
                gigabyte_pages: false,
                five_levels: false,
                extended_accessed: false,
                ..Support::EVERYTHING
            },
            ..LAB
        };
        let (_, ecap) = registers("--iommu=mode=scalable,nesting=off", nests);
        assert_eq!(bits(ecap), [1, 1, 1, 0, 0]);
        let (cap, ecap) = registers("--iommu=mode=scalable", nests);
        assert_eq!(bits(ecap), [1, 1, 1, 1, 0]);
        // FS1GP is bit 56 of CAP; PSS 39:35, PASID 40, EAFS 34, SRS 31, ERS 30, PRS 29.
        assert_eq!((cap >> 56 & 1, ecap >> 35 & 0x1f), (0, 15));
        assert_eq!(
            [40, 34, 31, 30, 29].map(|bit| ecap >> bit & 1),
            [1, 0, 1, 0, 1]
        );
        for (asked, reason) in [
            ("--iommu=mode=scalable,pasid-bits=17", "PASIDs of 16 bits"),
            ("--iommu=pasid-bits=20", "PASIDs of 16 bits"),
        ] {
            let error = narrow(&config(asked).unwrap(), &nests).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        let wide = HostOffer {
            address_bits: 57,
            ..nests
        };
        let error = narrow(&config("--iommu=mode=scalable,aw=57").unwrap(), &wide).unwrap_err();
        assert!(error.to_string().contains("five levels"), "{error}");
    }

    #[test]
    fn what_the_host_cannot_do_is_refused_with_the_reason() {
        for (iommu, reason) in [
            (
                "--iommu=aw=48",
                "aw=48 cannot be had with --vfio: the host's IOMMU translates addresses of 39 bits only",
            ),
            ("--iommu=stages=first", "stages=first cannot be had"),
            ("--iommu=nesting=on", "nesting=on cannot be had"),
        ] {
            let error = narrow(&config(iommu).unwrap(), &LAB).unwrap_err();
            assert_eq!(error.status(), 3);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn what_no_host_can_do_is_a_usage_error() {
        for (iommu, reason) in [
            ("--iommu=caching-mode=off", "need not report new mappings"),
            ("--iommu=posted=on", "posts interrupts itself"),
            ("--iommu=dirty=on", "does not note"),
        ] {
            let error = config(iommu).unwrap_err();
            assert_eq!(error.status(), 2, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn machine_without_a_unit_is_left_alone() {
        let off = config("--iommu=off").unwrap();
        assert_eq!(narrow(&off, &LAB).unwrap().iommu, None);
    }
}
