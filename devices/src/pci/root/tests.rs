// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Routing: configuration mechanisms, bridge numbers and windows, source ids and bus mastering.

use super::*;
use crate::pci::bar::BarKind;
use crate::pci::config::Identity;
use crate::pci::function::FunctionBuilder;
use crate::pci::host_bridge::HostBridge;
use crate::pci::msix::MsixLayout;
use crate::pci::root_port::RootPortConfig;
use crate::testing::{RecordingMachine, RecordingSender, TestFunction};

const MEMORY: BarKind = BarKind::Memory32 {
    prefetchable: false,
};
const PREFETCHABLE: BarKind = BarKind::Memory64 { prefetchable: true };

fn device(id: u16) -> Arc<TestFunction> {
    let mut builder = FunctionBuilder::endpoint(&Identity {
        vendor: 0x1234,
        device: id,
        ..Identity::default()
    });
    builder
        .bar(0, MEMORY, 0x2000)
        .bar(1, BarKind::Io, 16)
        .bar(2, PREFETCHABLE, 0x4000)
        .msi(4, true)
        .msix(MsixLayout {
            bar: 2,
            vectors: 3,
            table: 0x1000,
            pending: 0x2000,
        })
        .power_management();
    TestFunction::new(builder)
}

fn port(slot: u16) -> Arc<RootPort> {
    let sender = Arc::new(RecordingSender::default());
    let config = RootPortConfig {
        slot,
        hotplug: false,
    };
    RootPort::new(config, Arc::default(), sender)
}

/// 00:00.0 host bridge, 00:01.0 a device, 00:02.0 a port with a device below.
struct Rig {
    root: Arc<PciRoot>,
    direct: Arc<TestFunction>,
    below: Arc<TestFunction>,
    ports: Arc<ConfigPorts>,
    machine: Arc<RecordingMachine>,
}

fn rig() -> Rig {
    let root = PciRoot::new();
    let (direct, below, port) = (device(0x1111), device(0x2222), port(1));
    port.insert(0, below.clone());
    root.add(0x00, HostBridge::new()).unwrap();
    root.add(0x08, direct.clone()).unwrap();
    root.add_port(0x10, port).unwrap();
    let machine = Arc::new(RecordingMachine::default());
    let ports = root.config_ports(ResetControl::new(machine.clone()));
    Rig {
        root,
        direct,
        below,
        ports,
        machine,
    }
}

impl Rig {
    fn read(&self, bdf: u16, at: u16) -> u32 {
        let mut data = [0xff; 4];
        let offset = u64::from(bdf) << 12 | u64::from(at);
        self.root.ecam().read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, bdf: u16, at: u16, value: u32) {
        let offset = u64::from(bdf) << 12 | u64::from(at);
        self.root.ecam().write(offset, &value.to_le_bytes());
    }

    /// Bus 1 below the port; memory window 0xe0000000 (1 MiB), I/O window 0xc000 (4 KiB), all bits of COMMAND on.
    fn open_bridge(&self) {
        self.write(0x0010, 0x18, 0x0001_0100);
        self.write(0x0010, 0x1c, 0x0000_c0c0);
        self.write(0x0010, 0x20, 0xe000_e000);
        self.write(0x0010, 0x24, 0x0000_fff0);
        self.write(0x0010, 0x04, 0x0007);
    }

    fn memory_read(&self, address: u64) -> u8 {
        let mut data = [0xff];
        self.root.memory_window(0).read(address, &mut data);
        data[0]
    }

    fn port_read(&self, port: u64) -> u8 {
        let mut data = [0xff];
        self.root.port_window(0xc000).read(port - 0xc000, &mut data);
        data[0]
    }
}

#[test]
fn absent_function_reads_all_ones() {
    let rig = rig();
    assert_eq!(rig.read(0x0018, 0), u32::MAX);
    assert_eq!(rig.read(0x0100, 0), u32::MAX);
    assert_eq!(rig.read(0xffff, 0), u32::MAX);
    rig.write(0x0018, 4, 7);
}

