// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Option texts in, configuration or complaint out.

use super::{Cli, Command};
use crate::config::{
    AddressWidth, Config, DiskConfig, DmatestConfig, HugePages, IommuConfig, NetConfig,
    SerialConfig, Stages, Switch, TableMode, VfioBackend, VfioConfig,
};
use crate::error::Error;
use clap::{CommandFactory, Parser};
use iommu::capabilities::MAX_FAULT_RECORDS;
use std::time::Duration;
use vfio::pci_address::PciAddress;

fn config(options: &[&str]) -> Result<Config, Error> {
    let all = ["remora", "run", "--kernel", "k"].iter().chain(options);
    let Command::Run(args) = Cli::try_parse_from(all).unwrap().command else {
        panic!("not a run")
    };
    args.config()
}

fn complaint(options: &[&str]) -> String {
    let error = config(options).unwrap_err();
    assert_eq!(error.status(), 2, "{error}");
    error.to_string()
}

#[test]
fn clap_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_one_cpu_512_mib_and_a_legacy_unit() {
    let config = config(&[]).unwrap();
    assert_eq!(config.cpus, 1);
    assert_eq!(config.memory.size, 512 << 20);
    assert_eq!(config.memory.hugepages, None);
    assert!(config.removed_features.is_empty());
    assert_eq!(config.serial, SerialConfig::Stdio);
    assert_eq!(
        config.iommu,
        Some(IommuConfig {
            mode: TableMode::Legacy,
            stages: Stages::Auto,
            nesting: Switch::Auto,
            caching_mode: Switch::Auto,
            address_width: AddressWidth::Auto,
            intremap: true,
            pasid_bits: None,
            pri: Switch::Auto,
            dirty: Switch::Auto,
            posted: false,
            snoop_control: true,
            host: vfio::hardware::Support::EVERYTHING,
            units: 1,
            records: 8
        })
    );
    assert_eq!(config.ending.fail_on, ["Kernel panic - not syncing"]);
    assert!(config.ending.timeout.is_none() && !config.ending.no_reboot);
}

#[test]
fn memory_and_cpu_options_are_taken() {
    let config = config(&[
        "--memory",
        "1G,hugepages=2M",
        "--cpus",
        "288",
        "--cpu",
        "host,-xsave,-AVX512-VNNI",
    ])
    .unwrap();
    assert_eq!(config.memory.hugepages, Some(HugePages::Size2M));
    assert_eq!(config.cpus, 288);
    let names: Vec<_> = config.removed_features.iter().map(|f| f.name()).collect();
    assert_eq!(names, ["xsave", "avx512_vnni"]);
}

#[test]
fn device_options_are_taken() {
    let config = config(&[
        "--root-port=id=p0,hotplug",
        "--disk=/a,readonly,queues=4,id=d,bus=p0",
        "--disk=/b,direct",
        "--net=tap=t0,mac=52:54:00:12:34:56",
        "--share=/c,tag=root,readonly",
        "--serial=file:/log",
        "--rng",
        "--edu",
    ])
    .unwrap();
    assert!(config.root_ports[0].hotplug && config.rng && config.edu);
    assert_eq!(
        config.disks[0],
        DiskConfig {
            path: "/a".into(),
            readonly: true,
            direct: false,
            queues: 4,
            id: Some("d".into()),
            bus: Some("p0".into())
        }
    );
    assert!(config.disks[1].direct && config.disks[1].bus.is_none());
    assert_eq!(
        config.nets[0],
        NetConfig {
            tap: "t0".into(),
            mac: Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            bus: None
        }
    );
    assert_eq!(config.shares[0].tag, "root");
    assert_eq!(config.serial, SerialConfig::File("/log".into()));
}

#[test]
fn vfio_options_are_taken() {
    assert!(config(&[]).unwrap().vfios.is_empty());
    let config = config(&[
        "--root-port=id=p0",
        "--vfio=3b:00.1",
        "--vfio=0001:02:1f.7,backend=type1,id=nic,bus=p0,mmap=off",
    ])
    .unwrap();
    assert_eq!(
        config.vfios,
        [
            VfioConfig {
                address: PciAddress::new(0, 0x3b, 0x01),
                backend: VfioBackend::Auto,
                id: None,
                bus: None,
                map: true,
            },
            VfioConfig {
                address: PciAddress::new(1, 0x02, 0xff),
                backend: VfioBackend::Type1,
                id: Some("nic".into()),
                bus: Some("p0".into()),
                map: false,
            },
        ]
    );
}

