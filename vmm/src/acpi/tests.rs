// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Decodes the tables at the raw offsets of ACPI 6.5.

use super::*;

const BASE: u64 = 0xe_0000;

fn config(cpus: u32) -> AcpiConfig {
    AcpiConfig {
        area: BASE..=0xf_ffff,
        apic_ids: (0..cpus).collect(),
        ioapic: IoapicInfo {
            id: 0,
            base: 0xfec0_0000,
        },
        ecam: EcamInfo {
            base: 0xe000_0000,
            last_bus: 0xff,
        },
        windows: PciWindows {
            io: 0xc000..=0xffff,
            mmio32: 0xc000_0000..=0xdfff_ffff,
            mmio64: Some(0x40_0000_0000..=0x7f_ffff_ffff),
        },
        intx: vec![
            IntxRoute {
                device: 1,
                pin: 0,
                gsi: 17,
            },
            IntxRoute {
                device: 31,
                pin: 3,
                gsi: 20,
            },
        ],
        power: PowerInfo {
            reset_port: 0xcf9,
            reset_value: 6,
            sleep_control_port: 0x600,
            sleep_status_port: 0x601,
            s5_sleep_type: 5,
            button_gsi: 9,
            pvpanic_port: 0x505,
        },
        dmar: None,
    }
}

fn le(bytes: &[u8], offset: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[offset..offset + len]);
    u64::from_le_bytes(word)
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at `gpa`, cut to its own length field.
fn at(image: &[u8], gpa: u64) -> Vec<u8> {
    let start = usize::try_from(gpa - BASE).unwrap();
    let len = usize::try_from(le(image, start + 4, 4)).unwrap();
    image[start..start + len].to_vec()
}

/// All tables that the XSDT names, and the DSDT.
fn decode(image: &[u8]) -> Vec<Vec<u8>> {
    let xsdt = at(image, le(image, 24, 8));
    assert_eq!(&xsdt[..4], b"XSDT");
    let mut found: Vec<_> = xsdt[36..]
        .chunks(8)
        .map(|entry| at(image, le(entry, 0, 8)))
        .collect();
    let dsdt = at(image, le(&find(&found, b"FACP"), 140, 8));
    found.push(dsdt);
    found.push(xsdt);
    found
}

