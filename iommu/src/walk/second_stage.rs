// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The walk of second-stage tables (Second-Stage Translation), of as many levels as the address width asks for.
//!
//! An entry without any right is not present, which ends the walk before its reserved bits are looked at. Reserved bits are
//! judged while walking, rights are stacked and left to the caller. Not supported: execute rights, accessed and dirty bits.

use super::Page;
use crate::address::{Gpa, Iova};
use crate::capabilities::Capabilities;
use crate::memory::PhysMem;
use crate::request::Perms;
use crate::spec::second_stage::{ENTRY_SIZE, SecondStageEntry};
use vm_memory::GuestAddress;

/// Address bits that one level resolves.
const LEVEL_BITS: u32 = 9;

/// The top of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// The table of the highest level, 4 KiB aligned.
    pub address: Gpa,
    /// How many levels it has: 3, 4 or 5.
    pub levels: u32,
}

/// Why a walk found no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The table of the highest level is no memory.
    TopUnreadable,
    /// A lower table is no memory.
    Unreadable,
    /// A present entry has reserved bits set.
    Reserved,
    /// An entry has no right at all.
    NotPresent,
}

/// A walk's outcome and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// The page, with the rights that all levels share (perhaps none).
    pub page: Result<Page, WalkError>,
    /// Entries read.
    pub reads: u32,
}

/// Walks `table` for `address`, whose bits beyond the table's width are not looked at.
pub fn walk<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    table: Table,
    address: Iova,
) -> Walked {
    let mut reads = 0;
    let page = descend(memory, capabilities, table, address, &mut reads);
    Walked { page, reads }
}

fn descend<M: PhysMem + ?Sized>(
    memory: &M,
    capabilities: &Capabilities,
    top: Table,
    address: Iova,
    reads: &mut u32,
) -> Result<Page, WalkError> {
    let mut table = top.address;
    let mut perms = Perms::READ_WRITE;
    for level in (1..=top.levels).rev() {
        *reads += 1;
        let shift = 12 + LEVEL_BITS * (level - 1);
        let index = address.0 >> shift & ((1 << LEVEL_BITS) - 1);
        let entry = memory
            .load_u64(GuestAddress(table.0 | (index * ENTRY_SIZE)))
            .map_err(|_| {
                if level == top.levels {
                    WalkError::TopUnreadable
                } else {
                    WalkError::Unreadable
                }
            })?;
        let entry = SecondStageEntry::from_bits(entry);
        let rights = Perms {
            read: entry.read(),
            write: entry.write(),
        };
        if !rights.read && !rights.write {
            return Err(WalkError::NotPresent);
        }
        perms = perms.and(rights);
        let leaf = level == 1 || entry.page_size();
        if has_reserved_bits(capabilities, entry, level, leaf) {
            return Err(WalkError::Reserved);
        }
        if leaf {
            return Ok(Page {
                gpa: entry.address(),
                shift,
                perms,
            });
        }
        table = entry.address();
    }
    Err(WalkError::NotPresent)
}

/// Whether a present entry sets a bit that this unit reserves at `level`.
fn has_reserved_bits(
    capabilities: &Capabilities,
    entry: SecondStageEntry,
    level: u32,
    leaf: bool,
) -> bool {
    let unsupported_size = leaf && !capabilities.second_stage_page(level);
    let snoop = entry.snoop() && !(leaf && capabilities.snoop_control());
    let beyond_host = !capabilities.is_host_address(entry.address());
    let misaligned = leaf && entry.page() & ((1 << (LEVEL_BITS * (level - 1))) - 1) != 0;
    entry.reserved() || unsupported_size || snoop || beyond_host || misaligned
}
