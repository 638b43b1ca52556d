// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A function between a guest and a device that writes down what is done to it.

use super::super::config::HostFunction;
use super::super::regions::Part;
use super::super::testing::{Machine as TestMachine, RecordingPort};
use super::*;
use rustix::fs::{MemfdFlags, memfd_create};

struct Rig {
    port: Arc<RecordingPort>,
    machine: Arc<TestMachine>,
    function: Passthrough,
}

/// MSI-X with four vectors whose table is at 0x2000 of BAR 0 (16 KiB, 64-bit); PCI Express with function level reset.
fn rig() -> Rig {
    rig_with(Direct::fake(0, Part::new(0, 0x2000)))
}

fn rig_with(direct: Direct) -> Rig {
    let mut image = vec![0; 4096];
    image[0x00..0x04].copy_from_slice(&[0x36, 0x1b, 0x10, 0x00]);
    image[0x06] = 0x10;
    image[0x10] = 0x04;
    image[0x34] = 0x40;
    image[0x3d] = 0x01;
    image[0x40..0x4c].copy_from_slice(&[0x11, 0x80, 3, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0]);
    image[0x80..0x84].copy_from_slice(&[0x10, 0, 0x02, 0]);
    image[0x84..0x88].copy_from_slice(&[0, 0x80, 0, 0x10]);
    image[0x41] = 0x60;
    image[0x60..0x68].copy_from_slice(&[0x01, 0x80, 0x03, 0, 0, 0, 0, 0]);
    let host = HostFunction {
        image: &image,
        bars: [0x4000, 0, 0, 0, 0, 0],
        intx: true,
        msi: 0,
        msix: 4,
        resettable: true,
    };
    let guest = Guest::new(&host, Place::BehindPort).unwrap();
    assert_eq!(
        guest.trapped(0),
        [Part::new(0x2000, 0x2040), Part::new(0x3000, 0x3008)]
    );
    let port = Arc::new(RecordingPort::default());
    *port.image.lock().unwrap() = image.clone();
    let machine = TestMachine::new();
    let seams = Machine {
        routes: machine.clone(),
        slots: machine.clone(),
    };
    Rig {
        function: Passthrough::new(port.clone(), guest, vec![direct], true, seams),
        port,
        machine,
    }
}

/// The guest places BAR 0 at 0xe0000000 and switches memory and bus mastering on.
fn start(rig: &Rig) {
    rig.function
        .config_write(0x10, &0xe000_0000u32.to_le_bytes());
    rig.function.config_write(0x04, &[0x06, 0x00]);
}

#[test]
fn held_device_does_not_send_until_it_is_let_go() {
    let rig = rig();
    start(&rig);
    rig.port.image.lock().unwrap()[4] = 0x06;
    rig.port.take();
    rig.function.hold(true);
    rig.function.config_write(0x04, &[0x06, 0x00]);
    let mut command = [0; 2];
    rig.function.config_read(0x04, &mut command);
    assert_eq!(command, [0x06, 0x00], "the guest sees what it wrote");
    rig.function.hold(false);
    assert_eq!(
        rig.port.take(),
        [
            "config 0x4 [2, 0]",
            "config 0x4 [2, 0]",
            "config 0x4 [6, 0]"
        ]
    );
}

#[test]
fn guest_touches_the_direct_part_while_it_decodes_the_bar() {
    let rig = rig();
    start(&rig);
    assert_eq!(rig.machine.slots(), [(0xe000_0000, 0, 0, 0x2000)]);
    assert!(rig.function.requester().is_bus_master());
    rig.function.config_write(0x04, &[0x00, 0x00]);
    assert_eq!(rig.machine.slots(), []);
    assert!(!rig.function.requester().is_bus_master());
    assert_eq!(
        rig.port.take(),
        ["config 0x4 [6, 0]", "config 0x4 [0, 0]"],
        "the device never hears of the guest's BAR"
    );
}

#[test]
fn part_that_could_not_be_unmapped_is_taken_out_at_the_next_change() {
    let rig = rig();
    start(&rig);
    rig.machine.keep_slots(true);
    rig.function.config_write(0x04, &[0x04, 0x00]);
    rig.machine.keep_slots(false);
    assert_eq!(rig.machine.slots(), [(0xe000_0000, 0, 0, 0x2000)]);
    rig.function
        .config_write(0x10, &0xe100_0000u32.to_le_bytes());
    assert_eq!(rig.machine.slots(), []);
    rig.function.config_write(0x04, &[0x06, 0x00]);
    assert_eq!(rig.machine.slots(), [(0xe100_0000, 0, 0, 0x2000)]);
}