#[test]
fn ecam_takes_accesses_across_dwords_and_of_eight_bytes() {
    let rig = rig();
    let mut data = [0xff; 8];
    rig.root.ecam().read(0x8000, &mut data);
    assert_eq!(data, [0x34, 0x12, 0x11, 0x11, 0, 0, 0x10, 0]);
    let mut data = [0xff; 4];
    rig.root.ecam().read(0x8003, &mut data);
    assert_eq!(data, [0x11, 0, 0, 0x10]);
    let mut data = [0xaa; 8];
    rig.root.ecam().read(0x8ffc, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa]);
}

#[test]
fn taken_slot_is_refused() {
    let taken = rig().root.add(0x08, device(1));
    assert_eq!(taken.unwrap_err().to_string(), "PCI slot 00:01.0 is taken");
}

#[test]
fn config_ports_reach_a_function_when_enabled() {
    let rig = rig();
    let mut data = [0xff; 4];
    rig.ports.write(0, &0x0000_0800u32.to_le_bytes());
    rig.ports.read(4, &mut data);
    assert_eq!(data, [0xff; 4]);
    rig.ports.write(0, &0x8000_0800u32.to_le_bytes());
    rig.ports.read(4, &mut data);
    assert_eq!(data, [0x34, 0x12, 0x11, 0x11]);
    rig.ports.read(0, &mut data);
    assert_eq!(data, [0x00, 0x08, 0x00, 0x80]);
    let mut word = [0xff; 2];
    rig.ports.read(6, &mut word);
    assert_eq!(word, [0x11, 0x11]);
}

#[test]
fn low_bits_of_the_address_port_select_the_byte() {
    let rig = rig();
    rig.ports.write(0, &0x8000_0802u32.to_le_bytes());
    let mut word = [0xff; 2];
    rig.ports.read(4, &mut word);
    assert_eq!(word, [0x11, 0x11]);
    rig.ports.write(0, &0x8000_083du32.to_le_bytes());
    rig.ports.write(4, &[0x55]);
    rig.ports.write(0, &0x8000_083cu32.to_le_bytes());
    rig.ports.write(4, &[0x0b]);
    assert_eq!(rig.read(0x0008, 0x3c), 0x0b);
    rig.ports.write(0, &0x8000_08ffu32.to_le_bytes());
    let mut data = [0xaa; 4];
    rig.ports.read(7, &mut data);
    assert_eq!(data, [0, 0xaa, 0xaa, 0xaa]);
}

#[test]
fn address_port_takes_dwords_only_and_hides_the_reset_register() {
    let rig = rig();
    rig.ports.write(0, &0x8000_0800u32.to_le_bytes());
    rig.ports.write(0, &[0xff, 0xff]);
    let mut data = [0; 4];
    rig.ports.read(0, &mut data);
    assert_eq!(data, [0x00, 0x08, 0x00, 0x80]);
    rig.ports.write(1, &[0x06]);
    assert_eq!(rig.machine.take(), [crate::control::MachineRequest::Reset]);
    rig.ports.reset();
    rig.ports.read(0, &mut data);
    assert_eq!(data, [0; 4]);
}

#[test]
fn memory_window_of_a_root_function_follows_its_bar() {
    let rig = rig();
    rig.write(0x0008, 0x10, 0xe100_0000);
    assert_eq!(rig.memory_read(0xe100_0000), 0xff);
    rig.write(0x0008, 0x04, 0x0002);
    assert_eq!(rig.memory_read(0xe100_1fff), 0x5a);
    assert_eq!(rig.memory_read(0xe100_2000), 0xff);
    rig.write(0x0008, 0x10, 0xe200_0000);
    assert_eq!(rig.memory_read(0xe100_0000), 0xff);
    rig.root
        .memory_window(0xe000_0000)
        .write(0x0200_0010, &[0; 8]);
    assert_eq!(rig.direct.take_writes(), [(0, 0x10, 8)]);
    rig.root.memory_window(0).write(0xe200_1ffe, &[0; 4]);
    assert!(rig.direct.take_writes().is_empty());
}

#[test]
fn function_below_a_port_is_reached_by_its_secondary_number() {
    let rig = rig();
    assert_eq!(rig.read(0x0100, 0), u32::MAX);
    rig.open_bridge();
    assert_eq!(rig.read(0x0100, 0), 0x2222_1234);
    assert_eq!(rig.read(0x0108, 0), u32::MAX);
    rig.write(0x0010, 0x18, 0x0007_0700);
    assert_eq!(rig.read(0x0100, 0), u32::MAX);
    assert_eq!(rig.read(0x0700, 0), 0x2222_1234);
}

