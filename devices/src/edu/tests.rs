// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device by its registers, with 1 MiB of RAM at 0.

use super::*;
use crate::testing::{RecordingLine, RecordingSender};
use iommu::ids::SourceId;
use iommu::memory::Ram;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

struct Rig {
    edu: Arc<Edu>,
    ram: Arc<Ram>,
    sender: Arc<RecordingSender>,
    line: Arc<RecordingLine>,
}

fn rig_with_mask(mask: u64) -> Rig {
    let ram = Arc::new(Ram::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let requester = Arc::new(Requester::new(SourceId(0x0020)));
    let dma = DmaSpace::identity(ram.clone(), requester);
    let sender = Arc::new(RecordingSender::default());
    let edu = Edu::new(dma, sender.clone(), mask).unwrap();
    let line = Arc::new(RecordingLine::default());
    edu.connect_intx(20, line.clone());
    edu.config_write(0x04, &[0x06, 0]);
    Rig {
        edu,
        ram,
        sender,
        line,
    }
}

fn rig() -> Rig {
    rig_with_mask(DEFAULT_DMA_MASK)
}

impl Rig {
    fn read(&self, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        self.edu.bar_read(0, offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.edu.bar_write(0, offset, &value.to_le_bytes());
    }

    fn write64(&self, offset: u64, value: u64) {
        self.edu.bar_write(0, offset, &value.to_le_bytes());
    }

    /// Polls until the bits of `mask` are as `value`; a device that never gets there fails the test.
    fn wait_for(&self, offset: u64, mask: u32, value: u32) {
        for _ in 0..10_000 {
            if self.read(offset) & mask == value {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("register {offset:#x} stays {:#x}", self.read(offset));
    }

    fn transfer(&self, source: u64, destination: u64, count: u64, command: u32) {
        self.write64(0x80, source);
        self.write64(0x88, destination);
        self.write64(0x90, count);
        self.write(0x98, command);
        self.wait_for(0x98, 1, 0);
    }

    /// Four bytes of RAM.
    fn ram(&self, address: u64) -> [u8; 4] {
        let mut data = [0; 4];
        self.ram
            .read_slice(&mut data, GuestAddress(address))
            .unwrap();
        data
    }
}

#[test]
fn configuration_space_is_the_known_one() {
    let rig = rig();
    let read = |at| {
        let mut data = [0; 4];
        rig.edu.config_read(at, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!((read(0x00), read(0x08)), (0x11e8_1234, 0x00ff_0010));
    assert_eq!((read(0x2c), read(0x34)), (0x1100_1af4, 0x40));
    assert_eq!((read(0x3c), read(0x40)), (0x0100, 0x0080_0005));
    rig.edu.config_write(0x10, &[0xff; 4]);
    assert_eq!(read(0x10), 0xfff0_0000);
}

#[test]
fn identification_and_liveness() {
    let rig = rig();
    assert_eq!(rig.read(0x00), 0x0100_00ed);
    rig.write(0x00, 0);
    assert_eq!(rig.read(0x00), 0x0100_00ed);
    rig.write(0x04, 0x1234_5678);
    assert_eq!(rig.read(0x04), 0xedcb_a987);
}

#[test]
fn low_registers_take_four_bytes_only() {
    let rig = rig();
    for len in [1, 2, 8] {
        let mut data = [0xff; 8];
        rig.edu.bar_read(0, 0x00, &mut data[..len]);
        assert_eq!(data, [0xff; 8]);
    }
    rig.edu.bar_write(0, 0x04, &[0; 2]);
    assert_eq!(rig.read(0x04), 0);
}

#[test]
fn high_registers_take_eight_bytes_and_four() {
    let rig = rig();
    rig.write64(0x80, 0x1122_3344_5566_7788);
    let mut data = [0; 8];
    rig.edu.bar_read(0, 0x80, &mut data);
    assert_eq!(u64::from_le_bytes(data), 0x1122_3344_5566_7788);
    assert_eq!(rig.read(0x80), 0x5566_7788);
    rig.write(0x80, 0x99);
    rig.edu.bar_read(0, 0x80, &mut data);
    assert_eq!(u64::from_le_bytes(data), 0x99);
    rig.edu.bar_write(0, 0x80, &[1, 1]);
    assert_eq!(rig.read(0x80), 0x99);
}

#[test]
fn offset_without_register_reads_all_ones() {
    let rig = rig();
    for offset in [0x0c, 0x60, 0x84, 0xa0, 0x4_0000, 0xf_fffc] {
        assert_eq!(rig.read(offset), u32::MAX);
        rig.write(0xa0, 1);
    }
}

#[test]
fn factorial_is_computed_modulo_32_bits() {
    let rig = rig();
    for (number, result) in [(0, 1), (5, 120), (13, 0x7328_cc00), (33, 0x8000_0000)] {
        rig.write(0x08, number);
        rig.wait_for(0x20, 1, 0);
        assert_eq!(rig.read(0x08), result);
    }
    rig.write(0x08, u32::MAX);
    rig.wait_for(0x20, 1, 0);
    assert_eq!(rig.read(0x08), 0);
}

#[test]
fn factorial_interrupts_when_asked() {
    let rig = rig();
    rig.write(0x20, 0xffff_ffff);
    assert_eq!(rig.read(0x20), 0x80);
    rig.write(0x08, 4);
    rig.wait_for(0x24, 1, 1);
    assert_eq!(rig.read(0x24), 0x1);
}

#[test]
fn raised_bits_drive_the_pin_until_acknowledged() {
    let rig = rig();
    rig.write(0x60, 0);
    assert!(rig.line.levels().is_empty());
    rig.write(0x60, 0x3);
    rig.write(0x64, 0x1);
    assert_eq!((rig.read(0x24), rig.line.levels()), (0x2, vec![true]));
    rig.write(0x64, 0x2);
    assert_eq!(rig.line.levels(), [true, false]);
    assert!(rig.sender.take().is_empty());
}

#[test]
fn raised_bits_send_a_message_when_msi_is_on() {
    let rig = rig();
    rig.edu.config_write(0x44, &0xfee0_0000u32.to_le_bytes());
    rig.edu.config_write(0x4c, &[0x41, 0]);
    rig.edu.config_write(0x42, &[0x01, 0]);
    rig.write(0x60, 0x1);
    rig.write(0x60, 0x1);
    let message = (0x0020, 0xfee0_0000, 0x41);
    assert_eq!(rig.sender.take(), [message, message]);
    assert!(rig.line.levels().is_empty());
}

#[test]
fn dma_moves_data_through_the_buffer() {
    let rig = rig();
    rig.ram.write_slice(b"data", GuestAddress(0x2000)).unwrap();
    rig.transfer(0x2000, 0x4_0ffc, 4, 0x1);
    assert_eq!(rig.read(0x24), 0);
    rig.transfer(0x4_0ffc, 0x3000, 4, 0x3);
    assert_eq!(rig.ram(0x3000), *b"data");
    assert_eq!(rig.read(0x98), 0x2);
}

#[test]
fn dma_interrupts_at_the_end_when_asked() {
    let rig = rig();
    rig.transfer(0x2000, 0x4_0000, 4, 0x5);
    rig.wait_for(0x24, 0x100, 0x100);
    assert_eq!(rig.read(0x24), 0x100);
}

#[test]
fn dma_command_without_start_is_ignored() {
    let rig = rig();
    rig.write(0x98, 0x6);
    assert_eq!(rig.read(0x98), 0);
}

#[test]
fn dma_beyond_the_buffer_moves_nothing() {
    let rig = rig();
    rig.ram.write_slice(b"keep", GuestAddress(0x3000)).unwrap();
    for (source, count) in [
        (0x4_0ffd, 4),
        (0x3_ffff, 4),
        (0x4_0000, 4097),
        (0x4_0000, u64::MAX),
        (u64::MAX, 1),
    ] {
        rig.transfer(source, 0x3000, count, 0x3);
        rig.transfer(0x3000, source, count, 0x1);
    }
    assert_eq!(rig.ram(0x3000), *b"keep");
}

#[test]
fn dma_address_is_masked_to_28_bits_by_default() {
    let rig = rig();
    rig.ram.write_slice(b"mask", GuestAddress(0x2000)).unwrap();
    rig.transfer(0xf000_2000, 0x4_0000, 4, 0x1);
    rig.transfer(0x4_0000, 0x7_1000_3000, 4, 0x3);
    assert_eq!(rig.ram(0x3000), *b"mask");
}

#[test]
fn blocked_dma_moves_nothing_and_ends() {
    let rig = rig_with_mask(u64::MAX);
    rig.ram.write_slice(b"old!", GuestAddress(0x2000)).unwrap();
    rig.transfer(0x2000, 0x4_0000, 4, 0x1);
    rig.transfer(0x1000_0000, 0x4_0000, 4, 0x5);
    rig.transfer(0x4_0000, 0x3000, 4, 0x3);
    assert_eq!(rig.ram(0x3000), *b"old!");
    rig.edu.config_write(0x04, &[0x02, 0]);
    rig.ram.write_slice(b"new!", GuestAddress(0x3000)).unwrap();
    rig.transfer(0x4_0000, 0x3000, 4, 0x3);
    assert_eq!(rig.ram(0x3000), *b"new!");
}

#[test]
fn reset_ends_at_rest() {
    let rig = rig();
    rig.write(0x60, 0x1);
    rig.write(0x04, 0);
    rig.write64(0x90, 4);
    rig.write(0x08, 10);
    rig.write(0x98, 0x5);
    rig.edu.reset();
    let registers = [0x04, 0x08, 0x20, 0x24, 0x90, 0x98].map(|at| rig.read(at));
    assert_eq!(registers, [0; 6]);
    assert!(!rig.edu.requester().is_bus_master());
    assert_eq!(rig.line.levels().last(), Some(&false));
    rig.write(0x08, 3);
    rig.wait_for(0x20, 1, 0);
    assert_eq!(rig.read(0x08), 6);
}

#[test]
fn dropped_device_ends_its_thread() {
    let rig = rig();
    rig.write(0x98, 0x1);
    let shared = Arc::downgrade(&rig.edu.shared);
    drop(rig);
    assert!(shared.upgrade().is_none());
}

#[test]
fn bus_master_off_waits_for_the_dma_under_way() {
    let rig = rig();
    let section = rig.edu.shared.dma.section();
    let (written, done) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            rig.edu.config_write(0x04, &[0x02, 0]);
            written.send(()).unwrap();
        });
        while rig.edu.requester().is_bus_master() {
            thread::yield_now();
        }
        assert!(done.recv_timeout(Duration::from_millis(50)).is_err());
        drop(section);
        done.recv().unwrap();
    });
}

#[test]
fn paused_transfer_moves_its_bytes_when_the_device_goes_on() {
    let rig = rig();
    rig.ram.write_slice(b"edu!", GuestAddress(0x1000)).unwrap();
    rig.transfer(0x1000, 0x4_0000, 4, 1);
    for _ in 0..20 {
        rig.ram.write_slice(&[0; 4], GuestAddress(0x2000)).unwrap();
        rig.edu.pause();
        rig.write64(0x80, 0x4_0000);
        rig.write64(0x88, 0x2000);
        rig.write64(0x90, 4);
        rig.write(0x98, 3);
        thread::yield_now();
        assert_eq!((rig.ram(0x2000), rig.read(0x98) & 1), ([0; 4], 1));
        rig.edu.resume();
        rig.wait_for(0x98, 1, 0);
        assert_eq!(&rig.ram(0x2000), b"edu!");
    }
    rig.edu.pause();
    // Dropping the device, paused as it is, must not wait for ever.
}