/// Whether a mapping of this process is of the memory file `name`.
fn is_mapped(name: &str) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.contains(&format!("/memfd:{name} "))
}

/// A function whose direct part is the memory file `name`.
fn rig_in_memory(name: &str) -> Rig {
    let file = memfd_create(name, MemfdFlags::CLOEXEC).unwrap();
    rig_with(Direct::of_file(0, Part::new(0, 0x2000), &file.into()).unwrap())
}

#[test]
fn part_that_the_guest_keeps_outlives_the_function() {
    let rig = rig_in_memory("kept-part");
    start(&rig);
    rig.machine.keep_slots(true);
    drop(rig.function);
    assert_eq!(rig.machine.slots(), [(0xe000_0000, 0, 0, 0x2000)]);
    assert!(is_mapped("kept-part"));
}

#[test]
fn part_that_the_guest_lost_goes_with_the_function() {
    let rig = rig_in_memory("lost-part");
    start(&rig);
    assert!(is_mapped("lost-part"));
    drop(rig.function);
    assert_eq!(rig.machine.slots(), []);
    assert!(!is_mapped("lost-part"));
}

#[test]
fn table_is_ours_and_registers_are_the_devices() {
    let rig = rig();
    start(&rig);
    rig.function.config_write(0x42, &[0x00, 0x80]);
    rig.function
        .bar_write(0, 0x2010, &0xfee0_1000u64.to_le_bytes());
    rig.function.bar_write(0, 0x2018, &0x31u64.to_le_bytes());
    rig.function.bar_write(0, 0x10, &[1, 2, 3, 4]);
    let mut data = [0; 4];
    rig.function.bar_read(0, 0x2018, &mut data);
    assert_eq!(data, [0x31, 0, 0, 0]);
    rig.function.bar_read(0, 0x1c, &mut data);
    assert_eq!(data, [0x5a; 4]);
    assert_eq!(
        rig.port.take(),
        [
            "config 0x4 [6, 0]",
            "arm Msix 0 none",
            "arm Msix 1 some",
            "write 0 0x10 [1, 2, 3, 4]",
            "read 0 0x1c 4",
        ]
    );
    let message = iommu::msi::MsiMessage {
        address: 0xfee0_1000,
        data: 0x31,
    };
    assert_eq!(rig.machine.messages(), [Some(message)]);
}

#[test]
fn function_level_reset_takes_everything_back() {
    let rig = rig();
    start(&rig);
    rig.function.config_write(0x42, &[0x00, 0x80]);
    rig.port.take();
    rig.function.config_write(0x88, &[0x00, 0x80]);
    assert_eq!(
        rig.port.take(),
        [
            "config 0x88 [0, 0]",
            "disarm Msix",
            "config 0x4 [0, 0]",
            "reset"
        ]
    );
    assert_eq!(rig.machine.slots(), []);
    assert_eq!(rig.function.windows(), []);
    assert!(!rig.function.requester().is_bus_master());
    let mut control = [0; 2];
    rig.function.config_read(0x42, &mut control);
    assert_eq!(control, [3, 0]);
}

/// Has no controller.
#[derive(Debug)]
struct Line;

impl IrqLine for Line {
    fn set_level(&self, _: bool) {}
}

#[test]
fn pin_is_armed_until_messages_take_its_place() {
    let rig = rig();
    rig.function.connect_intx(16, Arc::new(Line));
    rig.function.config_write(0x42, &[0x00, 0x80]);
    rig.function.config_write(0x42, &[0x00, 0x00]);
    assert_eq!(
        rig.port.take(),
        [
            "arm Intx 0 some",
            "disarm Intx",
            "arm Msix 0 none",
            "disarm Msix",
            "arm Intx 0 some",
        ]
    );
}

#[test]
fn device_that_does_not_answer_reads_ones() {
    let rig = rig();
    rig.port.fail_next(libc::EIO);
    let mut data = [0; 4];
    rig.function.bar_read(0, 0, &mut data);
    assert_eq!(data, [0xff; 4]);
    rig.port.fail_next(libc::EIO);
    rig.function.config_write(0x04, &[0x06, 0x00]);
    let mut command = [0; 2];
    rig.function.config_read(0x04, &mut command);
    assert_eq!(command, [0x06, 0x00], "the guest's view stands");
}