fn find(tables: &[Vec<u8>], signature: &[u8; 4]) -> Vec<u8> {
    tables
        .iter()
        .find(|t| &t[..4] == signature)
        .unwrap()
        .clone()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn rsdp_has_both_checksums_and_revision_2() {
    let image = build(BASE, &config(1)).unwrap();
    assert_eq!(&image[..8], b"RSD PTR ");
    assert_eq!(image[15], 2);
    assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
}

#[test]
fn every_table_sums_to_zero_and_is_aligned() {
    let image = build(BASE, &config(300)).unwrap();
    assert_eq!(le(&image, 24, 8) % 16, 0);
    let all = decode(&image);
    for table in &all {
        assert_eq!(sum(table), 0, "{:?}", &table[..4]);
    }
    let signatures: Vec<_> = all.iter().map(|t| t[..4].to_vec()).collect();
    assert_eq!(
        signatures,
        [*b"FACP", *b"APIC", *b"MCFG", *b"DSDT", *b"XSDT"]
    );
}

#[test]
fn dmar_is_listed_with_the_ids_of_the_other_tables() {
    let config = AcpiConfig {
        dmar: Some(Dmar {
            host_address_width: 46,
            interrupt_remapping: true,
            structures: Vec::new(),
        }),
        ..config(1)
    };
    let image = build(BASE, &config).unwrap();
    let dmar = find(&decode(&image), b"DMAR");
    assert_eq!(sum(&dmar), 0);
    assert_eq!(&dmar[10..24], b"REMORAREMORAVM");
    assert_eq!((dmar[36], dmar[37]), (45, 1));
}

#[test]
fn fadt_is_hardware_reduced_with_reset_and_sleep_registers() {
    let fadt = find(&decode(&build(BASE, &config(1)).unwrap()), b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    let flags = le(&fadt, 112, 4);
    assert_eq!(flags >> 20 & 1, 1, "HW_REDUCED_ACPI");
    assert_eq!(flags >> 10 & 1, 1, "RESET_REG_SUP");
    // Legacy devices, no 8042, no VGA, RTC present.
    assert_eq!(le(&fadt, 109, 2), 0b0101);
    // Generic addresses: port space, 8 bits, offset 0, byte access.
    assert_eq!(fadt[116..128], [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fadt[128], 6);
    assert_eq!(fadt[244..256], [1, 8, 0, 1, 0x00, 0x06, 0, 0, 0, 0, 0, 0]);
    assert_eq!(fadt[256..268], [1, 8, 0, 1, 0x01, 0x06, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn madt_lists_low_ids_as_lapics_and_high_ids_as_x2apics() {
    let madt = find(&decode(&build(BASE, &config(288)).unwrap()), b"APIC");
    assert_eq!(le(&madt, 36, 4), 0xfee0_0000);
    assert_eq!(le(&madt, 40, 4), 0, "PCAT_COMPAT is clear");
    let (mut lapics, mut x2apics, mut ioapics) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = &madt[44..];
    while !rest.is_empty() {
        let (entry, tail) = rest.split_at(usize::from(rest[1]));
        match entry[0] {
            0 => lapics.push((entry[2], entry[3], le(entry, 4, 4))),
            1 => ioapics.push((entry[2], le(entry, 4, 4), le(entry, 8, 4))),
            9 => x2apics.push((le(entry, 12, 4), le(entry, 4, 4), le(entry, 8, 4))),
            other => panic!("structure type {other}"),
        }
        rest = tail;
    }
    let expected: Vec<_> = (0..=254).map(|id| (id, id, 1)).collect();
    assert_eq!(lapics, expected);
    let expected: Vec<_> = (255..288).map(|id| (id, id, 1)).collect();
    assert_eq!(x2apics, expected);
    assert_eq!(ioapics, [(0, 0xfec0_0000, 0)]);
}

#[test]
fn mcfg_names_the_ecam_of_segment_0() {
    let mcfg = find(&decode(&build(BASE, &config(1)).unwrap()), b"MCFG");
    assert_eq!(mcfg.len(), 60);
    assert_eq!(le(&mcfg, 44, 8), 0xe000_0000);
    assert_eq!((le(&mcfg, 52, 2), mcfg[54], mcfg[55]), (0, 0, 0xff));
}

#[test]
fn dsdt_reserves_the_ecam_and_routes_the_pins() {
    let dsdt = find(&decode(&build(BASE, &config(1)).unwrap()), b"DSDT");
    assert_eq!(dsdt[8], 2, "64-bit integers");
    // Memory32Fixed, read-write: 256 MiB at 0xE0000000.
    assert!(contains(
        &dsdt,
        &[0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0, 0x10]
    ));
    // Package of 4: dword 0x0001ffff, INTA (zero), zero, GSI 17.
    assert!(contains(
        &dsdt,
        &[4, 0x0c, 0xff, 0xff, 1, 0, 0x00, 0x00, 0x0a, 17]
    ));
    // dword 0x001fffff, byte 3, zero, byte 20.
    assert!(contains(
        &dsdt,
        &[4, 0x0c, 0xff, 0xff, 0x1f, 0, 0x0a, 3, 0x00, 0x0a, 20]
    ));
    // PNP0A08 as a compressed EISA id.
    assert!(contains(&dsdt, b"_HID\x0c\x41\xd0\x0a\x08"));
}

#[test]
fn dsdt_has_a_power_button_that_the_generic_event_device_tells_of() {
    let dsdt = find(&decode(&build(BASE, &config(1)).unwrap()), b"DSDT");
    // EISA id PNP0C0C.
    assert!(contains(&dsdt, b"PWRB\x08_HID\x0c\x41\xd0\x0c\x0c"));
    assert!(contains(&dsdt, b"ACPI0013\0"));
    // Extended interrupt: consumer, edge, active high, not shared; one, number 9.
    assert!(contains(&dsdt, &[0x89, 6, 0, 0x03, 1, 9, 0, 0, 0]));
    // If (Arg0 == 9) Notify (PWRB, 0x80).
    assert!(contains(&dsdt, b"\x93\x68\x0a\x09\x86PWRB\x0a\x80"));
}

#[test]
fn dsdt_shows_the_windows_of_the_root() {
    let find_qword = |config: &AcpiConfig| {
        let dsdt = find(&decode(&build(BASE, config).unwrap()), b"DSDT");
        // Word address space: ports 0xC000 to 0xFFFF.
        assert!(contains(
            &dsdt,
            &[0x88, 13, 0, 1, 0x0c, 3, 0, 0, 0, 0xc0, 0xff, 0xff]
        ));
        // Double word address space: memory from 0xC0000000 on.
        assert!(contains(
            &dsdt,
            &[0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0]
        ));
        // Quad word address space: memory from 256 GiB on.
        let mut qword = vec![0x8a, 43, 0, 0, 0x0c, 1];
        qword.extend([0; 8]);
        qword.extend(0x40_0000_0000u64.to_le_bytes());
        contains(&dsdt, &qword)
    };
    assert!(find_qword(&config(1)));
    let mut without = config(1);
    without.windows.mmio64 = None;
    assert!(!find_qword(&without));
}

#[test]
fn tables_begin_with_the_rsdp_at_the_start_of_the_area() {
    let (rsdp, image) = super::tables(&config(4)).unwrap();
    assert_eq!(rsdp, GuestAddress(BASE));
    assert_eq!(&image[..8], b"RSD PTR ");
}

#[test]
fn tables_without_room_are_refused() {
    let config = AcpiConfig {
        area: BASE..=BASE + 0xfff,
        ..config(1000)
    };
    let error = super::tables(&config).unwrap_err();
    assert!(error.to_string().contains("1000 vCPUs"), "{error}");
}
