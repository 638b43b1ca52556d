// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each rule of the slot by itself. Slot control: bit 0 button, 3 presence, 5 interrupts, 9:8 power indicator, 10 power off, 12 link.
//! Slot status: bit 0 button, 3 presence changed, 6 present, 8 link changed.

use super::*;

const FREE: LinkAllowed = LinkAllowed(true);
const HELD: LinkAllowed = LinkAllowed(false);

fn slot(control: u16, status: u16, link_active: bool) -> Slot {
    Slot {
        control: SlotControl::from_bits(control),
        status: SlotStatus::from_bits(status),
        link_active,
    }
}

#[test]
fn capabilities_are_those_of_a_slot_without_latch_and_interlock() {
    assert_eq!(capabilities(5).into_bits(), 0x002c_007b);
    assert_eq!(capabilities(0xffff).into_bits(), 0xfffc_007b);
}

#[test]
fn power_on_with_a_device_has_power_light_and_link() {
    assert_eq!(Slot::power_on(true, FREE), slot(0x01c0, 0x0040, true));
    assert_eq!(Slot::power_on(true, HELD), slot(0x01c0, 0x0040, false));
}

#[test]
fn power_on_without_a_device_is_off_and_dark() {
    assert_eq!(Slot::power_on(false, FREE), slot(0x07c0, 0x0000, false));
}

#[test]
fn presence_changed_is_about_changes_only() {
    let full = slot(0x07c0, 0x0040, false);
    assert_eq!(full.after_presence(true, FREE), full);
    assert_eq!(full.after_presence(false, FREE).status.into_bits(), 0x0008);
    let seen = slot(0x07c0, 0x0048, false);
    assert_eq!(seen.after_presence(true, FREE), seen);
}

#[test]
fn device_in_a_slot_without_power_has_no_link() {
    let plugged = slot(0x07c0, 0, false).after_presence(true, FREE);
    assert_eq!(plugged, slot(0x07c0, 0x0048, false));
}

#[test]
fn device_in_a_slot_with_power_brings_the_link_up() {
    let plugged = slot(0x01c0, 0, false).after_presence(true, FREE);
    assert_eq!(plugged, slot(0x01c0, 0x0148, true));
}

#[test]
fn device_that_vanishes_takes_the_link_down() {
    let gone = slot(0x01c0, 0x0040, true).after_presence(false, FREE);
    assert_eq!(gone, slot(0x01c0, 0x0108, false));
}

#[test]
fn power_off_takes_the_link_down_and_leaves_the_device_present() {
    let off = slot(0x05c0, 0x0040, true).after_write(SlotControl::from_bits(0x01c0), FREE);
    assert_eq!(off, slot(0x05c0, 0x0140, false));
}

#[test]
fn power_on_brings_the_link_up_unless_it_is_held_down() {
    let before = SlotControl::from_bits(0x07c0);
    let on = slot(0x03c0, 0x0040, false);
    assert_eq!(on.after_write(before, FREE), slot(0x03c0, 0x0140, true));
    assert_eq!(on.after_write(before, HELD), on);
}

#[test]
fn reserved_indicator_value_leaves_the_indicator_as_it_was() {
    let before = SlotControl::from_bits(0x0240);
    let written = slot(0x0000, 0, false).after_write(before, FREE);
    assert_eq!(written.control.into_bits(), 0x0240);
    let written = slot(0x0100, 0, false).after_write(before, FREE);
    assert_eq!(written.control.into_bits(), 0x0140);
}

#[test]
fn press_is_an_event_until_it_is_cleared_or_taken_back() {
    let pressed = slot(0x01c0, 0x0040, true).after_press();
    assert_eq!(pressed.status.into_bits(), 0x0041);
    assert_eq!(pressed.after_press(), pressed);
    assert_eq!(pressed.without_press().status.into_bits(), 0x0040);
}

#[test]
fn event_interrupts_with_its_own_and_the_common_enable_bit() {
    for (event, enable) in [
        (0x001, 0x0001),
        (0x002, 0x0002),
        (0x004, 0x0004),
        (0x008, 0x0008),
        (0x010, 0x0010),
        (0x100, 0x1000),
    ] {
        assert!(slot(0x0020 | enable, event, false).has_enabled_event());
        assert!(!slot(enable, event, false).has_enabled_event());
        assert!(!slot(0x103f & !enable, event, false).has_enabled_event());
        assert!(!slot(0x103f, 0x0060, false).has_enabled_event());
    }
}

#[test]
fn device_may_be_taken_out_once_power_and_light_are_off() {
    let released = |control| slot(control, 0x0040, false).view().is_released();
    assert!(released(0x0700));
    assert!(!released(0x0600));
    assert!(!released(0x0500));
    assert!(!released(0x0300));
}

#[test]
fn view_tells_what_the_light_does() {
    let light = |control| slot(control, 0, false).view().power_indicator;
    assert_eq!(light(0x0100), Indicator::On);
    assert_eq!(light(0x0200), Indicator::Blinking);
    assert_eq!(light(0x0300), Indicator::Off);
}