#[test]
fn vfio_options_that_cannot_be_are_refused() {
    let table: [(&[&str], &str); 7] = [
        (&["--vfio=nvme0"], "--vfio: 'nvme0' is no PCI address"),
        (
            &["--vfio=3b:00.1,backend=vdpa"],
            "--vfio: backend=vdpa: allowed are auto, iommufd, type1",
        ),
        (&["--vfio=3b:00.1,rom=f"], "--vfio: \"rom\" is not known"),
        (
            &["--vfio=3b:00.1,bus=p1"],
            "--vfio: bus=p1: no --root-port has this id",
        ),
        (
            &["--vfio=3b:00.1", "--vfio=0000:3B:00.1,id=b"],
            "--vfio: 0000:3b:00.1 is given twice",
        ),
        (
            &["--vfio=1:00.0,backend=type1", "--vfio=02:00.0"],
            "--vfio: '1:00.0' is no PCI address",
        ),
        (
            &[
                "--vfio=01:00.0",
                "--vfio=02:00.0,backend=type1",
                "--vfio=03:00.0,backend=iommufd",
            ],
            "--vfio: 0000:03:00.0 and 0000:02:00.0 ask for different backends",
        ),
    ];
    for (options, expected) in table {
        let complaint = complaint(options);
        assert!(complaint.starts_with(expected), "{complaint}");
    }
}

#[test]
fn dmatest_options_are_taken() {
    assert!(config(&[]).unwrap().dmatests.is_empty());
    let config = config(&[
        "--root-port=id=p0",
        "--dmatest",
        "--dmatest=bus=p0,pasid-bits=8,pri=off",
        "--dmatest=ats=off,pasid-bits=0",
        "--edu",
    ])
    .unwrap();
    let whole = DmatestConfig {
        bus: None,
        pasid_bits: 20,
        ats: true,
        pri: true,
    };
    let below = DmatestConfig {
        bus: Some("p0".into()),
        pasid_bits: 8,
        pri: false,
        ..whole.clone()
    };
    let plain = DmatestConfig {
        pasid_bits: 0,
        ats: false,
        pri: false,
        ..whole.clone()
    };
    assert_eq!(config.dmatests, [whole, below, plain]);
    assert!(config.edu);
}

#[test]
fn iommu_options_are_taken() {
    assert_eq!(config(&["--iommu", "off"]).unwrap().iommu, None);
    let text = "mode=legacy,caching-mode=on,aw=39,intremap=off,records=1";
    assert_eq!(
        config(&["--iommu", text]).unwrap().iommu,
        Some(IommuConfig {
            mode: TableMode::Legacy,
            caching_mode: Switch::On,
            address_width: AddressWidth::Bits39,
            intremap: false,
            records: 1,
            ..IommuConfig::default()
        })
    );
    let text = "mode=scalable,stages=both,nesting=on,aw=57,pasid-bits=8,pri=off,dirty=on,posted=on";
    assert_eq!(
        config(&["--iommu", text]).unwrap().iommu,
        Some(IommuConfig {
            mode: TableMode::Scalable,
            stages: Stages::Both,
            nesting: Switch::On,
            address_width: AddressWidth::Bits57,
            pasid_bits: Some(8),
            pri: Switch::Off,
            dirty: Switch::On,
            posted: true,
            ..IommuConfig::default()
        })
    );
}

#[test]
fn ending_options_are_taken() {
    let config = config(&[
        "--timeout=2.5",
        "--expect=-a",
        "--expect",
        "b",
        "--fail-on=c",
        "--no-default-fail-on",
        "--no-reboot",
    ])
    .unwrap();
    assert_eq!(config.ending.timeout, Some(Duration::from_millis(2500)));
    assert_eq!(config.ending.expect, ["-a", "b"]);
    assert_eq!(config.ending.fail_on, ["c"]);
    assert!(config.ending.no_reboot);
}

