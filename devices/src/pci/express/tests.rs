// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI Express capability against the register layouts of section 7.5.3. The capability begins at 0x40.

use super::super::config::Identity;
use super::*;

fn installed(device_type: DeviceType, flr: bool) -> (ConfigSpace, Express) {
    let mut config = ConfigSpace::endpoint(&Identity::default());
    let express = Express::install(&mut config, device_type, flr);
    (config, express)
}

#[test]
fn endpoint_registers() {
    let (mut config, _) = installed(DeviceType::Endpoint, true);
    assert_eq!(config.u32(0x40), 0x0002_0010);
    assert_eq!(config.u32(0x44), 0x1000_8000);
    assert_eq!(config.u32(0x48), 0x0000_2810);
    assert_eq!(config.u32(0x4c), 0x0000_0011);
    assert_eq!(config.u32(0x50), 0x0011_0000);
    config.write(0x48, &[0xff; 4]);
    assert_eq!(config.u32(0x48), 0x0000_78ff);
}

#[test]
fn integrated_endpoint_has_no_link() {
    let (config, _) = installed(DeviceType::IntegratedEndpoint, false);
    assert_eq!(config.u32(0x40), 0x0092_0010);
    assert_eq!(config.u32(0x44), 0x0000_8000);
    assert_eq!((config.u32(0x4c), config.u32(0x50)), (0, 0));
}

#[test]
fn root_port_with_slot_registers() {
    let (mut config, express) = installed(DeviceType::RootPort { slot: Some(3) }, false);
    let slot = SlotCapabilities::from_bits(0x001c_005b);
    express.install_slot(&mut config, slot);
    assert_eq!(config.u32(0x40), 0x0142_0010);
    assert_eq!(config.u32(0x4c), 0x0010_0011);
    assert_eq!(config.u32(0x54), 0x001c_005b);
    config.write(0x58, &[0xff; 2]);
    assert_eq!(config.u16(0x58), 0x17ff);
    config.set_u16(0x5a, 0x01ff);
    config.write(0x5a, &[0xff; 2]);
    assert_eq!(config.u16(0x5a), 0x00e0);
}

#[test]
fn slot_without_power_controller_cannot_be_switched_off() {
    let (mut config, express) = installed(DeviceType::RootPort { slot: Some(3) }, false);
    express.install_slot(&mut config, SlotCapabilities::from_bits(0x40));
    config.write(0x58, &[0xff; 2]);
    assert_eq!(config.u16(0x58), 0x13ff);
}

#[test]
fn reset_bit_is_seen_by_word_and_byte_and_reads_zero() {
    let (mut config, express) = installed(DeviceType::Endpoint, true);
    config.write(0x48, &[0x00, 0x80]);
    assert_eq!(config.u16(0x48), 0);
    assert!(express.asks_for_reset(&config, 0x48, &[0x00, 0x80]));
    assert!(express.asks_for_reset(&config, 0x49, &[0x80]));
    assert!(express.asks_for_reset(&config, 0x48, &[0, 0x80, 0, 0]));
    assert!(!express.asks_for_reset(&config, 0x48, &[0x80]));
    assert!(!express.asks_for_reset(&config, 0x48, &[0xff, 0x7f]));
    assert!(!express.asks_for_reset(&config, 0x4a, &[0x80, 0x80]));
}

#[test]
fn reset_bit_without_the_capability_does_nothing() {
    let (config, express) = installed(DeviceType::Endpoint, false);
    assert!(!express.asks_for_reset(&config, 0x48, &[0x00, 0x80]));
}

#[test]
fn ports_forward_one_end_end_prefix_and_endpoints_offer_it_when_told() {
    let (config, _) = installed(DeviceType::RootPort { slot: None }, false);
    assert_eq!(config.u32(0x64), 0x0070_0010);
    let (mut config, express) = installed(DeviceType::Endpoint, true);
    assert_eq!(config.u32(0x64), 0x0000_0010);
    express.offer_prefixes(&mut config);
    assert_eq!(config.u32(0x64), 0x0070_0010);
    config.write(0x68, &[0xff; 4]);
    assert_eq!(config.u32(0x68), 0x0000_001f);
}
