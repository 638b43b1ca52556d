// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MSI-X against the layouts of section 7.7.2.

use super::super::config::Identity;
use super::*;

const LAYOUT: MsixLayout = MsixLayout {
    bar: 1,
    vectors: 66,
    table: 0x1000,
    pending: 0x2000,
};

fn programmed(control: u16) -> (ConfigSpace, Msix) {
    let mut config = ConfigSpace::endpoint(&Identity::default());
    let mut msix = Msix::install(&mut config, LAYOUT);
    config.write(0x42, &control.to_le_bytes());
    for vector in [0u64, 65] {
        let at = 0x1000 + vector * 16;
        assert!(msix.bar_write(1, at, &0x0000_0002_fee0_2003u64.to_le_bytes()));
        assert!(msix.bar_write(1, at + 8, &(0x4100 + vector).to_le_bytes()));
    }
    (config, msix)
}

fn read32(msix: &Msix, offset: u64) -> u32 {
    let mut data = [0xff; 4];
    assert!(msix.bar_read(1, offset, &mut data));
    u32::from_le_bytes(data)
}

#[test]
fn capability_names_size_table_and_pending_bits() {
    let (config, _) = programmed(0xffff);
    assert_eq!(config.u32(0x40), 0xc041_0011);
    assert_eq!(config.u32(0x44), 0x0000_1001);
    assert_eq!(config.u32(0x48), 0x0000_2001);
}

#[test]
fn entries_are_masked_after_power_on() {
    let (_, msix) = programmed(0x8000);
    assert_eq!(read32(&msix, 0x101c), 1);
    assert_eq!(read32(&msix, 0x100c), 0);
}

#[test]
fn entry_reads_back_without_the_low_address_bits() {
    let (_, msix) = programmed(0x8000);
    let mut data = [0; 8];
    assert!(msix.bar_read(1, 0x1000 + 65 * 16, &mut data));
    assert_eq!(u64::from_le_bytes(data), 0x0000_0002_fee0_2000);
    assert_eq!(read32(&msix, 0x1000 + 65 * 16 + 8), 0x4141);
}

#[test]
fn unmasked_vector_is_sent() {
    let (config, mut msix) = programmed(0x8000);
    let message = msix.trigger(&config, 65).unwrap();
    assert_eq!((message.address, message.data), (0x2_fee0_2000, 0x4141));
}

#[test]
fn disabled_or_unknown_vector_is_dropped() {
    let (config, mut msix) = programmed(0);
    assert_eq!(msix.trigger(&config, 0), None);
    assert_eq!(read32(&msix, 0x2000), 0);
    let (config, mut msix) = programmed(0x8000);
    assert_eq!(msix.trigger(&config, 66), None);
    assert_eq!(msix.trigger(&config, u16::MAX), None);
}

#[test]
fn masked_vector_is_pending_until_unmasked() {
    let (config, mut msix) = programmed(0x8000);
    assert!(msix.bar_write(1, 0x1000 + 65 * 16 + 12, &[1, 0, 0, 0]));
    assert_eq!(msix.trigger(&config, 65), None);
    assert_eq!((read32(&msix, 0x2000), read32(&msix, 0x2008)), (0, 2));
    assert!(msix.take_ready(&config).is_empty());
    assert!(msix.bar_write(1, 0x1000 + 65 * 16 + 12, &[0; 4]));
    let ready = msix.take_ready(&config);
    assert_eq!(ready.len(), 1);
    assert_eq!(ready[0].data, 0x4141);
    assert_eq!(read32(&msix, 0x2008), 0);
    assert!(msix.take_ready(&config).is_empty());
}

#[test]
fn function_mask_holds_every_vector_back() {
    let (mut config, mut msix) = programmed(0xc000);
    assert_eq!(msix.trigger(&config, 0), None);
    assert!(msix.take_ready(&config).is_empty());
    config.write(0x42, &0x8000u16.to_le_bytes());
    assert_eq!(msix.take_ready(&config).len(), 1);
}

#[test]
fn pending_bits_ignore_writes() {
    let (_, mut msix) = programmed(0x8000);
    assert!(msix.bar_write(1, 0x2000, &[0xff; 8]));
    assert_eq!(read32(&msix, 0x2000), 0);
}

#[test]
fn odd_access_is_claimed_and_ignored() {
    let (_, mut msix) = programmed(0x8000);
    let mut data = [0xff; 2];
    assert!(msix.bar_read(1, 0x1000, &mut data));
    assert_eq!(data, [0xff; 2]);
    assert!(msix.bar_write(1, 0x1004, &[0x55; 8]));
    assert_eq!(read32(&msix, 0x1004), 2);
}

#[test]
fn access_elsewhere_is_not_claimed() {
    let (_, mut msix) = programmed(0x8000);
    let mut data = [0; 4];
    assert!(!msix.bar_read(1, 0xffc, &mut data));
    assert!(!msix.bar_read(0, 0x1000, &mut data));
    assert!(!msix.bar_write(1, 0x1000 + 66 * 16, &data));
    assert!(!msix.bar_read(1, 0x2010, &mut data));
}

#[test]
fn reset_masks_and_forgets() {
    let (config, mut msix) = programmed(0xc000);
    assert_eq!(msix.trigger(&config, 0), None);
    msix.reset();
    assert_eq!((read32(&msix, 0x100c), read32(&msix, 0x2000)), (1, 0));
}

#[test]
#[should_panic(expected = "impossible MSI-X layout")]
fn table_over_pending_bits_is_refused() {
    let mut config = ConfigSpace::endpoint(&Identity::default());
    let layout = MsixLayout {
        pending: 0x1008,
        ..LAYOUT
    };
    let _ = Msix::install(&mut config, layout);
}
