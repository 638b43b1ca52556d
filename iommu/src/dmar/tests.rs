// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table against bytes written by hand.

use super::*;
use vm_memory::GuestAddress;

const IDS: OemIds = OemIds {
    oem: *b"OEMOEM",
    table: *b"TABLETAB",
    revision: 0x0403_0201,
    creator: *b"CREA",
    creator_revision: 0x0807_0605,
};

fn drhd() -> Drhd {
    Drhd {
        segment: 0,
        registers: GuestAddress(0xfed9_0000),
        size: 0,
        include_pci_all: true,
        scopes: vec![Scope {
            kind: ScopeKind::Ioapic,
            enumeration_id: 4,
            start_bus: 0xff,
            path: vec![PathElement {
                device: 0x1f,
                function: 7,
            }],
        }],
    }
}

fn bytes_of(structures: Vec<Structure>) -> Result<Vec<u8>, DmarError> {
    Dmar {
        host_address_width: 48,
        interrupt_remapping: true,
        structures,
    }
    .to_bytes(&IDS)
}

/// The bytes of one structure.
fn structure(structure: Structure) -> Vec<u8> {
    bytes_of(vec![structure]).unwrap().split_off(48)
}

fn endpoint(path: &[(u8, u8)]) -> Scope {
    Scope {
        kind: ScopeKind::Endpoint,
        enumeration_id: 0,
        start_bus: 3,
        path: path
            .iter()
            .map(|&(device, function)| PathElement { device, function })
            .collect(),
    }
}

