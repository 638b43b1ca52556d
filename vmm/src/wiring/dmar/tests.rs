// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Options in, bytes of the structures out.

use super::super::dmatest;
use super::super::pci::PciBus;
use super::super::testing::{config, parts};
use super::table;
use crate::config::{Affinity, Config, NamespaceDevice, ReservedMemory};
use crate::error::Error;
use iommu::dmar::OemIds;

const IDS: OemIds = OemIds {
    oem: [0; 6],
    table: [0; 8],
    revision: 0,
    creator: [0; 4],
    creator_revision: 0,
};

/// The table's bytes.
fn bytes_of(config: &Config) -> Result<Vec<u8>, Error> {
    let (_, _, units) = parts(config);
    let mut bus = PciBus::new(config, &units).unwrap();
    dmatest::add(config, &units, &mut bus).unwrap();
    let table = table(config, &units, bus.topology())?.unwrap();
    Ok(table.to_bytes(&IDS).unwrap())
}

/// The structures' bytes, one row each.
fn structures(options: &[&str]) -> Vec<Vec<u8>> {
    split(&bytes_of(&config(options)).unwrap())
}

fn split(table: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &table[48..];
    let mut structures = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
        let (structure, next) = rest.split_at(length);
        structures.push(structure.to_vec());
        rest = next;
    }
    structures
}

/// The unit at 0xfed90000 with all devices and IOAPIC 0 at 00:1e.7.
const ROOT_UNIT: [u8; 24] = [
    0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, 3, 8, 0, 0, 0, 0, 0x1e, 7,
];

#[test]
fn machine_without_units_has_no_table() {
    let config = config(&["--iommu=off"]);
    let (_, _, units) = parts(&config);
    let bus = PciBus::new(&config, &units).unwrap();
    assert!(table(&config, &units, bus.topology()).unwrap().is_none());
}

#[test]
fn one_unit_takes_everything() {
    assert_eq!(structures(&[]), [ROOT_UNIT]);
    assert_eq!(structures(&["--root-port=id=a", "--dmatest"]), [ROOT_UNIT]);
    let table = bytes_of(&config(&[])).unwrap();
    assert_eq!(&table[..4], b"DMAR");
    // 40 bits, minus 1; interrupt remapping, and x2APIC is not opted out of.
    assert_eq!(&table[36..38], [39, 1]);
    let table = bytes_of(&config(&["--iommu=intremap=off"])).unwrap();
    assert_eq!(table[37], 0);
}

#[test]
fn device_tlbs_make_all_ports_and_integrated_caches_known() {
    let options = ["--iommu=mode=scalable", "--root-port=id=a", "--dmatest"];
    let all_ports = vec![2, 0, 8, 0, 1, 0, 0, 0];
    // 00:02.0, not required.
    let caches = vec![5, 0, 16, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 2, 0];
    assert_eq!(
        structures(&options),
        [ROOT_UNIT.to_vec(), all_ports.clone(), caches.clone()]
    );
    let below = [options[0], options[1], "--dmatest=bus=a"];
    assert_eq!(structures(&below), [ROOT_UNIT.to_vec(), all_ports]);
    // Without the port dmatest is 00:01.0.
    let mut integrated = caches;
    integrated[14] = 1;
    let alone = structures(&[options[0], "--dmatest"]);
    assert_eq!(alone, [ROOT_UNIT.to_vec(), integrated]);
    let plain = [options[0], options[1], "--dmatest=ats=off"];
    assert_eq!(structures(&plain), [ROOT_UNIT]);
}

#[test]
fn further_units_share_the_root_ports_out_and_stand_before_the_first() {
    let ports: Vec<String> = (0..5).map(|n| format!("--root-port=id=p{n}")).collect();
    let mut options = vec!["--iommu=units=3"];
    options.extend(ports.iter().map(String::as_str));
    let bridge = |device| [2, 8, 0, 0, 0, 0, device, 0];
    let unit = |page, bridges: &[u8]| {
        let length = u8::try_from(16 + 8 * bridges.len()).unwrap();
        let mut bytes = vec![0, 0, length, 0, 0, 0, 0, 0, 0, page, 0xd9, 0xfe, 0, 0, 0, 0];
        bytes.extend(bridges.iter().flat_map(|device| bridge(*device)));
        bytes
    };
    assert_eq!(
        structures(&options),
        [
            unit(0x10, &[1, 2, 3]),
            unit(0x20, &[4, 5]),
            ROOT_UNIT.to_vec()
        ]
    );
}

