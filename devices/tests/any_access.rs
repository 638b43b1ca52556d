// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whatever a guest does to the registers of the machine's devices, none of them panics.
//!
//! Every device sits on its bus as in the machine, and a generator with a fixed seed makes the accesses.
#![expect(
    clippy::unwrap_used,
    reason = "a machine that cannot be put together fails the test"
)]

use devices::bus::{Bus, BusDevice};
use devices::control::{MachineControl, MachineRequest};
use devices::debug_exit::DebugExit;
use devices::edu::{DEFAULT_DMA_MASK, Edu};
use devices::i8042::I8042;
use devices::ioapic::{Ioapic, IoapicOutput};
use devices::irq::SharedLine;
use devices::pci::PciFunction;
use devices::pci::firmware::{HotplugReserve, Resources, configure, connect_interrupts};
use devices::pci::host_bridge::HostBridge;
use devices::pci::root::PciRoot;
use devices::pci::root_port::{RootPort, RootPortConfig};
use devices::power::{ResetControl, SleepRegisters};
use devices::pvpanic::Pvpanic;
use devices::rtc::{MemorySize, Rtc};
use devices::serial::{OutputWatch, Serial};
use iommu::dma::DmaSpace;
use iommu::ids::{Requester, SourceId};
use iommu::memory::Ram;
use iommu::msi::{MsiMessage, MsiSender};
use std::sync::Arc;
use vm_memory::GuestAddress;

/// The world outside the devices: it takes everything.
#[derive(Debug)]
struct Outside;

impl MachineControl for Outside {
    fn request(&self, _what: MachineRequest) {}
}

impl MsiSender for Outside {
    fn send(&self, _requester: &Requester, _message: MsiMessage) {}
}

impl IoapicOutput for Outside {
    fn interrupt_ends(&self, _: u8) {}

    fn send(&self, _message: MsiMessage) {}
    fn entry_changed(&self, _pin: u8) {}
}

impl OutputWatch for Outside {
    fn output(&self, _bytes: &[u8]) {}
}

struct Machine {
    memory: Bus,
    ports: Bus,
    root: Arc<PciRoot>,
    edu: Arc<Edu>,
}

fn edu() -> Arc<Edu> {
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let dma = DmaSpace::identity(ram, Arc::default());
    Edu::new(dma, Arc::new(Outside), DEFAULT_DMA_MASK).unwrap()
}

fn machine() -> Machine {
    let outside = Arc::new(Outside);
    let (memory, ports, root) = (Bus::default(), Bus::default(), PciRoot::new());
    let ioapic = Ioapic::new(1, outside.clone());
    let (direct, below) = (edu(), edu());
    let config = RootPortConfig {
        slot: 1,
        hotplug: true,
    };
    let port = RootPort::new(config, Arc::default(), outside.clone());
    port.insert(0, below);
    root.add(0x00, HostBridge::new()).unwrap();
    root.add(0x08, direct.clone()).unwrap();
    root.add_port(0x10, port).unwrap();
    connect_interrupts(&root, |gsi| SharedLine::new(ioapic.line(gsi)).source());
    let resources = Resources {
        io: 0xc000..0x1_0000,
        memory: 0xc000_0000..0xe000_0000,
        memory64: 0x80_0000_0000..0x100_0000_0000,
        last_bus: 255,
    };
    configure(&root, &resources, HotplugReserve::default()).unwrap();

    let watch = outside.clone();
    let serial = Serial::new(ioapic.line(4), Box::new(std::io::sink()), watch).unwrap();
    let size = MemorySize {
        low: 1 << 30,
        high: 0,
    };
    let reset = ResetControl::new(outside.clone());
    let put = |bus: &Bus, base, len, device: Arc<dyn BusDevice>| {
        bus.insert(base, len, device).unwrap();
    };
    put(&ports, 0x60, 5, I8042::new(outside.clone()));
    put(&ports, 0x70, 2, Arc::new(Rtc::new(size)));
    put(&ports, 0xf4, 4, DebugExit::new(outside.clone()));
    put(&ports, 0x3f8, 8, serial);
    put(&ports, 0x505, 1, Pvpanic::new(outside.clone()));
    put(&ports, 0x600, 2, SleepRegisters::new(outside));
    put(&ports, 0xcf8, 8, root.config_ports(reset));
    put(&ports, 0xc000, 0x4000, root.port_window(0xc000));
    put(&memory, 0xb000_0000, 0x1000_0000, root.ecam());
    put(
        &memory,
        0xc000_0000,
        0x2000_0000,
        root.memory_window(0xc000_0000),
    );
    put(&memory, 0xfec0_0000, 0x1000, ioapic);
    Machine {
        memory,
        ports,
        root,
        edu: direct,
    }
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

    fn pick(&mut self, from: &[u64]) -> u64 {
        let index = self.next() % from.len() as u64;
        from[usize::try_from(index).unwrap()]
    }

    /// Makes one access; whether it was a read that some device answered.
    fn access(&mut self, bus: &Bus, address: u64) -> bool {
        let len = usize::try_from(self.pick(&[1, 2, 4, 8])).unwrap();
        let mut data = self.next().to_le_bytes();
        if self.next().is_multiple_of(2) {
            bus.read(address, &mut data[..len]);
            data[..len].iter().any(|&byte| byte != 0xff)
        } else {
            bus.write(address, &data[..len]);
            false
        }
    }
}

#[test]
fn any_access_to_any_device_returns() {
    let machine = machine();
    let mut random = Random(0x0123_4567_89ab_cdef);
    let mut answered = [0; 4];
    for _ in 0..30_000 {
        let port = random.pick(&[0x60, 0x70, 0xf4, 0x3f8, 0x505, 0x600, 0xcf8, 0xc000]);
        let port = port + random.next() % 10;
        answered[0] += u32::from(random.access(&machine.ports, port));

        let register = (random.next() % 0x48) & !0x3;
        let register = 0xfec0_0000 + register;
        answered[1] += u32::from(random.access(&machine.memory, register));

        let function = random.pick(&[0x0000, 0x0008, 0x0010, 0x0100]);
        let config = 0xb000_0000 + (function << 12) + random.next() % 0x140;
        answered[2] += u32::from(random.access(&machine.memory, config));

        let bar = 0xc000_0000 + random.next() % 0x20_0000;
        answered[3] += u32::from(random.access(&machine.memory, bar));
    }
    // The accesses reached the devices.
    assert!(
        answered[..3].iter().all(|&count| count > 500),
        "{answered:?}"
    );
}

#[test]
fn any_access_to_edu_leaves_it_able_to_reset() {
    let machine = machine();
    let mut random = Random(0xfedc_ba98_7654_3210);
    let mut address = [0; 4];
    machine.edu.config_read(0x10, &mut address);
    let base = u64::from(u32::from_le_bytes(address));
    machine.edu.config_write(0x04, &[0x06, 0]);
    for _ in 0..30_000 {
        let register = random.pick(&[0x04, 0x08, 0x20, 0x60, 0x64, 0x80, 0x88, 0x90, 0x98]);
        random.access(&machine.memory, base + register);
    }
    machine.root.reset();
    let mut status = [0; 4];
    machine.edu.bar_read(0, 0x98, &mut status);
    assert_eq!(status, [0; 4]);
    assert_eq!(machine.edu.requester().source(), SourceId(0x0008));
}
