// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MSI against the layout of section 7.7.1.

use super::super::config::Identity;
use super::*;

fn programmed(vectors: u8, masking: bool, control: u16) -> (ConfigSpace, Msi) {
    let mut config = ConfigSpace::endpoint(&Identity::default());
    let msi = Msi::install(&mut config, vectors, masking);
    config.write(0x44, &0xfee0_1003u32.to_le_bytes());
    config.write(0x48, &0x0000_0001u32.to_le_bytes());
    config.write(0x4c, &0x4041u16.to_le_bytes());
    config.write(0x42, &control.to_le_bytes());
    (config, msi)
}

fn sent(message: Option<MsiMessage>) -> Option<(u64, u32)> {
    message.map(|m| (m.address, m.data))
}

#[test]
fn capability_of_one_vector_is_14_bytes() {
    let (config, _) = programmed(1, false, 0xffff);
    assert_eq!(config.u32(0x40), 0x00f1_0005);
    assert_eq!(config.u32(0x50), 0);
}

#[test]
fn control_tells_vectors_and_masking() {
    let (config, _) = programmed(4, true, 0);
    assert_eq!(config.u16(0x42), 0x0184);
}

#[test]
fn message_holds_the_programmed_address_and_data() {
    let (mut config, msi) = programmed(1, false, 1);
    assert_eq!(
        sent(msi.trigger(&mut config, 0)),
        Some((0x1_fee0_1000, 0x4041))
    );
    assert_eq!(
        sent(msi.trigger(&mut config, 7)),
        Some((0x1_fee0_1000, 0x4041))
    );
}

#[test]
fn disabled_sends_nothing() {
    let (mut config, msi) = programmed(1, true, 0);
    assert_eq!(msi.trigger(&mut config, 0), None);
    assert_eq!(config.u32(0x54), 0);
}

#[test]
fn vector_replaces_the_low_data_bits_that_were_granted() {
    let (mut config, msi) = programmed(4, false, 0x0021);
    assert_eq!(sent(msi.trigger(&mut config, 2)).map(|m| m.1), Some(0x4042));
    let (mut config, msi) = programmed(4, false, 0x0011);
    assert_eq!(sent(msi.trigger(&mut config, 3)).map(|m| m.1), Some(0x4041));
}

#[test]
fn grant_beyond_what_was_offered_counts_as_what_was_offered() {
    let (mut config, msi) = programmed(2, false, 0x0071);
    assert_eq!(sent(msi.trigger(&mut config, 5)).map(|m| m.1), Some(0x4041));
}

#[test]
fn masked_vector_becomes_pending_and_leaves_when_unmasked() {
    let (mut config, msi) = programmed(2, true, 0x0011);
    config.write(0x50, &0xffff_ffffu32.to_le_bytes());
    assert_eq!(config.u32(0x50), 3);
    assert_eq!(msi.trigger(&mut config, 1), None);
    assert_eq!(config.u32(0x54), 2);
    config.write(0x50, &1u32.to_le_bytes());
    let messages = msi.after_write(&mut config, 0x50, 4);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].data, 0x4041);
    assert_eq!(config.u32(0x54), 0);
    assert!(msi.after_write(&mut config, 0x50, 4).is_empty());
}

#[test]
fn pending_bits_are_read_only() {
    let (mut config, _) = programmed(2, true, 0x0011);
    config.write(0x54, &[0xff; 4]);
    assert_eq!(config.u32(0x54), 0);
}
