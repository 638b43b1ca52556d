// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What guests and devices do.

use crate::machine::{DEVICE, Machine};
use crate::memory::PAGES;
use arbitrary::Arbitrary;
use iommu::address::Iova;
use iommu::dma::Translate;
use iommu::ids::{Pasid, SourceId};
use iommu::msi::MsiMessage;
use iommu::page_request::PageRequest;
use iommu::request::{Access, AddressType, Request};

/// Accesses of memory that one request of a device makes at most: a nested walk of five levels on five levels, repeated when
/// an entry changes because the tables refer to themselves, and what leads to it.
const REQUEST_BOUND: u64 = 16 * 96;

/// Offsets of registers that do something.
const REGISTERS: [u64; 32] = [
    0x18, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x80, 0x88, 0x90, 0x94, 0x9c, 0xa0,
    0xa4, 0xb8, 0xbc, 0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0xe4, 0xf0, 0xf8, 0xfc, 0x22c, 0x23c, 0x24c,
    0x29c,
];

/// One entry of a table: a pointer into the memory, or anything.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Entry {
    /// The page that the entry stands in.
    pub page: u8,
    /// Its number in the page.
    pub index: u16,
    /// The page that it points to.
    pub target: u8,
    /// Bits 11:0, and whatever else.
    pub bits: u64,
    /// Whether the other bits stay as they are.
    pub raw: bool,
}

impl Entry {
    /// Puts the entry into memory.
    pub fn store(&self, machine: &Machine) {
        let value = if self.raw {
            self.bits
        } else {
            u64::from(self.target) % (PAGES + 1) << 12 | self.bits & 0xfff
        };
        let page = u64::from(self.page) % PAGES;
        machine
            .memory
            .set(page * 512 + u64::from(self.index) % 512, value);
    }
}

/// A request of a device.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Dma {
    source: u8,
    pasid: Option<u32>,
    address: u64,
    access: u8,
    kind: u8,
    execute: bool,
    privileged: bool,
}

impl Dma {
    fn request(&self) -> Request {
        let pasid = self.pasid.and_then(|pasid| Pasid::new(pasid & 0xf_ffff));
        Request {
            source: SourceId(DEVICE.0 + u16::from(self.source & 1)),
            pasid,
            address: Iova(self.address),
            access: match self.access % 3 {
                0 => Access::Read,
                1 => Access::Write,
                _ => Access::Atomic,
            },
            address_type: match self.kind % 4 {
                1 => AddressType::TranslationRequest,
                2 => AddressType::Translated,
                _ => AddressType::Untranslated,
            },
            execute: self.execute && pasid.is_some(),
            privileged: self.privileged && pasid.is_some(),
        }
    }

    /// Sends the request, and checks that little was done for it and that the answer makes sense.
    pub fn send(&self, machine: &Machine) {
        let request = self.request();
        machine.memory.accesses();
        match request.address_type {
            AddressType::TranslationRequest => {
                let _ = machine.unit.translation_request(&request);
            }
            _ => {
                if let Ok(answer) = machine.unit.translate(&request) {
                    assert!(answer.len >= 1);
                    assert!(answer.perms.allow(request.access));
                }
            }
        }
        let accesses = machine.memory.accesses();
        assert!(
            accesses <= REQUEST_BOUND,
            "{accesses} accesses of one request"
        );
    }
}

/// One operation.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Operation {
    /// A write to a register that does something.
    Write32(u8, u32),
    /// The same, of 64 bits.
    Write64(u8, u64),
    /// A write anywhere.
    WriteAnywhere(u16, u64),
    /// Queue, root table and interrupt table in these pages, everything switched on as the bits say, and wide descriptors.
    SetUp([u8; 3], u16),
    /// A table entry.
    Entry(Entry),
    /// A descriptor in the queue, which then gets this tail.
    Descriptor(u8, [u64; 4], u8),
    /// A request of a device.
    Dma(Dma),
    /// An interrupt of a device.
    Interrupt(u32, u32),
    /// A device asks for a page.
    PageRequest(Option<u32>, u64, u8),
    /// Whether the device answers too late from now on.
    Late(bool),
    /// Everything starts anew.
    Reset,
}

impl Operation {
    /// Carries the operation out.
    pub fn apply(&self, machine: &Machine) {
        let register = |choice: u8| REGISTERS[usize::from(choice) % REGISTERS.len()];
        match *self {
            Self::Write32(choice, value) => {
                machine.write(register(choice), &value.to_le_bytes());
            }
            Self::Write64(choice, value) => {
                machine.write(register(choice) & !7, &value.to_le_bytes());
            }
            Self::WriteAnywhere(offset, value) => {
                machine.write(u64::from(offset), &value.to_le_bytes());
            }
            Self::SetUp(pages, bits) => set_up(machine, pages, bits),
            Self::Entry(entry) => entry.store(machine),
            Self::Descriptor(slot, words, tail) => {
                let mut base = [0; 8];
                machine.unit.read(0x90, &mut base);
                let first = (u64::from_le_bytes(base) >> 12) * 512 + u64::from(slot) * 2;
                for (word, value) in (first..).zip(words) {
                    machine.memory.set(word, value);
                }
                machine.write(0x88, &(u32::from(tail) << 4).to_le_bytes());
            }
            Self::Dma(dma) => dma.send(machine),
            Self::Interrupt(address, data) => {
                let message = MsiMessage {
                    address: u64::from(0xfee0_0000 | address & 0xf_ffff),
                    data,
                };
                let _ = machine.unit.remap(DEVICE, message);
            }
            Self::PageRequest(pasid, address, flags) => {
                let bit = |index: u8| flags >> index & 1 == 1;
                let pasid = pasid.and_then(|pasid| Pasid::new(pasid & 0xf_ffff));
                let _ = machine.unit.page_request(&PageRequest {
                    source: DEVICE,
                    pasid,
                    address: Iova(address),
                    read: bit(0),
                    write: bit(1),
                    execute: bit(2),
                    privileged: bit(3),
                    last: bit(4),
                    group: u16::from(flags),
                });
            }
            Self::Late(late) => machine.set_late(late),
            Self::Reset => machine.unit.reset(),
        }
    }
}

/// What a driver does first. The low bits of `bits` are the table mode and whether descriptors are wide.
fn set_up(machine: &Machine, pages: [u8; 3], bits: u16) {
    let [queue, root, interrupts] = pages.map(|page| u64::from(page) % PAGES << 12);
    let bits = u64::from(bits);
    let command = |value: u32| machine.write(0x18, &value.to_le_bytes());
    command(0);
    machine.write(0x88, &0u32.to_le_bytes());
    machine.write(0x90, &(queue | (bits >> 2 & 1) << 11).to_le_bytes());
    machine.write(0x20, &(root | (bits & 3) << 10).to_le_bytes());
    machine.write(0xb8, &(interrupts | 0x800 | bits >> 3 & 7).to_le_bytes());
    command(0x4100_0000);
    let levels = (0x8680_0000u64 & bits << 16 | 0x8400_0000) & 0xffff_ffff;
    command(u32::try_from(levels).unwrap_or(0));
}
