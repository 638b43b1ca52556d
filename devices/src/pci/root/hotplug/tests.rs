// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plugging and unplugging on a live bus. The port is 00:02.0; its slot control is at 0x70, slot status at 0x72.

use super::*;
use crate::pci::bar::BarKind;
use crate::pci::config::Identity;
use crate::pci::firmware::{HotplugReserve, Resources, configure};
use crate::pci::function::FunctionBuilder;
use crate::pci::root_port::RootPortConfig;
use crate::testing::{RecordingSender, TestFunction};
use iommu::ids::SourceId;
use std::sync::atomic::{AtomicBool, Ordering};

const DEVICE: SourceId = SourceId(0x0100);
const PORT: SourceId = SourceId(0x0010);

struct Rig {
    root: Arc<PciRoot>,
    port: Arc<RootPort>,
}

fn device() -> Arc<TestFunction> {
    let mut builder = FunctionBuilder::endpoint(&Identity {
        vendor: 0x1234,
        ..Identity::default()
    });
    let kind = BarKind::Memory32 {
        prefetchable: false,
    };
    builder.bar(0, kind, 0x1000);
    TestFunction::new(builder)
}

fn rig(hotplug: bool) -> Rig {
    let root = PciRoot::new();
    let config = RootPortConfig { slot: 5, hotplug };
    let sender = Arc::new(RecordingSender::default());
    let port = RootPort::new(config, Arc::default(), sender);
    root.add_port(0x10, port.clone()).unwrap();
    let resources = Resources {
        io: 0xc000..0x1_0000,
        memory: 0xc000_0000..0xe000_0000,
        memory64: 0x80_0000_0000..0x100_0000_0000,
        last_bus: 255,
    };
    configure(&root, &resources, HotplugReserve::default()).unwrap();
    Rig { root, port }
}

impl Rig {
    fn read(&self, source: SourceId, at: u16) -> u16 {
        let mut data = [0xff; 2];
        self.root.config_read(source, at, &mut data);
        u16::from_le_bytes(data)
    }

    fn write(&self, source: SourceId, at: u16, value: u16) {
        self.root.config_write(source, at, &value.to_le_bytes());
    }

    fn power(&self, on: bool) {
        self.write(PORT, 0x70, if on { 0x01c0 } else { 0x07c0 });
    }

    /// What an operating system does with a device that came: BAR 0 to where the port's memory window is, and enabled.
    fn bring_up(&self) {
        self.power(true);
        let base = 0xc000_0000u32.to_le_bytes();
        self.root.config_write(DEVICE, 0x10, &base);
        self.write(DEVICE, 0x04, 0x0006);
    }

    fn memory(&self) -> u8 {
        let mut data = [0xff];
        self.root.memory_window(0).read(0xc000_0010, &mut data);
        data[0]
    }
}

#[test]
fn plugged_device_is_told_of_and_reached_once_it_has_power() {
    let (rig, device) = (rig(true), device());
    rig.root.plug(&rig.port, device.clone()).unwrap();
    // Present, presence changed, button pressed.
    assert_eq!(rig.read(PORT, 0x72), 0x0049);
    assert_eq!(rig.read(DEVICE, 0), 0xffff);
    rig.bring_up();
    assert_eq!(rig.read(DEVICE, 0), 0x1234);
    assert_eq!(rig.memory(), 0x5a);
    assert_eq!(device.requester().source(), DEVICE);
}

#[test]
fn unplugged_device_answers_nothing_and_may_not_send() {
    let (rig, device) = (rig(true), device());
    rig.root.plug(&rig.port, device.clone()).unwrap();
    rig.bring_up();
    rig.write(PORT, 0x04, 0x0006);
    assert!(device.requester().is_bus_master());
    rig.write(PORT, 0x72, 0x01ff);
    let functions = rig.root.unplug(&rig.port);
    assert_eq!(functions.len(), 1);
    assert!(!device.requester().is_bus_master());
    assert_eq!((rig.read(DEVICE, 0), rig.memory()), (0xffff, 0xff));
    // Absent, presence and link changed.
    assert_eq!(rig.read(PORT, 0x72), 0x0108);
    // Nothing that the guest writes gives it back.
    rig.power(false);
    rig.power(true);
    rig.write(PORT, 0x04, 0x0006);
    assert!(!device.requester().is_bus_master());
    assert!(rig.root.unplug(&rig.port).is_empty());
}

#[test]
fn unplugged_device_leaves_nothing_that_holds_it() {
    let (rig, device) = (rig(true), device());
    rig.root.plug(&rig.port, device.clone()).unwrap();
    rig.bring_up();
    drop(rig.root.unplug(&rig.port));
    assert_eq!(Arc::strong_count(&device), 1);
}

#[test]
fn slot_takes_one_device_after_the_other() {
    let rig = rig(true);
    for _ in 0..5 {
        rig.root.plug(&rig.port, device()).unwrap();
        rig.bring_up();
        assert_eq!(rig.memory(), 0x5a);
        let error = rig.root.plug(&rig.port, device()).unwrap_err();
        assert_eq!(error, PciError::PortTaken(5));
        rig.power(false);
        assert_eq!(rig.root.unplug(&rig.port).len(), 1);
    }
}

#[test]
fn port_without_a_slot_takes_nothing() {
    let rig = rig(false);
    let error = rig.root.plug(&rig.port, device()).unwrap_err();
    assert_eq!(error, PciError::NoSlot(5));
    assert!(rig.port.devices().is_empty());
}

#[test]
fn device_may_go_while_processors_are_at_work_with_it() {
    let rig = rig(true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    assert!([0x5a, 0xff].contains(&rig.memory()));
                    assert!([0x1234, 0xffff].contains(&rig.read(DEVICE, 0)));
                    rig.write(DEVICE, 0x04, 0x0006);
                }
            });
        }
        for _ in 0..50 {
            let device = device();
            rig.root.plug(&rig.port, device.clone()).unwrap();
            rig.bring_up();
            drop(rig.root.unplug(&rig.port));
            // A processor may still hold the gate, but not the function.
            assert_eq!(Arc::strong_count(&device), 1);
            rig.power(false);
        }
        done.store(true, Ordering::Release);
    });
}