#[test]
fn table_of_one_unit_is_byte_for_byte_right() {
    let bytes = bytes_of(vec![Structure::Drhd(drhd())]).unwrap();
    let mut expected =
        b"DMAR\x48\0\0\0\x01\0OEMOEMTABLETAB\x01\x02\x03\x04CREA\x05\x06\x07\x08".to_vec();
    expected.extend([0x2f, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
    expected.extend([3, 8, 0, 0, 4, 0xff, 0x1f, 7]);
    assert_eq!(bytes.len(), 0x48);
    expected[9] = bytes[9];
    assert_eq!(bytes, expected);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    assert_eq!(sum % 256, 0, "checksum");
}

#[test]
fn flags_follow_interrupt_remapping() {
    let table = |interrupt_remapping| {
        let dmar = Dmar {
            host_address_width: 39,
            interrupt_remapping,
            structures: vec![],
        };
        dmar.to_bytes(&IDS).unwrap()[36..38].to_vec()
    };
    assert_eq!(table(false), [38, 0]);
    assert_eq!(table(true), [38, 1], "no opting out of x2APIC");
}

#[test]
fn unit_without_include_all_has_no_flag() {
    let bytes = structure(Structure::Drhd(Drhd {
        include_pci_all: false,
        segment: 0x1234,
        size: 2,
        scopes: vec![endpoint(&[(1, 0), (2, 3)])],
        ..drhd()
    }));
    assert_eq!(bytes[4..8], [0, 2, 0x34, 0x12]);
    assert_eq!(bytes[16..], [1, 10, 0, 0, 0, 3, 1, 0, 2, 3]);
}

#[test]
fn reserved_memory_region_holds_both_ends() {
    let bytes = structure(Structure::Rmrr(Rmrr {
        segment: 1,
        base: GuestAddress(0x1_0000),
        last: GuestAddress(0x1_ffff),
        scopes: vec![endpoint(&[(2, 0)])],
    }));
    let expected = [
        1, 0, 32, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 1, 8, 0, 0,
        0, 3, 2, 0,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn root_port_structure_is_8_bytes_for_all_ports() {
    let bytes = structure(Structure::Atsr(Atsr {
        segment: 0,
        all_ports: true,
        scopes: vec![],
    }));
    assert_eq!(bytes, [2, 0, 8, 0, 1, 0, 0, 0]);
}

#[test]
fn affinity_structure_is_20_bytes() {
    let rhsa = Structure::Rhsa(Rhsa {
        registers: GuestAddress(0xfed9_0000),
        proximity: 7,
    });
    let bytes = bytes_of(vec![Structure::Drhd(drhd()), rhsa]).unwrap();
    assert_eq!(
        bytes[48 + 24..],
        [
            3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, 7, 0, 0, 0
        ]
    );
}

#[test]
fn namespace_device_ends_with_nul() {
    let bytes = structure(Structure::Andd(Andd {
        device: 2,
        path: "\\_SB".into(),
    }));
    assert_eq!(bytes, *b"\x04\0\x0d\0\0\0\0\x02\\_SB\0");
}

#[test]
fn integrated_cache_structure_says_required() {
    let bytes = structure(Structure::Satc(Satc {
        segment: 0,
        required: true,
        scopes: vec![endpoint(&[(2, 0)])],
    }));
    assert_eq!(bytes, [5, 0, 16, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 3, 2, 0]);
}

#[test]
fn width_that_software_rejects_is_refused() {
    for (width, fine) in [(11, false), (12, true), (64, true), (65, false)] {
        let dmar = Dmar {
            host_address_width: width,
            interrupt_remapping: false,
            structures: vec![],
        };
        assert_eq!(dmar.to_bytes(&IDS).is_ok(), fine, "{width}");
    }
}

#[test]
fn register_block_must_be_a_page_above_0() {
    for base in [0, 0xfed9_0800] {
        let misplaced = Drhd {
            registers: GuestAddress(base),
            ..drhd()
        };
        assert_eq!(
            bytes_of(vec![Structure::Drhd(misplaced)]),
            Err(DmarError::RegisterBase(base))
        );
    }
}

/// A second unit for one endpoint.
fn other() -> Drhd {
    Drhd {
        registers: GuestAddress(0xfed9_1000),
        include_pci_all: false,
        scopes: vec![endpoint(&[(2, 0)])],
        ..drhd()
    }
}

fn units(units: [Drhd; 2]) -> Result<Vec<u8>, DmarError> {
    bytes_of(units.map(Structure::Drhd).to_vec())
}

#[test]
fn two_units_stand_one_after_the_other() {
    let bytes = units([other(), drhd()]).unwrap();
    assert_eq!(
        bytes[48..],
        [
            &[0, 0, 24, 0, 0, 0, 0, 0][..],
            &0xfed9_1000u64.to_le_bytes(),
            &[1, 8, 0, 0, 0, 3, 2, 0],
            &[0, 0, 24, 0, 1, 0, 0, 0],
            &0xfed9_0000u64.to_le_bytes(),
            &[3, 8, 0, 0, 4, 0xff, 0x1f, 7],
        ]
        .concat()
    );
}

#[test]
fn units_with_overlapping_registers_are_refused() {
    let same = Drhd {
        registers: GuestAddress(0xfed9_0000),
        ..other()
    };
    let expected = Err(DmarError::RegisterOverlap(0xfed9_0000));
    assert_eq!(units([same, drhd()]), expected);
    let large = Drhd {
        registers: GuestAddress(0xfed8_f000),
        size: 1,
        ..other()
    };
    assert_eq!(units([large.clone(), drhd()]), expected);
    assert!(units([Drhd { size: 0, ..large }, drhd()]).is_ok());
}

#[test]
fn device_of_two_units_is_refused() {
    let ioapic = Drhd {
        scopes: vec![Scope {
            start_bus: 3,
            ..drhd().scopes[0].clone()
        }],
        ..other()
    };
    assert_eq!(
        units([ioapic, drhd()]),
        Err(DmarError::TwoUnits(ScopeKind::Ioapic))
    );
    let both = Drhd {
        scopes: other().scopes,
        ..drhd()
    };
    assert_eq!(
        units([other(), both.clone()]),
        Err(DmarError::TwoUnits(ScopeKind::Endpoint))
    );
    let elsewhere = Drhd { segment: 1, ..both };
    assert!(units([other(), elsewhere]).is_ok());
}

#[test]
fn affinity_of_no_unit_is_refused() {
    let rhsa = |registers| {
        let rhsa = Rhsa {
            registers: GuestAddress(registers),
            proximity: 1,
        };
        bytes_of(vec![Structure::Drhd(drhd()), Structure::Rhsa(rhsa)])
    };
    assert!(rhsa(0xfed9_0000).is_ok());
    assert_eq!(rhsa(0xfed9_1000), Err(DmarError::NoSuchUnit(0xfed9_1000)));
}

#[test]
fn unit_after_the_one_that_includes_all_is_refused() {
    let other = other();
    let elsewhere = Drhd {
        segment: 1,
        ..other.clone()
    };
    let table =
        |units: [&Drhd; 2]| bytes_of(units.map(|unit| Structure::Drhd(unit.clone())).to_vec());
    assert_eq!(table([&drhd(), &other]), Err(DmarError::NotLast(0)));
    assert!(table([&other, &drhd()]).is_ok());
    assert!(table([&drhd(), &elsewhere]).is_ok());
}

#[test]
fn region_of_broken_pages_is_refused() {
    for (base, last) in [(0x1000, 0x2000), (0x1800, 0x1fff), (0x3000, 0x1fff)] {
        let region = Rmrr {
            segment: 0,
            base: GuestAddress(base),
            last: GuestAddress(last),
            scopes: vec![],
        };
        assert_eq!(
            bytes_of(vec![Structure::Rmrr(region)]),
            Err(DmarError::Region { base, last })
        );
    }
}

#[test]
fn path_beyond_its_length_field_is_refused() {
    let unit = |hops: usize| {
        bytes_of(vec![Structure::Drhd(Drhd {
            scopes: vec![endpoint(&vec![(0, 0); hops])],
            ..drhd()
        })])
    };
    assert!(unit(124).is_ok());
    assert_eq!(unit(125), Err(DmarError::TooLong("device scope")));
}