#[test]
fn device_that_sleeps_is_powered_up_for_its_reset() {
    let rig = rig();
    start(&rig);
    rig.function.config_write(0x64, &[0x03, 0x00]);
    assert_eq!(rig.machine.slots(), [], "it does not decode");
    assert!(!rig.function.requester().is_bus_master());
    rig.port.take();
    rig.function.reset();
    assert_eq!(
        rig.port.take(),
        ["config 0x4 [0, 0]", "config 0x64 [0]", "reset"]
    );
}

#[test]
fn device_that_failed_is_gone_until_it_is_reset() {
    let rig = rig();
    start(&rig);
    rig.function.config_write(0x42, &[0x00, 0x80]);
    rig.port.take();
    rig.function.fail();
    assert_eq!(rig.port.take(), ["disarm Msix", "config 0x4 [0, 0]"]);
    assert_eq!(rig.machine.slots(), []);
    assert!(!rig.function.requester().is_bus_master());
    let mut read = [0; 4];
    rig.function.config_read(0, &mut read);
    assert_eq!(read, [0xff; 4]);
    for at in [0x100, 0x2000] {
        rig.function.bar_read(0, at, &mut read);
        assert_eq!(read, [0xff; 4], "{at:#x}");
    }
    rig.function.config_write(0x04, &[0x06, 0x00]);
    rig.function.bar_write(0, 0x100, &[0; 4]);
    rig.function.bar_write(0, 0x2000, &[0; 4]);
    assert_eq!(rig.port.take(), [""; 0], "nothing reaches it");
    rig.function.reset();
    rig.port.take();
    start(&rig);
    assert_eq!(rig.machine.slots(), [(0xe000_0000, 0, 0, 0x2000)]);
    rig.function.config_read(0, &mut read);
    assert_eq!(read, [0x36, 0x1b, 0x10, 0x00]);
}

#[test]
fn device_that_failed_and_cannot_be_reset_stays_away() {
    let rig = rig();
    rig.function.fail();
    rig.port.fail_reset(libc::ENOTTY);
    rig.function.reset();
    let mut read = [0; 4];
    rig.function.config_read(0, &mut read);
    assert_eq!(read, [0xff; 4]);
}

#[test]
fn host_that_wants_its_device_back_is_heard() {
    let Rig { port, function, .. } = rig();
    let function = Arc::new(function);
    let (sender, notices) = std::sync::mpsc::channel();
    let tell = move |notice| sender.send(notice).unwrap();
    function.watch(tell.clone()).unwrap();
    assert!(function.watch(tell).is_err(), "once");
    let [wanted, failed] = [0, 1].map(|number| port.event(number));
    rustix::io::write(&wanted, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(notices.recv(), Ok(Notice::Wanted));
    let mut read = [0; 4];
    function.config_read(0, &mut read);
    assert_eq!(read, [0x36, 0x1b, 0x10, 0x00], "it is as before");
    rustix::io::write(&failed, &1u64.to_ne_bytes()).unwrap();
    assert_eq!(notices.recv(), Ok(Notice::Failed));
    function.config_read(0, &mut read);
    assert_eq!(read, [0xff; 4], "stopped before anybody was told");
}

#[test]
fn device_may_send_while_the_bridge_above_forwards() {
    let rig = rig();
    rig.function.requester().set_upstream_bus_master(false);
    start(&rig);
    assert_eq!(rig.port.take(), ["config 0x4 [2, 0]"]);
    // What the device has in its register; this one has no bus master bit until it is set.
    rig.port.image.lock().unwrap()[0x04] = 0x02;
    rig.function.requester().set_upstream_bus_master(true);
    rig.function.forwarding_changed();
    assert_eq!(rig.port.take(), ["config 0x4 [6, 0]"]);
    rig.port.image.lock().unwrap()[0x04] = 0x06;
    rig.function.requester().set_upstream_bus_master(false);
    rig.function.forwarding_changed();
    assert_eq!(rig.port.take(), ["config 0x4 [2, 0]"]);
    let mut command = [0; 2];
    rig.function.config_read(0x04, &mut command);
    assert_eq!(command, [0x06, 0x00], "the guest's own bit is as it was");
}
