// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration spaces of real devices, as byte images, and what guests see of them.

use super::*;

/// The image of a NVMe controller like QEMU's on a root bus: PCI Express, part of the root complex, MSI-X at 0x40, PCI
/// Express at 0x80, power management at 0x60, and three extended capabilities.
fn nvme() -> Vec<u8> {
    let mut image = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &[0x36, 0x1b, 0x10, 0x00, 0x07, 0x04, 0x10, 0x00]);
    put(0x08, &[0x02, 0x02, 0x08, 0x01, 0x10, 0x00, 0x80, 0x00]);
    put(0x10, &[0x04, 0x00, 0xbf, 0xfe]);
    put(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
    put(0x30, &[0x01, 0x00, 0xa0, 0xfe]);
    put(0x34, &[0x40]);
    put(0x3c, &[0x0b, 0x01, 0x05, 0x06]);
    put(
        0x40,
        &[
            0x11, 0x90, 0x40, 0x80, 0x00, 0x20, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00,
        ],
    );
    // A capability that no guest may see: Enhanced Allocation.
    put(0x90, &[0x14, 0x80]);
    put(0x80, &[0x10, 0x60]);
    // Moved up, so that version 2 has its 60 bytes: the list decides, not the order.
    put(0x60, &[0x01, 0x00, 0x03, 0xfe, 0x08, 0x01, 0x00, 0x00]);
    put(0x100, &0x1482_0001u32.to_le_bytes());
    put(0x148, &0x1601_0010u32.to_le_bytes());
    put(0x160, &0x0001_0003u32.to_le_bytes());
    put(0x164, &[1, 2, 3, 4, 5, 6, 7, 8]);
    image
}

/// The same with PCI Express at 0xc0, an endpoint of `device_type`.
fn express(device_type: u8) -> Vec<u8> {
    let mut image = nvme();
    image[0x90..0x92].copy_from_slice(&[0x14, 0xc0]);
    image[0xc0..0xc4].copy_from_slice(&[0x10, 0x60, device_type << 4 | 2, 0x01]);
    image[0xc4..0xc8].copy_from_slice(&0x1fec_8d3au32.to_le_bytes());
    image[0xcc..0xd0].copy_from_slice(&0x0047_3c43u32.to_le_bytes());
    image[0xd2..0xd4].copy_from_slice(&[0x43, 0x10]);
    image[0xe4..0xe8].copy_from_slice(&0x0012_083fu32.to_le_bytes());
    image
}

/// For other tests: as [`express`].
pub(super) fn express_image(device_type: u8) -> Vec<u8> {
    express(device_type)
}

fn host(image: &[u8]) -> HostFunction<'_> {
    HostFunction {
        image,
        bars: [0x4000, 0, 0, 0, 0, 0],
        intx: true,
        msi: 0,
        msix: 65,
        resettable: true,
    }
}

fn config(image: &[u8], place: Place) -> VirtualConfig {
    VirtualConfig::new(&host(image), place).unwrap()
}

fn read(config: &VirtualConfig, image: &[u8], at: u16, len: usize) -> u32 {
    let from = usize::from(at);
    let mut data = image[from..from + len].to_vec();
    config.read(at, &mut data);
    data.resize(4, 0);
    u32::from_le_bytes(data.try_into().unwrap())
}

#[test]
fn header_shows_who_the_device_is_and_nothing_of_the_host() {
    let image = express(0);
    let config = config(&image, Place::BehindPort);
    let read = |at, len| read(&config, &image, at, len);
    assert_eq!(read(0x00, 4), 0x0010_1b36);
    assert_eq!(read(0x08, 4), 0x0108_0202);
    assert_eq!(read(0x2c, 4), 0x1100_1af4);
    assert_eq!(read(0x04, 2), 0, "the command register is the guest's");
    assert_eq!(read(0x06, 2), 0x0010, "there are capabilities");
    assert_eq!(read(0x0e, 1), 0, "one function, whatever the host has");
    assert_eq!(read(0x10, 4), 0x4, "the host's address is not shown");
    assert_eq!(read(0x30, 4), 0, "the ROM is hidden");
    assert_eq!(read(0x3c, 4), 0x0605_0100);
}

#[test]
fn pin_without_an_interrupt_is_hidden() {
    let image = express(0);
    let host = HostFunction {
        intx: false,
        ..host(&image)
    };
    let config = VirtualConfig::new(&host, Place::BehindPort).unwrap();
    assert_eq!(config.pin(), 0);
}

#[test]
fn bars_size_and_decode_as_the_guest_programs_them() {
    let image = express(0);
    let mut config = config(&image, Place::BehindPort);
    assert_eq!(config.write(0x10, &[0xff; 4]).host, None);
    assert_eq!(read(&config, &image, 0x10, 4), 0xffff_c004);
    let _ = config.write(0x10, &0xe000_0000u32.to_le_bytes());
    assert_eq!(config.windows(), []);
    let outcome = config.write(0x04, &[0x06, 0x00]);
    assert_eq!(outcome.host.unwrap().bytes(), [0x06, 0x00]);
    assert_eq!(
        config.windows(),
        [BarWindow {
            bar: 0,
            io: false,
            base: 0xe000_0000,
            len: 0x4000
        }]
    );
    assert!(config.may_send());
    assert!(config.write(0x04, &[0x02, 0x00]).bus_master_lost);
}