#[test]
fn source_ids_follow_the_numbers() {
    let rig = rig();
    assert_eq!(rig.direct.requester().source(), SourceId(0x0008));
    rig.open_bridge();
    assert_eq!(rig.below.requester().source(), SourceId(0x0100));
    rig.write(0x0010, 0x18, 0x0007_0700);
    assert_eq!(rig.below.requester().source(), SourceId(0x0700));
}

#[test]
fn bar_below_a_port_is_reached_only_inside_the_window() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0100, 0x10, 0xe000_4000);
    rig.write(0x0100, 0x14, 0xc100);
    rig.write(0x0100, 0x04, 0x0003);
    assert_eq!(rig.memory_read(0xe000_4000), 0x5a);
    assert_eq!(rig.port_read(0xc10f), 0x5a);
    rig.write(0x0100, 0x10, 0xe010_0000);
    rig.write(0x0100, 0x14, 0xd100);
    assert_eq!(rig.memory_read(0xe010_0000), 0xff);
    assert_eq!(rig.port_read(0xd100), 0xff);
    rig.write(0x0010, 0x20, 0xe010_e000);
    assert_eq!(rig.memory_read(0xe010_0000), 0x5a);
}

#[test]
fn bridge_without_memory_decoding_forwards_no_memory() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0100, 0x10, 0xe000_4000);
    rig.write(0x0100, 0x04, 0x0002);
    rig.write(0x0010, 0x04, 0x0005);
    assert_eq!(rig.memory_read(0xe000_4000), 0xff);
    rig.write(0x0010, 0x04, 0x0002);
    assert_eq!(rig.memory_read(0xe000_4000), 0x5a);
}

#[test]
fn prefetchable_window_leads_above_four_gigabytes() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0010, 0x24, 0x0000_0000);
    rig.write(0x0010, 0x28, 0x12);
    rig.write(0x0010, 0x2c, 0x12);
    rig.write(0x0100, 0x18, 0x0000_8000);
    rig.write(0x0100, 0x1c, 0x12);
    rig.write(0x0100, 0x04, 0x0002);
    assert_eq!(rig.memory_read(0x12_0000_8000), 0x5a);
    rig.write(0x0010, 0x2c, 0x11);
    assert_eq!(rig.memory_read(0x12_0000_8000), 0xff);
}

#[test]
fn bus_mastering_needs_the_bridge_too() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0100, 0x04, 0x0004);
    assert!(rig.below.requester().is_bus_master());
    rig.write(0x0010, 0x04, 0x0003);
    assert!(!rig.below.requester().is_bus_master());
    rig.write(0x0100, 0x04, 0x0004);
    assert!(!rig.below.requester().is_bus_master());
    rig.write(0x0010, 0x04, 0x0007);
    assert!(rig.below.requester().is_bus_master());
}

#[test]
fn secondary_bus_reset_hides_what_is_below() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0010, 0x3c, 0x0040_0000);
    assert_eq!(rig.read(0x0100, 0), u32::MAX);
    rig.write(0x0010, 0x3c, 0x0000_0000);
    assert_eq!(rig.read(0x0100, 0), 0x2222_1234);
    assert_eq!(rig.below.resets(), 1);
}

#[test]
fn several_functions_show_in_the_header_type() {
    let rig = rig();
    assert_eq!(rig.read(0x0008, 0x0c) >> 16, 0);
    rig.root.add(0x0b, device(0x3333)).unwrap();
    assert_eq!(rig.read(0x0008, 0x0c) >> 16 & 0xff, 0x80);
    assert_eq!(rig.read(0x000b, 0x0c) >> 16 & 0xff, 0x80);
    let mut byte = [0];
    rig.root.ecam().read(0x800e, &mut byte);
    assert_eq!(byte, [0x80]);
    assert_eq!(rig.read(0x0010, 0x0c) >> 16 & 0xff, 0x01);
}

#[test]
fn window_during_sizing_at_the_top_of_memory_is_harmless() {
    let rig = rig();
    rig.write(0x0008, 0x04, 0x0002);
    rig.write(0x0008, 0x18, u32::MAX);
    rig.write(0x0008, 0x1c, u32::MAX);
    assert_eq!(rig.memory_read(u64::MAX), 0x5a);
    let mut data = [0xaa; 4];
    rig.root.memory_window(0).read(u64::MAX - 1, &mut data);
    assert_eq!(data, [0xaa; 4]);
}

