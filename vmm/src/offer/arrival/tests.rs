// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Machines with hotplug slots on hosts with and without units, and devices that come there. CAP: SAGAW is bits 12:8, MGAW bits 21:16.
//! ECAP: SC is bit 7, SSADS bit 45, FSTS bit 47.

use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

/// A unit of 39 bits without snoop control.
const NARROW: (u64, u64) = (38 << 16 | 2 << 8, 0xf00);
/// One of 48 bits with it.
const WIDE: (u64, u64) = (47 << 16 | 6 << 8, 0xf80);

const HOST: HostOffer = HostOffer {
    address_bits: 39,
    snoop_control: false,
    support: Support::NOTHING,
};

/// CAP and ECAP of a machine with these options on a host with these units.
fn offered(options: &[&str], units: &[(u64, u64)]) -> Capabilities {
    let dir = tempfile::tempdir().unwrap();
    for (number, (cap, ecap)) in units.iter().enumerate() {
        let unit = format!("sys/class/iommu/dmar{number}/intel-iommu");
        let unit = dir.path().join(unit);
        std::fs::create_dir_all(&unit).unwrap();
        std::fs::write(unit.join("cap"), format!("{cap:x}\n")).unwrap();
        std::fs::write(unit.join("ecap"), format!("{ecap:x}\n")).unwrap();
    }
    let all = ["remora", "run", "--kernel", "k"].iter().chain(options);
    let config = match Cli::try_parse_from(all).unwrap().command {
        Command::Run(args) => args.config().unwrap(),
        other => panic!("{other:?} is no run"),
    };
    let config = leave_room(&config, &HostFiles::below(dir.path()));
    super::super::capabilities(&config, &config.iommu.unwrap(), 46).unwrap()
}

const SLOT: [&str; 2] = ["--root-port", "id=p,hotplug"];

#[test]
fn slot_leaves_room_for_the_hosts_weakest_unit() {
    let offered = offered(&SLOT, &[WIDE, NARROW]);
    let (cap, ecap) = (offered.cap().into_bits(), offered.ecap().into_bits());
    assert_eq!((cap >> 16 & 0x3f, ecap >> 7 & 1), (38, 0));
    assert_eq!(check_arrival(&offered, &HOST), Ok(()));
}

#[test]
fn slot_of_a_host_without_units_leaves_nothing_out() {
    let offered = offered(&SLOT, &[]);
    let (cap, ecap) = (offered.cap().into_bits(), offered.ecap().into_bits());
    assert_eq!((cap >> 16 & 0x3f, ecap >> 7 & 1), (47, 1));
}

#[test]
fn machine_without_slots_leaves_nothing_out() {
    let offered = offered(&["--iommu", "mode=scalable"], &[NARROW]);
    let (cap, ecap) = (offered.cap().into_bits(), offered.ecap().into_bits());
    assert_eq!(
        (cap >> 16 & 0x3f, ecap >> 7 & 1, ecap >> 47 & 1),
        (47, 1, 1)
    );
}

#[test]
fn slot_leaves_first_stage_and_dirty_bits_out_unless_they_are_asked_for() {
    let scalable = |iommu| offered(&[SLOT[0], SLOT[1], "--iommu", iommu], &[NARROW]);
    let open = scalable("mode=scalable");
    let ecap = open.ecap().into_bits();
    assert_eq!((ecap >> 47 & 1, ecap >> 45 & 1), (0, 0));
    assert_eq!(check_arrival(&open, &HOST), Ok(()));
    let asked = scalable("mode=scalable,stages=both");
    assert_eq!(asked.ecap().into_bits() >> 47 & 1, 1);
    let why = check_arrival(&asked, &HOST).unwrap_err();
    assert!(why.contains("stages=second"), "{why}");
}

#[test]
fn device_that_cannot_honour_the_offer_is_refused_with_what_to_do() {
    let slot = |iommu| offered(&[SLOT[0], SLOT[1], "--iommu", iommu], &[WIDE]);
    for (iommu, host, complaint) in [
        ("mode=legacy", HOST, "aw=39"),
        ("aw=39", HOST, "requests can be made to snoop"),
        (
            "caching-mode=off",
            HostOffer {
                address_bits: 48,
                snoop_control: true,
                support: Support::NOTHING,
            },
            "caching-mode=on",
        ),
        (
            "dirty=on,stages=second",
            HostOffer {
                address_bits: 48,
                snoop_control: true,
                support: Support::NOTHING,
            },
            "dirty=off",
        ),
    ] {
        let why = check_arrival(&slot(iommu), &host).unwrap_err();
        assert!(why.contains(complaint), "{iommu}: {why}");
    }
}