#[test]
fn reserved_memory_affinities_and_namespace_devices_are_told() {
    let mut config = config(&["--iommu=units=2", "--root-port=id=a"]);
    config.dmar.reserved = vec![ReservedMemory {
        base: 0xf_0000,
        last: 0xf_0fff,
        devices: vec![vec![(1, 0), (0, 0)]],
    }];
    config.dmar.affinities = vec![Affinity {
        unit: 1,
        proximity: 7,
    }];
    config.dmar.namespace = vec![NamespaceDevice {
        path: "\\_SB.DMA0".into(),
        unit: 1,
        bus: 0,
        devfn: (0x1d, 3),
    }];
    let seen = split(&bytes_of(&config).unwrap());
    let mut unit = vec![0, 0, 32, 0, 0, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0];
    unit.extend([2, 8, 0, 0, 0, 0, 1, 0]);
    unit.extend([5, 8, 0, 0, 1, 0, 0x1d, 3]);
    let mut rmrr = vec![1, 0, 34, 0, 0, 0, 0, 0];
    rmrr.extend([0, 0, 0xf, 0, 0, 0, 0, 0, 0xff, 0xf, 0xf, 0, 0, 0, 0, 0]);
    rmrr.extend([1, 10, 0, 0, 0, 0, 1, 0, 0, 0]);
    let mut rhsa = vec![3, 0, 20, 0, 0, 0, 0, 0];
    rhsa.extend([0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0, 7, 0, 0, 0]);
    let mut andd = vec![4, 0, 18, 0, 0, 0, 0, 1];
    andd.extend(b"\\_SB.DMA0\0");
    assert_eq!(seen, [unit, ROOT_UNIT.to_vec(), rmrr, rhsa, andd]);
}

#[test]
fn what_is_described_and_not_there_is_refused() {
    let refusal = |change: &dyn Fn(&mut Config)| {
        let mut config = config(&[]);
        change(&mut config);
        let error = bytes_of(&config).unwrap_err();
        assert_eq!(error.status(), 2, "{error}");
        error.to_string()
    };
    let memory = |base, last| ReservedMemory {
        base,
        last,
        devices: Vec::new(),
    };
    let outside = refusal(&|config| config.dmar.reserved.push(memory(0x10_0000, 0x10_0fff)));
    assert!(outside.contains("which guests leave alone"), "{outside}");
    let uneven = refusal(&|config| config.dmar.reserved.push(memory(0xe_0000, 0xe_0ffe)));
    assert!(uneven.contains("whole pages"), "{uneven}");
    let unit = refusal(&|config| {
        config.dmar.affinities.push(Affinity {
            unit: 1,
            proximity: 0,
        });
    });
    assert!(unit.contains("unit 1 is described"), "{unit}");
}

/// A namespace device is named by a byte; other structures have no such limit.
#[test]
fn more_namespace_devices_than_numbers_are_refused() {
    let described = |count: u8, more: u8| {
        let mut config = config(&[]);
        let device = |devfn: u8, bus| NamespaceDevice {
            path: "\\_SB.DMA0".into(),
            unit: 0,
            bus,
            devfn: (devfn >> 3, devfn & 7),
        };
        config.dmar.namespace = (0..count).map(|devfn| device(devfn, 1)).collect();
        let rest = (0..more).map(|devfn| device(devfn, 2));
        config.dmar.namespace.extend(rest);
        bytes_of(&config)
    };
    let table = described(255, 0).unwrap();
    let numbers: Vec<u8> = split(&table)
        .iter()
        .filter(|structure| structure[0] == 4)
        .map(|andd| andd[7])
        .collect();
    assert_eq!(numbers, (1..=255).collect::<Vec<u8>>());
    let error = described(255, 1).unwrap_err();
    assert_eq!(error.status(), 2);
    assert!(error.to_string().contains("256 devices"), "{error}");
    let mut config = config(&[]);
    config.dmar.affinities = vec![
        Affinity {
            unit: 0,
            proximity: 0
        };
        300
    ];
    let reserved = ReservedMemory {
        base: 0xf_0000,
        last: 0xf_0fff,
        devices: Vec::new(),
    };
    config.dmar.reserved = vec![reserved; 300];
    let rows = split(&bytes_of(&config).unwrap());
    assert_eq!(rows.len(), 1 + 300 + 300);
}