#[test]
fn reset_closes_everything() {
    let rig = rig();
    rig.open_bridge();
    rig.write(0x0100, 0x04, 0x0007);
    rig.root.reset();
    assert_eq!(rig.read(0x0100, 0), u32::MAX);
    assert_eq!(rig.read(0x0010, 0x18), 0);
    assert!(!rig.below.requester().is_bus_master());
    assert!(rig.below.windows().is_empty());
}

/// A small generator: the sequence is the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[test]
fn random_accesses_never_panic_and_read_only_fields_stay() {
    let rig = rig();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let functions = [0x0000, 0x0008, 0x0010, 0x0100, 0x0018];
    for _ in 0..40_000 {
        let bdf = functions[usize::try_from(random.below(5)).unwrap()];
        let at = if random.below(2) == 0 {
            random.below(0x100)
        } else {
            random.below(0x1000)
        };
        let len = [1, 2, 4, 8][usize::try_from(random.below(4)).unwrap()];
        let mut data = random.next().to_le_bytes();
        match random.below(4) {
            0 => rig.root.ecam().read(bdf << 12 | at, &mut data[..len]),
            1 => rig.root.ecam().write(bdf << 12 | at, &data[..len]),
            2 => rig.ports.write(4 + at % 4, &data[..len.min(4)]),
            _ => {
                let address = 0x8000_0000 | u32::try_from(bdf << 8 | at & 0xff).unwrap();
                rig.ports.write(0, &address.to_le_bytes());
            }
        }
        if random.below(16) == 0 {
            rig.root.memory_window(0).write(random.next(), &data[..len]);
        }
    }
    rig.root.refresh();
    assert_eq!(rig.read(0x0000, 0), 0x0d57_8086);
    assert_eq!(rig.read(0x0008, 0), 0x1111_1234);
    assert_eq!(rig.read(0x0010, 0), 0x000c_1b36);
    assert_eq!(rig.below.config(0), 0x2222_1234);
    assert_eq!(rig.read(0x0008, 0x10) & 0x1fff, 0);
    assert_eq!(rig.read(0x0008, 0x14) & 0xf, 1);
    assert_eq!(rig.read(0x0008, 0x18) & 0x3fff, 0xc);
    assert_eq!(rig.read(0x0008, 0x04) & 0xfab8, 0);
    assert_eq!(rig.read(0x0010, 0x24) & 0x000f_000f, 0x0001_0001);
}

#[test]
fn processors_in_parallel_leave_the_routes_as_the_registers_say() {
    let rig = rig();
    rig.open_bridge();
    std::thread::scope(|scope| {
        for (bdf, base) in [(0x0008u16, 0xe100_0000u32), (0x0100, 0xe000_0000)] {
            let rig = &rig;
            scope.spawn(move || {
                for step in 0..500u32 {
                    rig.write(bdf, 0x10, base + (step % 8) * 0x2000);
                    rig.write(bdf, 0x04, 0x0002);
                }
            });
        }
        for _ in 0..500 {
            rig.memory_read(0xe000_4000);
        }
    });
    assert_eq!(rig.memory_read(0xe100_6000), 0x5a);
    assert_eq!(rig.memory_read(0xe000_6000), 0x5a);
    assert_eq!(rig.memory_read(0xe000_4000), 0xff);
}

#[test]
fn two_processors_at_one_command_register_leave_the_routes_as_it_says() {
    let rig = rig();
    rig.write(0x0008, 0x10, 0xe100_0000);
    let (start, done) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    let mut wrong = 0;
    std::thread::scope(|scope| {
        for command in [0x0000, 0x0002] {
            let (rig, start, done) = (&rig, &start, &done);
            scope.spawn(move || {
                for _ in 0..300 {
                    start.wait();
                    rig.write(0x0008, 0x04, command);
                    done.wait();
                }
            });
        }
        for _ in 0..300 {
            start.wait();
            done.wait();
            let decodes = rig.direct.config(0x04) & 2 != 0;
            wrong += usize::from((rig.memory_read(0xe100_0000) == 0x5a) != decodes);
        }
    });
    assert_eq!(wrong, 0);
}
