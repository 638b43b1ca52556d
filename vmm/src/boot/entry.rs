// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state in which the first vCPU starts, and the tables in guest memory that belong to it.

use super::place;
use crate::error::Error;
use iommu::address::Gpa;
use iommu::memory::Ram;
use vm_memory::{Bytes, GuestAddress};

/// The mode of the first vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 32-bit protected mode with flat segments, paging off.
    Protected32,
    /// 64-bit mode with the first 4 GiB mapped one to one by the tables at this address.
    Long64 {
        /// The top-level page table.
        pml4: Gpa,
    },
}

/// The state in which the first vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Mode.
    pub mode: Mode,
    /// First instruction.
    pub rip: u64,
    /// RAX: a loader's magic.
    pub rax: u64,
    /// RBX: the address of what the loader tells the kernel (PVH, multiboot).
    pub rbx: u64,
    /// RSI: the address of what the loader tells the kernel (bzImage).
    pub rsi: u64,
}

/// A segment, as its descriptor in the table at [`Entry::GDT`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index and table.
    pub selector: u16,
    /// Last byte.
    pub limit: u32,
    /// Descriptor type.
    pub kind: u8,
    /// Code or data, as opposed to system.
    pub code_or_data: bool,
    /// 64-bit code.
    pub long: bool,
    /// 32-bit code or stack.
    pub big: bool,
    /// The limit counts pages.
    pub pages: bool,
}

impl Entry {
    /// Where the descriptor table lies.
    pub const GDT: Gpa = place::GDT;
    /// Last byte of the descriptor table.
    pub const GDT_LIMIT: u16 = 5 * 8 - 1;

    /// The code segment.
    #[must_use]
    pub fn code(&self) -> Segment {
        let long = matches!(self.mode, Mode::Long64 { .. });
        Segment {
            selector: 0x10,
            limit: 0xffff_ffff,
            kind: 0xb,
            code_or_data: true,
            long,
            big: !long,
            pages: true,
        }
    }

    /// The data segments.
    #[must_use]
    pub fn data(&self) -> Segment {
        Segment {
            selector: 0x18,
            limit: 0xffff_ffff,
            kind: 0x3,
            code_or_data: true,
            long: false,
            big: true,
            pages: true,
        }
    }

    /// The task state segment.
    #[must_use]
    pub fn task(&self) -> Segment {
        Segment {
            selector: 0x20,
            limit: 0xffff,
            kind: 0xb,
            code_or_data: false,
            long: false,
            big: false,
            pages: false,
        }
    }

    /// Writes the descriptors of the three segments. Linux's boot protocol wants code at 0x10 and data at 0x18.
    pub(super) fn write_gdt(&self, ram: &Ram) -> Result<(), Error> {
        let code: u64 = match self.mode {
            Mode::Protected32 => 0x00cf_9b00_0000_ffff,
            Mode::Long64 { .. } => 0x00af_9b00_0000_ffff,
        };
        let table = [0, 0, code, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_ffff];
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        place::write(ram, Self::GDT, &bytes)
    }
}

/// Writes page tables that map the first 4 GiB one to one with 2 MiB pages; where the top-level table lies.
pub(super) fn write_identity_map(ram: &Ram) -> Result<Gpa, Error> {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE: u64 = 0x80;
    let directories = place::PAGE_TABLES.0 + 0x2000;
    let pointers = (0..4).map(|i| (directories + i * 0x1000) | PRESENT_WRITABLE);
    let pages = (0..4 * 512).map(|i| (i << 21) | PRESENT_WRITABLE | LARGE);
    let top = [(place::PAGE_TABLES.0 + 0x1000) | PRESENT_WRITABLE];
    write_table(ram, place::PAGE_TABLES.0, top.into_iter())?;
    write_table(ram, place::PAGE_TABLES.0 + 0x1000, pointers)?;
    write_table(ram, directories, pages)?;
    Ok(place::PAGE_TABLES)
}

fn write_table(ram: &Ram, at: u64, entries: impl Iterator<Item = u64>) -> Result<(), Error> {
    let mut bytes: Vec<u8> = entries.flat_map(u64::to_le_bytes).collect();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    ram.write_slice(&bytes, GuestAddress(at))
        .map_err(|_| place::no_room("the boot page tables"))
}
