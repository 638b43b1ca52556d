// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Option texts in, raw values of CAP and ECAP or a complaint out.

use super::capabilities;
use crate::cli::{Cli, Command};
use crate::config::Config;
use clap::Parser;

fn config(options: &str) -> Result<Config, String> {
    let run = ["remora", "run", "--kernel", "k"];
    let all = run.into_iter().chain(options.split_whitespace());
    let Command::Run(args) = Cli::try_parse_from(all).unwrap().command else {
        panic!("not a run")
    };
    args.config().map_err(|error| {
        assert_eq!(error.status(), 2, "{error}");
        error.to_string()
    })
}

/// CAP and ECAP of a machine.
fn registers(options: &str) -> (u64, u64) {
    let config = config(options).unwrap();
    let offered = capabilities(&config, &config.iommu.unwrap(), 46).unwrap();
    assert_eq!(offered.host_address_width(), 46);
    (offered.cap().into_bits(), offered.ecap().into_bits())
}

fn bits(list: &[u32]) -> u64 {
    list.iter().fold(0, |mask, bit| mask | 1 << bit)
}

#[test]
fn default_is_a_legacy_unit_of_known_values() {
    let legacy = (0x00d2_078c_222f_0606, 0x0000_0000_00f0_0fdb);
    assert_eq!(registers(""), legacy);
    assert_eq!(registers("--iommu=mode=legacy --dmatest"), legacy);
    assert_eq!(registers("--iommu=aw=48,stages=auto"), legacy);
    assert_eq!(registers("--iommu=pasid-bits=0,pri=off,dirty=off"), legacy);
}

/// Scenario, options, CAP, ECAP.
const SCENARIOS: [(&str, &str, u64, u64); 9] = [
    (
        "scalable-second-stage",
        "--iommu=mode=scalable,stages=second",
        0x00d2_078c_222f_0606,
        0x0033_699c_c0f0_0fdb,
    ),
    (
        "scalable-first-stage",
        "--iommu=mode=scalable,stages=first",
        0x01d2_078c_222f_0606,
        0x0033_899c_c0f0_0fdb,
    ),
    (
        "five-level",
        "--iommu=mode=scalable,aw=57",
        0x11d2_078c_2238_0e06,
        0x0033_e99c_c4f0_0fdb,
    ),
    (
        "guest-pasid",
        "--iommu=mode=scalable,pasid-bits=20 --dmatest",
        0x01d2_078c_222f_0606,
        0x0033_ef9e_e4f0_0fdf,
    ),
    (
        "guest-nested",
        "--iommu=mode=scalable,nesting=on --dmatest=pri=off",
        0x01d2_078c_222f_0606,
        0x0033_eb9e_c4f0_0fdf,
    ),
    (
        "guest-pri",
        "--iommu=mode=scalable,pri=on --dmatest",
        0x01d2_078c_222f_0606,
        0x0033_ef9e_e4f0_0fdf,
    ),
    (
        "dirty-tracking",
        "--iommu=mode=scalable,stages=second,dirty=on",
        0x00d2_078c_222f_0606,
        0x0033_699c_c0f0_0fdb,
    ),
    (
        "payload-scalable",
        "--iommu=mode=scalable,posted=on",
        0x09d2_078c_222f_0606,
        0x0033_e99c_c4f0_0fdb,
    ),
    (
        "the narrowest",
        "--iommu=stages=second,pasid-bits=0,dirty=off,aw=39,intremap=off,records=1",
        0x00d2_008c_2226_0606,
        0x0013_4800_0000_0fc3,
    ),
];

#[test]
fn scenarios_get_exactly_these_registers() {
    for (name, options, cap, ecap) in SCENARIOS {
        let (seen_cap, seen_ecap) = registers(options);
        assert_eq!(
            (format!("{seen_cap:#018x}"), format!("{seen_ecap:#018x}")),
            (format!("{cap:#018x}"), format!("{ecap:#018x}")),
            "{name}"
        );
    }
}

/// What a scenario's guest needs of ECAP.
struct Needed {
    options: &'static str,
    set: &'static [u32],
    clear: &'static [u32],
}

const fn needed(options: &'static str, set: &'static [u32], clear: &'static [u32]) -> Needed {
    Needed {
        options,
        set,
        clear,
    }
}

/// C, QI, IR, EIM, PT and SC in each, and nothing that Linux takes for broken or no longer knows: ECS, MTS, DIS, the old
/// PASID bit.
#[test]
fn scenarios_find_the_bits_that_linux_asks_for() {
    for row in [
        needed("stages=second", &[43, 46, 48], &[26, 47]),
        needed("stages=first", &[43, 47, 48], &[26, 45, 46]),
        needed("mode=scalable,aw=57", &[43, 46, 47, 48], &[]),
        needed("pasid-bits=20", &[40, 43, 48], &[]),
        needed("nesting=on", &[26, 40, 43, 46, 47, 48], &[]),
        needed("pri=on", &[2, 29, 40, 42, 43, 48], &[]),
        needed("dirty=on,stages=second", &[43, 45, 46, 48], &[47]),
    ] {
        let (_, ecap) = registers(&format!("--iommu={}", row.options));
        let set = bits(row.set) | bits(&[0, 1, 3, 4, 6, 7]);
        assert_eq!(ecap & set, set, "{}", row.options);
        let clear = bits(row.clear) | bits(&[5, 24, 25, 27, 28, 32]);
        assert_eq!(ecap & clear, 0, "{}", row.options);
    }
}