#[test]
fn list_skips_what_is_not_allowed() {
    let image = express(0);
    let config = config(&image, Place::BehindPort);
    let read = |at, len| read(&config, &image, at, len);
    assert_eq!(read(0x34, 1), 0x40);
    assert_eq!(read(0x40, 2), 0xc011, "MSI-X leads past the hidden one");
    assert_eq!(read(0xc0, 2), 0x6010);
    assert_eq!(read(0x60, 2), 0x0001, "the list ends with power management");
    assert_eq!(read(0x90, 4), 0, "the hidden one reads zero");
}

#[test]
fn express_of_a_root_complex_device_gets_a_link_behind_a_port() {
    let image = express(9);
    let config = config(&image, Place::BehindPort);
    let read = |at, len| read(&config, &image, at, len);
    assert_eq!(read(0xc2, 2), 0x0002, "an endpoint, version 2, no slot");
    assert_eq!(read(0xcc, 4), 0x11, "2.5 GT/s, one lane");
    assert_eq!(read(0xd2, 2), 0x11);
    assert_eq!(
        read(0xc4, 4),
        0x1000_8d22,
        "no phantom functions, no slot power"
    );
    assert_eq!(read(0xe4, 4), 0x1f, "time-outs only");
}

#[test]
fn express_of_an_endpoint_loses_its_link_on_the_root_bus() {
    let image = express(0);
    let config = config(&image, Place::RootComplex);
    let read = |at, len| read(&config, &image, at, len);
    assert_eq!(read(0xc2, 2), 0x0092);
    assert_eq!((read(0xcc, 4), read(0xd0, 4)), (0, 0));
}

#[test]
fn express_of_an_endpoint_keeps_its_link_without_power_management() {
    let image = express(1);
    let mut config = config(&image, Place::BehindPort);
    assert_eq!(read(&config, &image, 0xc2, 2), 0x0012);
    assert_eq!(read(&config, &image, 0xcc, 4), 0x0043_3043);
    assert_eq!(read(&config, &image, 0xd2, 2), 0x1043);
    assert_eq!(
        config.write(0xd0, &[0x43, 0x00]).host,
        None,
        "ASPM stays as it is"
    );
    assert_eq!(read(&config, &image, 0xd0, 2), 0x40);
}

#[test]
fn function_level_reset_is_asked_for_and_not_passed_on() {
    let image = express(0);
    let mut config = config(&image, Place::BehindPort);
    let outcome = config.write(0xc8, &[0x10, 0xa8]);
    assert!(outcome.reset);
    assert_eq!(outcome.host.unwrap().bytes(), [0x10, 0x28]);
    assert!(!config.write(0xc8, &[0x10, 0x28]).reset);
    let host = HostFunction {
        resettable: false,
        ..host(&image)
    };
    let mut config = VirtualConfig::new(&host, Place::BehindPort).unwrap();
    assert!(!config.write(0xc8, &[0x10, 0xa8]).reset);
    assert_eq!(read(&config, &image, 0xc4, 4) >> 28, 0);
}

#[test]
fn express_without_room_for_version_2_is_hidden_with_all_extended_ones() {
    let mut image = express(0);
    image[0xc1] = 0xf0;
    image[0xf0..0xf2].copy_from_slice(&[0x09, 0x60]);
    let config = config(&image, Place::BehindPort);
    assert_eq!(read(&config, &image, 0x41, 1), 0xf0);
    assert_eq!(read(&config, &image, 0x100, 4), 0);
    assert_eq!(read(&config, &image, 0x164, 4), 0);
}

#[test]
fn extended_capabilities_are_those_of_the_allow_list() {
    let image = express(0);
    let config = config(&image, Place::BehindPort);
    let read = |at, len| read(&config, &image, at, len);
    assert_eq!(
        read(0x100, 4),
        0x1602_0001,
        "error reporting, then past SR-IOV"
    );
    assert_eq!(read(0x148, 4), 0);
    assert_eq!(read(0x160, 4), 0x0001_0003);
    assert_eq!(read(0x164, 4), 0x0403_0201);
    let mut image = image.clone();
    image[0x100] = 0x18;
    let config = VirtualConfig::new(&host(&image), Place::BehindPort).unwrap();
    assert_eq!(
        super::tests::read(&config, &image, 0x100, 4),
        0x1600_0000,
        "an empty one begins the list"
    );
}

