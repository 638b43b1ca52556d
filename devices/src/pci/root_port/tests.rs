// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The root port's registers and slot. MSI stands at 0x40 (24 bytes), PCI Express at 0x58: link control 0x68, link status
//! 0x6a, slot control 0x70, slot status 0x72.

mod properties;

use super::*;
use crate::testing::{RecordingLine, RecordingSender, TestFunction};
use std::sync::Mutex;

struct Rig {
    port: Arc<RootPort>,
    sender: Arc<RecordingSender>,
    line: Arc<RecordingLine>,
}

fn rig(hotplug: bool) -> Rig {
    let sender = Arc::new(RecordingSender::default());
    let requester = Arc::new(Requester::new(SourceId(0x0010)));
    let config = RootPortConfig { slot: 5, hotplug };
    let port = RootPort::new(config, requester, sender.clone());
    let line = Arc::new(RecordingLine::default());
    port.connect_intx(16, line.clone());
    Rig { port, sender, line }
}

fn device() -> Arc<TestFunction> {
    TestFunction::new(FunctionBuilder::endpoint(&Identity::default()))
}

impl Rig {
    fn read(&self, at: u16) -> u16 {
        let mut data = [0; 2];
        self.port.config_read(at, &mut data);
        u16::from_le_bytes(data)
    }

    fn write(&self, at: u16, value: u16) {
        self.port.config_write(at, &value.to_le_bytes());
    }

    /// MSI on, hot-plug interrupts of every kind on.
    fn listen(&self) {
        self.write(0x04, 0x0004);
        self.write(0x44, 0x2000);
        self.write(0x4c, 0x0077);
        self.write(0x42, 0x0001);
        self.write(0x70, self.read(0x70) | 0x103b);
    }
}

#[test]
fn identity_is_a_bridge_with_a_slot() {
    let rig = rig(true);
    assert_eq!((rig.read(0x0a), rig.read(0x0e)), (0x0604, 0x0001));
    assert_eq!(rig.read(0x58) & 0xff, 0x10);
    assert_eq!(rig.read(0x5a), 0x0142);
    assert_eq!((rig.read(0x6c), rig.read(0x6e)), (0x007b, 0x002c));
    // Device capabilities 2: prefixes below the port are forwarded.
    assert_eq!((rig.read(0x7c), rig.read(0x7e)), (0x0010, 0x0070));
}

#[test]
fn access_control_offers_what_keeps_peers_apart() {
    let rig = rig(false);
    assert_eq!((rig.read(0x100), rig.read(0x102)), (0x000d, 0x0001));
    assert_eq!((rig.read(0x104), rig.read(0x106)), (0x005f, 0));
    rig.write(0x106, 0xffff);
    assert_eq!((rig.read(0x104), rig.read(0x106)), (0x005f, 0x005f));
}

#[test]
fn port_without_hotplug_has_no_slot() {
    let rig = rig(false);
    assert_eq!(rig.read(0x5a), 0x0042);
    assert_eq!((rig.read(0x6c), rig.read(0x70), rig.read(0x72)), (0, 0, 0));
    assert_eq!(rig.read(0x6a) & 0x2000, 0);
    rig.port.insert(0, device());
    assert_eq!(rig.read(0x6a) & 0x2000, 0x2000);
}

#[test]
fn empty_slot_is_off_and_a_full_one_on_after_power_on() {
    let rig = rig(true);
    assert_eq!((rig.read(0x70), rig.read(0x72)), (0x07c0, 0));
    assert_eq!(rig.read(0x6a), 0x0011);
    rig.port.insert(0, device());
    assert_eq!((rig.read(0x70), rig.read(0x72)), (0x01c0, 0x0040));
    assert_eq!(rig.read(0x6a), 0x2011);
}

#[test]
fn attention_button_interrupts_once_until_cleared() {
    let rig = rig(true);
    rig.listen();
    rig.port.press_attention_button();
    rig.port.press_attention_button();
    assert_eq!(rig.sender.take(), [(0x0010, 0x2000, 0x77)]);
    assert_eq!(rig.read(0x72), 0x0001);
    rig.write(0x72, 0x0001);
    assert_eq!(rig.read(0x72), 0x0000);
    rig.port.press_attention_button();
    assert_eq!(rig.sender.take().len(), 1);
}

#[test]
fn event_without_its_enable_bit_is_silent_until_enabled() {
    let rig = rig(true);
    rig.listen();
    rig.write(0x70, rig.read(0x70) & !0x0001);
    rig.port.press_attention_button();
    assert!(rig.sender.take().is_empty());
    rig.write(0x70, rig.read(0x70) | 0x0001);
    assert_eq!(rig.sender.take().len(), 1);
}

#[test]
fn pin_follows_pending_events_without_msi() {
    let rig = rig(true);
    rig.write(0x70, rig.read(0x70) | 0x0021);
    rig.port.press_attention_button();
    assert_eq!(rig.line.levels(), [true]);
    rig.write(0x72, 0x0001);
    assert_eq!(rig.line.levels(), [true, false]);
}

#[test]
fn plugged_device_appears_and_gets_its_link_with_power() {
    let rig = rig(true);
    rig.listen();
    rig.port.attach(device()).unwrap();
    rig.port.detect_presence();
    assert_eq!(rig.read(0x72), 0x0048);
    assert!(!rig.port.is_link_up());
    assert_eq!(rig.sender.take().len(), 1);
    rig.write(0x72, 0x0008);
    rig.write(0x70, rig.read(0x70) & !0x0400);
    assert!(rig.port.is_link_up());
    assert_eq!(rig.read(0x72), 0x0140);
    assert_eq!(rig.read(0x6a), 0x2011);
    assert_eq!(rig.sender.take().len(), 1);
}