#[test]
fn width_57_means_five_levels_in_every_mode() {
    for (options, five_level_first_stage) in [
        ("--iommu=aw=57", 0),
        ("--iommu=aw=57,stages=second", 0),
        ("--iommu=aw=57,stages=first", 1),
        ("--iommu=aw=57,stages=both", 1),
    ] {
        let (cap, _) = registers(options);
        assert_eq!(cap >> 60 & 1, five_level_first_stage, "{options}");
        assert_eq!((cap >> 16 & 0x3f, cap >> 8 & 0x1f), (56, 0xe), "{options}");
    }
}

#[test]
fn offer_does_not_depend_on_the_width_of_the_processors() {
    let config = config("--iommu=mode=scalable,aw=57").unwrap();
    let offered = |phys_bits| {
        let offered = capabilities(&config, &config.iommu.unwrap(), phys_bits).unwrap();
        (offered.cap().into_bits(), offered.ecap().into_bits())
    };
    assert_eq!(offered(36), offered(52));
    assert_eq!(offered(36).0 >> 16 & 0x3f, 56);
}

#[test]
fn width_39_keeps_the_tables_that_both_stages_share() {
    let (cap, ecap) = registers("--iommu=aw=39,stages=both");
    assert_eq!((cap >> 16 & 0x3f, cap >> 8 & 0x1f), (38, 0x6));
    assert_eq!(ecap >> 46 & 3, 3);
}

#[test]
fn pasid_width_is_pss_plus_one_and_0_takes_all_of_pasids_away() {
    let (_, ecap) = registers("--iommu=mode=scalable,pasid-bits=8");
    assert_eq!((ecap >> 40 & 1, ecap >> 35 & 0x1f), (1, 7));
    let (_, ecap) = registers("--iommu=mode=scalable,pasid-bits=0");
    assert_eq!(ecap & bits(&[30, 31, 34, 40, 53]) | ecap & 0x1f << 35, 0);
}

#[test]
fn device_tlbs_and_page_requests_follow_the_devices() {
    let mask = bits(&[2, 29, 33, 41, 42]);
    let device_tlb = bits(&[2, 33, 41]);
    for (options, expected) in [
        ("--iommu=mode=scalable", 0),
        ("--iommu=mode=scalable --dmatest", mask),
        ("--iommu=mode=scalable --dmatest=pri=off", device_tlb),
        ("--iommu=mode=scalable --dmatest=ats=off", 0),
        ("--iommu=mode=scalable,pri=off --dmatest", device_tlb),
        ("--iommu=mode=scalable,pri=on", mask),
    ] {
        assert_eq!(registers(options).1 & mask, expected, "{options:?}");
    }
}

#[test]
fn caching_mode_follows_the_hotplug_ports() {
    let caching_mode =
        |iommu: &str, port: &str| registers(&format!("--iommu={iommu} {port}")).0 >> 7 & 1;
    let (port, hotplug) = ("--root-port=id=p", "--root-port=id=p,hotplug");
    for (iommu, port, expected) in [
        ("mode=legacy", port, 0),
        ("mode=legacy", hotplug, 1),
        ("mode=legacy,caching-mode=off", hotplug, 0),
        ("mode=scalable", port, 0),
        ("mode=scalable", hotplug, 1),
        ("mode=scalable,caching-mode=on", port, 1),
    ] {
        assert_eq!(caching_mode(iommu, port), expected, "{iommu} {port}");
    }
}

#[test]
fn what_was_asked_for_and_cannot_be_had_is_refused_with_the_reason() {
    let legacy = [
        ("stages=both", "stages"),
        ("nesting=on", "nesting=on"),
        ("pasid-bits=4", "pasid-bits"),
        ("pri=on", "pri=on"),
        ("dirty=on", "dirty=on"),
        ("posted=on", "posted=on"),
    ];
    for (part, named) in legacy {
        let problem = config(&format!("--iommu=mode=legacy,{part}")).unwrap_err();
        assert_eq!(
            problem,
            format!("--iommu: {named} needs mode=scalable: it is not offered in legacy mode")
        );
    }
    for (part, reason) in [
        ("stages=first,nesting=on", "nesting=on needs stages=both"),
        ("stages=second,nesting=on", "nesting=on needs stages=both"),
        ("stages=first,dirty=on", "dirty=on needs stages=second"),
        ("posted=on,intremap=off", "posted=on needs intremap=on"),
    ] {
        let problem = config(&format!("--iommu={part}")).unwrap_err();
        assert!(problem.contains(reason), "{part}: {problem}");
    }
    let problem = config("--iommu=posted=on --root-port=id=slot,hotplug").unwrap_err();
    assert!(problem.contains("hotplug root port \"slot\""), "{problem}");
    assert!(config("--iommu=posted=on --root-port=id=slot").is_ok());
}

#[test]
fn units_need_a_root_port_each_besides_the_first() {
    let ports = "--root-port=id=a --root-port=id=b";
    for units in 1..=3 {
        assert!(config(&format!("--iommu=units={units} {ports}")).is_ok());
    }
    let problem = config(&format!("--iommu=units=4 {ports}")).unwrap_err();
    assert!(
        problem.contains("units=4 needs 3 root ports, but there are 2"),
        "{problem}"
    );
    let problem = config("--iommu=units=33").unwrap_err();
    assert!(problem.contains("numbers from 1 to 32"), "{problem}");
}