#[test]
fn wrong_text_is_a_complaint_that_names_it() {
    let table: &[(&[&str], &str)] = &[
        (&["--cpus=0"], "--cpus: \"0\""),
        (&["--cpus=many"], "--cpus: \"many\""),
        (&["--memory=big"], "--memory: \"big\" is no size"),
        (&["--memory=1G,hugepages=4K"], "allowed are 2M, 1G"),
        (&["--cpu=max"], "the only model is host"),
        (&["--cpu=host,+avx"], "can only be taken away"),
        (&["--cpu=host,-warp"], "feature \"warp\" is not known"),
        (&["--root-port=hotplug"], "id=ID is missing"),
        (&["--serial=tcp"], "allowed are stdio, file:PATH and null"),
        (&["--serial=file:"], "allowed are stdio, file:PATH and null"),
        (&["--disk=/a,queues=0"], "numbers from 1 to 16"),
        (&["--disk=/a,bus=p9"], "no --root-port has this id"),
        (&["--net=mac=52:54:00:00:00:01"], "tap=NAME is missing"),
        (&["--net=tap=a-name-too-long-x"], "up to 15 bytes"),
        (&["--net=tap=t,mac=52:54:00"], "wanted six bytes"),
        (&["--net=tap=t,mac=53:54:00:00:00:01"], "group address"),
        (&["--share=/d"], "tag=NAME is missing"),
        (&["--dmatest=pasid-bits=21"], "numbers from 0 to 20"),
        (&["--dmatest=pri=on,ats=off"], "pri=on needs ats=on"),
        (&["--dmatest=bus=p9"], "no --root-port has this id"),
        (&["--dmatest=msi=on"], "\"msi\" is not known"),
        (
            &["--iommu=mode=both"],
            "mode=both: allowed are legacy, scalable",
        ),
        (&["--iommu=aw=52"], "aw=52: allowed are auto, 39, 48, 57"),
        (
            &["--iommu=stages=third"],
            "allowed are auto, first, second, both",
        ),
        (
            &["--iommu=nesting=auto"],
            "nesting=auto: allowed are on, off",
        ),
        (&["--iommu=pasid-bits=21"], "numbers from 0 to 20"),
        (&["--iommu=dirty"], "dirty needs a value: dirty=on|off"),
        (&["--iommu=records=0"], "numbers from 1 to 222"),
        (&["--iommu=records=223"], "numbers from 1 to 222"),
        (&["--iommu=ats=on"], "\"ats\" is not known"),
        (&["--iommu="], "empty part"),
        (&["--timeout=0"], "no number of seconds"),
        (&["--timeout=NaN"], "no number of seconds"),
        (&["--expect="], "the text is empty"),
    ];
    for (options, expected) in table {
        let text = complaint(options);
        assert!(text.contains(expected), "{options:?}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn help_names_as_many_fault_records_as_the_unit_can_have() {
    let run = Cli::command().find_subcommand("run").unwrap().clone();
    let iommu = run.get_arguments().find(|arg| arg.get_id() == "iommu");
    let help = iommu.unwrap().get_long_help().unwrap().to_string();
    let most = format!("1 to {MAX_FAULT_RECORDS} [default: 8]");
    assert!(help.contains(&most), "{help}");
}

#[test]
fn contradictions_are_complaints() {
    let table: &[(&[&str], &str)] = &[
        (
            &["--root-port=id=a", "--root-port=id=a"],
            "two devices have the id \"a\"",
        ),
        (
            &["--root-port=id=a", "--disk=/x,id=a"],
            "two devices have the id \"a\"",
        ),
        (
            &["--root-port=id=a", "--disk=/x,bus=a", "--net=tap=t,bus=a"],
            "another device is behind this root port",
        ),
        (
            &["--root-port=id=a", "--disk=/x,bus=a", "--dmatest=bus=a"],
            "another device is behind this root port",
        ),
        (
            &["--share=/a,tag=t", "--share=/b,tag=t"],
            "two shares have the tag \"t\"",
        ),
        (
            &["--cpus=256", "--iommu=off"],
            "256 processors need interrupt remapping",
        ),
        (&["--cpus=256", "--iommu=intremap=off"], "255 is the most"),
    ];
    for (options, expected) in table {
        let text = complaint(options);
        assert!(text.contains(expected), "{options:?}: {text}");
    }
    assert!(config(&["--cpus=255", "--iommu=off"]).is_ok());
    assert!(config(&["--cpus=256"]).is_ok());
}