#[test]
fn power_off_takes_the_link_down_and_resets_the_device() {
    let rig = rig(true);
    let device = device();
    rig.port.insert(0, device.clone());
    assert!(rig.port.is_link_up());
    rig.write(0x70, rig.read(0x70) | 0x0400);
    assert!(!rig.port.is_link_up());
    assert_eq!(device.resets(), 1);
    assert_eq!(rig.read(0x72), 0x0140);
}

#[test]
fn removed_device_is_off_the_bus_and_reported() {
    let rig = rig(true);
    let device = device();
    rig.port.insert(0, device.clone());
    device.config_write(0x04, &[0x04]);
    assert!(device.requester().is_bus_master());
    assert_eq!(rig.port.detach().len(), 1);
    assert!(!device.requester().is_bus_master());
    rig.port.detect_presence();
    assert_eq!(rig.read(0x72), 0x0108);
}

#[test]
fn link_disable_takes_the_link_down() {
    let rig = rig(false);
    rig.port.insert(0, device());
    rig.write(0x68, 0x0010);
    assert!(!rig.port.is_link_up());
    assert_eq!(rig.read(0x6a), 0x0011);
    rig.write(0x68, 0x0000);
    assert!(rig.port.is_link_up());
}

#[test]
fn secondary_bus_reset_resets_what_is_below_once() {
    let rig = rig(false);
    let device = device();
    rig.port.insert(0, device.clone());
    device.config_write(0x04, &[0x07]);
    rig.write(0x3e, 0x0040);
    assert_eq!(device.config(0x04) & 0xffff, 0);
    rig.write(0x3e, 0x0040);
    assert_eq!(device.resets(), 1);
    assert!(!rig.port.is_link_up());
    rig.write(0x3e, 0x0000);
    assert!(rig.port.is_link_up());
}

#[test]
fn reset_returns_to_power_on_with_the_device_in_place() {
    let rig = rig(true);
    let device = device();
    rig.port.insert(0, device.clone());
    rig.write(0x18, 0x0100);
    rig.write(0x70, 0x17ff);
    rig.port.press_attention_button();
    rig.port.reset();
    assert_eq!((rig.read(0x18), rig.read(0x70)), (0, 0x01c0));
    assert_eq!(rig.read(0x72), 0x0040);
    assert!(rig.port.is_link_up());
    assert!(device.resets() >= 1);
}

#[test]
fn event_that_is_enabled_again_interrupts_again() {
    let rig = rig(true);
    rig.listen();
    rig.port.press_attention_button();
    for enable in [0x0001, 0x0020] {
        assert_eq!(rig.sender.take().len(), 1);
        rig.write(0x70, rig.read(0x70) & !enable);
        assert!(rig.sender.take().is_empty());
        rig.write(0x70, rig.read(0x70) | enable);
    }
    assert_eq!(rig.sender.take().len(), 1);
}

#[test]
fn message_of_a_masked_vector_is_sent_when_it_is_unmasked() {
    let rig = rig(true);
    rig.listen();
    rig.write(0x50, 0x0001);
    rig.port.press_attention_button();
    assert!(rig.sender.take().is_empty());
    rig.write(0x50, 0x0000);
    assert_eq!(rig.sender.take().len(), 1);
}

#[test]
fn withdrawn_press_is_seen_no_more() {
    let rig = rig(true);
    rig.listen();
    rig.port.press_attention_button();
    rig.port.withdraw_press();
    assert_eq!(rig.read(0x72), 0x0000);
    assert_eq!(rig.sender.take().len(), 1);
    rig.port.press_attention_button();
    assert_eq!(rig.sender.take().len(), 1);
}

/// Remembers the slot each time it is told to look.
#[derive(Debug)]
struct Watcher {
    port: std::sync::Weak<RootPort>,
    seen: Mutex<Vec<SlotView>>,
}

impl SlotListener for Watcher {
    fn slot_changed(&self) {
        let view = self.port.upgrade().unwrap().slot().unwrap();
        self.seen.lock().unwrap().push(view);
    }
}

#[test]
fn listener_hears_what_the_guest_does_to_the_slot_and_nothing_else() {
    let rig = rig(true);
    rig.port.insert(0, device());
    let watcher = Arc::new(Watcher {
        port: Arc::downgrade(&rig.port),
        seen: Mutex::default(),
    });
    rig.port.set_listener(watcher.clone());
    rig.port.press_attention_button();
    rig.write(0x70, 0x01c1);
    rig.write(0x18, 0x0100);
    assert!(watcher.seen.lock().unwrap().is_empty());
    // The driver clears the event, lets the light blink, switches power off and then the light.
    rig.write(0x72, 0x0001);
    rig.write(0x70, 0x02c1);
    rig.write(0x70, 0x06c1);
    rig.write(0x70, 0x07c1);
    let light = |powered, power_indicator| SlotView {
        present: true,
        powered,
        power_indicator,
        button_pending: false,
    };
    assert_eq!(
        *watcher.seen.lock().unwrap(),
        [
            light(true, Indicator::On),
            light(true, Indicator::Blinking),
            light(false, Indicator::Blinking),
            light(false, Indicator::Off),
        ]
    );
    assert!(rig.port.slot().unwrap().is_released());
}

#[test]
fn port_without_hotplug_shows_no_slot() {
    assert_eq!(rig(false).port.slot(), None);
}

#[test]
fn link_of_a_port_without_hotplug_stays_up_over_other_writes() {
    let rig = rig(false);
    rig.port.insert(0, device());
    rig.write(0x60, 0x0010);
    assert_eq!(rig.read(0x6a), 0x2011);
}