#[test]
fn power_state_reaches_the_device_and_stops_it() {
    let image = express(0);
    let mut config = config(&image, Place::BehindPort);
    assert_eq!(read(&config, &image, 0x60, 4), 0x0603_0001, "no PME");
    let _ = config.write(0x04, &[0x06, 0x00]);
    let outcome = config.write(0x64, &[0x03, 0x81]);
    assert_eq!(outcome.host.unwrap().bytes(), [0x03, 0x00]);
    assert!(outcome.bus_master_lost);
    assert_eq!(config.windows(), []);
    let _ = config.write(0x64, &[0x00, 0x00]);
    assert_eq!(config.windows().len(), 1);
}

#[test]
fn msix_is_ours_and_tells_where_its_table_is() {
    let image = express(0);
    let mut config = config(&image, Place::BehindPort);
    let place = config.msix().unwrap();
    assert_eq!(
        (place.vectors, place.table, place.pending),
        (65, (0, 0x2000), (0, 0x3000))
    );
    assert_eq!(
        read(&config, &image, 0x42, 2),
        0x0040,
        "the host's enable bit is not shown"
    );
    let outcome = config.write(0x42, &[0x00, 0xc0]);
    assert_eq!((outcome.host, outcome.interrupts), (None, true));
    assert_eq!(config.interrupts(), Interrupts::Msix(true));
    assert_eq!(read(&config, &image, 0x42, 2), 0xc040);
    config.reset();
    assert_eq!(config.interrupts(), Interrupts::Intx(true));
}

#[test]
fn msi_messages_are_those_that_the_driver_wrote() {
    let mut image = nvme();
    image[0x40..0x44].copy_from_slice(&[0x05, 0x60, 0x86, 0x01]);
    let host = HostFunction {
        msi: 8,
        msix: 0,
        ..host(&image)
    };
    let mut config = VirtualConfig::new(&host, Place::RootComplex).unwrap();
    assert_eq!(
        read(&config, &image, 0x42, 2),
        0x0186,
        "8 vectors, 64 bits, masks"
    );
    let _ = config.write(0x44, &0xfee0_0010u32.to_le_bytes());
    let _ = config.write(0x48, &[0x02, 0, 0, 0]);
    let _ = config.write(0x4c, &[0x45, 0x40]);
    let _ = config.write(0x50, &[0x02, 0, 0, 0]);
    assert!(config.write(0x42, &[0x11, 0x00]).interrupts);
    let message = |data| {
        Some(MsiMessage {
            address: 0x2_fee0_0010,
            data,
        })
    };
    assert_eq!(
        config.interrupts(),
        Interrupts::Msi(vec![message(0x4044), None])
    );
}

#[test]
fn conventional_device_has_registers_of_its_own_between() {
    let mut image = vec![0; 256];
    image[..4].copy_from_slice(&[0x34, 0x12, 0xe8, 0x11]);
    image[0x10] = 0x00;
    image[0x48] = 0x77;
    let host = HostFunction {
        image: &image,
        bars: [1 << 20, 0, 0, 0, 0, 0],
        intx: true,
        msi: 0,
        msix: 0,
        resettable: false,
    };
    let mut config = VirtualConfig::new(&host, Place::BehindPort).unwrap();
    assert!(config.needs_host(0x48, 1));
    assert_eq!(read(&config, &image, 0x48, 1), 0x77);
    assert_eq!(config.write(0x48, &[0x11]).host.unwrap().bytes(), [0x11]);
    let mut beyond = [0xff; 4];
    config.read(0x100, &mut beyond);
    assert_eq!(beyond, [0; 4]);
}

#[test]
fn function_that_cannot_be_shown_is_refused() {
    let mut image = express(0);
    let error = |host: &HostFunction<'_>| VirtualConfig::new(host, Place::BehindPort).unwrap_err();
    assert_eq!(error(&host(&image[..64])), ConfigError::Short(64));
    let odd = HostFunction {
        bars: [0x3000, 0, 0, 0, 0, 0],
        ..host(&image)
    };
    assert_eq!(
        error(&odd),
        ConfigError::Bar {
            index: 0,
            size: 0x3000
        }
    );
    image[0x0e] = 0x81;
    assert_eq!(error(&host(&image)), ConfigError::NoEndpoint(1));
}

proptest::proptest! {
    /// Any image and any writes: no panic, and the header stays what it is.
    #[test]
    fn any_image_and_any_writes_leave_the_identity_alone(
        image in proptest::collection::vec(proptest::num::u8::ANY, 4096),
        writes in proptest::collection::vec((0u16..1024, proptest::num::u32::ANY), 0..64),
    ) {
        let mut image = image;
        image[0x0e] &= 0x80;
        let host = HostFunction { bars: [0; 6], ..host(&image) };
        let mut config = VirtualConfig::new(&host, Place::BehindPort).unwrap();
        for (dword, value) in writes {
            let _ = config.write(dword * 4, &value.to_le_bytes());
            let _ = (config.interrupts(), config.windows());
        }
        let identity = u32::from_le_bytes([image[0], image[1], image[2], image[3]]);
        proptest::prop_assert_eq!(read(&config, &image, 0, 4), identity);
    }
}
