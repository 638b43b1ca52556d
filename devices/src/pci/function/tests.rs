// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The common part of a function: what follows from configuration and table writes.

use super::super::config::Identity;
use super::*;
use crate::testing::{RecordingLine, RecordingSender};
use iommu::ids::SourceId;

struct Rig {
    function: Function,
    sender: Arc<RecordingSender>,
    line: Arc<RecordingLine>,
}

/// MSI at 0x40, MSI-X at 0x50, PCI Express at 0x5c, power management at 0x98.
fn rig() -> Rig {
    let mut builder = FunctionBuilder::endpoint(&Identity::default());
    builder
        .bar(
            0,
            BarKind::Memory32 {
                prefetchable: false,
            },
            0x4000,
        )
        .intx(IntxPin::B)
        .msi(1, false)
        .msix(MsixLayout {
            bar: 0,
            vectors: 2,
            table: 0,
            pending: 0x800,
        })
        .express(DeviceType::Endpoint, true)
        .power_management();
    let sender = Arc::new(RecordingSender::default());
    let requester = Arc::new(Requester::new(SourceId(0x0108)));
    let function = builder.build(requester, sender.clone());
    let line = Arc::new(RecordingLine::default());
    function.connect_intx(line.clone());
    Rig {
        function,
        sender,
        line,
    }
}

impl Rig {
    fn write(&self, at: u16, value: u16) -> ConfigOutcome {
        self.function.config_write(at, &value.to_le_bytes())
    }

    fn read(&self, at: u16) -> u16 {
        let mut data = [0; 2];
        self.function.config_read(at, &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn bus_master_bit_drives_the_requester() {
    let rig = rig();
    assert!(!rig.function.requester().is_bus_master());
    let _ = rig.write(0x04, 0x0004);
    assert!(rig.function.requester().is_bus_master());
    let _ = rig.write(0x04, 0x0000);
    assert!(!rig.function.requester().is_bus_master());
}

#[test]
fn power_state_takes_windows_and_mastering_away_and_returns_them() {
    let rig = rig();
    let _ = rig.write(0x10, 0x8000);
    let _ = rig.write(0x04, 0x0006);
    assert_eq!(rig.function.windows()[0].base, 0x8000);
    let _ = rig.write(0x9c, 0x0003);
    assert!(rig.function.windows().is_empty());
    assert!(!rig.function.requester().is_bus_master());
    let _ = rig.write(0x9c, 0x0000);
    assert_eq!(rig.function.windows().len(), 1);
    assert!(rig.function.requester().is_bus_master());
}

#[test]
fn pin_follows_the_device_and_the_disable_bit() {
    let rig = rig();
    assert_eq!(rig.read(0x3c), 0x0200);
    rig.function.set_intx(true);
    assert_eq!(rig.read(0x06) & 8, 8);
    let _ = rig.write(0x04, 0x0400);
    assert_eq!(rig.read(0x06) & 8, 8);
    let _ = rig.write(0x04, 0x0000);
    rig.function.set_intx(false);
    assert_eq!(rig.read(0x06) & 8, 0);
    assert_eq!(rig.line.levels(), [true, false, true, false]);
}

#[test]
fn pin_that_is_decided_late_does_not_overrule_whoever_comes_after() {
    let rig = rig();
    let (lowered, done) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let function = &rig.function;
        let rises = function.update_intx(|_| {
            scope.spawn(move || {
                function.set_intx(false);
                lowered.send(()).unwrap();
            });
            // The other thread cannot come in between: it has to wait for this decision.
            let _ = done.recv_timeout(std::time::Duration::from_millis(50));
            true
        });
        assert!(rises);
    });
    assert_eq!(rig.read(0x06) & 8, 0);
    assert_ne!(rig.line.levels().last(), Some(&true));
}

#[test]
fn pin_is_silent_while_messages_are_used() {
    let rig = rig();
    let _ = rig.write(0x42, 0x0001);
    assert_eq!(rig.function.interrupt_mode(), InterruptMode::Msi);
    rig.function.set_intx(true);
    assert!(rig.line.levels().is_empty());
    let _ = rig.write(0x42, 0x0000);
    assert_eq!(rig.line.levels(), [true]);
}

#[test]
fn messages_prefer_msix_and_carry_the_source_id() {
    let rig = rig();
    let _ = rig.write(0x04, 0x0004);
    rig.function.signal(0);
    assert!(rig.sender.take().is_empty());
    let _ = rig.write(0x44, 0x1000);
    let _ = rig.write(0x42, 0x0001);
    rig.function.signal(0);
    assert_eq!(rig.sender.take(), [(0x0108, 0x1000, 0)]);
    let _ = rig.write(0x52, 0x8000);
    assert_eq!(rig.function.interrupt_mode(), InterruptMode::Msix);
    assert!(rig.function.bar_write(0, 0x10, &0x2000u64.to_le_bytes()));
    rig.function.signal(1);
    assert!(rig.sender.take().is_empty());
    assert!(rig.function.bar_write(0, 0x18, &0x55u64.to_le_bytes()));
    assert_eq!(rig.sender.take(), [(0x0108, 0x2000, 0x55)]);
}

#[test]
fn clearing_the_function_mask_sends_what_is_pending() {
    let rig = rig();
    let _ = rig.write(0x04, 0x0004);
    let _ = rig.write(0x52, 0xc000);
    assert!(rig.function.bar_write(0, 0x00, &0x3000u64.to_le_bytes()));
    assert!(rig.function.bar_write(0, 0x08, &0x66u64.to_le_bytes()));
    rig.function.signal(0);
    assert!(rig.sender.take().is_empty());
    let _ = rig.write(0x52, 0x8000);
    assert_eq!(rig.sender.take(), [(0x0108, 0x3000, 0x66)]);
}

#[test]
fn accesses_beyond_the_table_are_the_devices() {
    let rig = rig();
    assert!(!rig.function.bar_read(0, 0x1000, &mut [0; 4]));
    assert!(!rig.function.bar_write(0, 0x1000, &[0; 4]));
    assert!(rig.function.bar_read(0, 0x0000, &mut [0; 4]));
}

#[test]
fn function_level_reset_is_handed_to_the_device() {
    let rig = rig();
    assert!(!rig.write(0x64, 0x7fff).function_level_reset);
    assert!(rig.write(0x64, 0x8000).function_level_reset);
}

#[test]
fn reset_returns_to_power_on_and_lets_the_pin_go() {
    let rig = rig();
    let _ = rig.write(0x04, 0x0007);
    let _ = rig.write(0x10, 0x4000);
    let _ = rig.write(0x3c, 0x0011);
    rig.function.set_intx(true);
    rig.function.reset();
    assert_eq!(
        (rig.read(0x04), rig.read(0x10), rig.read(0x3c)),
        (0, 0, 0x0200)
    );
    assert_eq!(rig.read(0x06) & 8, 0);
    assert!(!rig.function.requester().is_bus_master());
    assert_eq!(rig.line.levels(), [true, false]);
}

#[test]
#[should_panic(expected = "no room for")]
fn msix_beyond_its_bar_is_refused() {
    let mut builder = FunctionBuilder::endpoint(&Identity::default());
    builder.bar(1, BarKind::Io, 16);
    builder.msix(MsixLayout {
        bar: 1,
        vectors: 2,
        table: 0,
        pending: 32,
    });
}
