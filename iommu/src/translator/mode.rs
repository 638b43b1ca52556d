// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What software latched: where the tables are and how they are to be read.

use crate::address::{Gpa, PAGE_SIZE};
use crate::capabilities::Capabilities;
use crate::spec::regs::{InterruptTableAddress, RootTableAddress};
use bitfield_struct::bitfield;

/// How the root table is to be read (RTADDR.TTM).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableMode {
    /// Legacy mode.
    #[default]
    Legacy,
    /// Scalable mode.
    Scalable,
    /// A reserved value.
    Reserved,
    /// Every request is aborted.
    Abort,
}

/// Where the root table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootPointer {
    /// The table, 4 KiB aligned.
    pub table: Gpa,
    /// How it is to be read.
    pub mode: TableMode,
}

impl RootPointer {
    /// What SRTP takes from RTADDR.
    #[must_use]
    pub const fn taken_from(address: RootTableAddress) -> Self {
        Self {
            table: vm_memory::GuestAddress(address.page() * PAGE_SIZE),
            mode: match address.ttm() {
                0 => TableMode::Legacy,
                1 => TableMode::Scalable,
                2 => TableMode::Reserved,
                _ => TableMode::Abort,
            },
        }
    }

    /// What RTADDR held.
    #[must_use]
    pub const fn address(self) -> RootTableAddress {
        let ttm = match self.mode {
            TableMode::Legacy => 0,
            TableMode::Scalable => 1,
            TableMode::Reserved => 2,
            TableMode::Abort => 3,
        };
        RootTableAddress::new()
            .with_page(self.table.0 / PAGE_SIZE)
            .with_ttm(ttm)
    }
}

/// Where the interrupt remapping table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptTable {
    /// The table, 4 KiB aligned.
    pub table: Gpa,
    /// Number of entries, 2 to 65536.
    pub entries: u32,
    /// Destinations are 32-bit APIC ids (EIME).
    pub extended: bool,
}

impl InterruptTable {
    /// What SIRTP takes from IRTA.
    #[must_use]
    pub const fn taken_from(address: InterruptTableAddress, capabilities: &Capabilities) -> Self {
        Self {
            table: vm_memory::GuestAddress(address.page() * PAGE_SIZE),
            entries: 2 << address.s(),
            extended: address.eime() && capabilities.extended_interrupt_mode(),
        }
    }

    /// What IRTA held.
    #[must_use]
    pub fn address(self) -> InterruptTableAddress {
        let size = self.entries.max(2).ilog2() - 1;
        InterruptTableAddress::new()
            .with_page(self.table.0 / PAGE_SIZE)
            .with_eime(self.extended)
            .with_s(u8::try_from(size).unwrap_or(0))
    }
}

/// How interrupts are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptMode {
    /// The table, or `None` when interrupts pass unchanged.
    pub table: Option<InterruptTable>,
    /// Compatibility-format interrupts pass although there is a table (CFIS).
    pub compatibility_allowed: bool,
}

/// A root pointer in one word, so that a request reads it whole without a lock.
#[bitfield(u64)]
pub(super) struct RootWord {
    enabled: bool,
    #[bits(2)]
    mode: u8,
    #[bits(9)]
    __: u16,
    #[bits(52)]
    page: u64,
}

impl RootWord {
    pub(super) fn of(root: Option<RootPointer>) -> Self {
        root.map_or(Self::new(), |root| {
            Self::new()
                .with_enabled(true)
                .with_mode(root.mode as u8)
                .with_page(root.table.0 >> 12)
        })
    }

    pub(super) fn pointer(self) -> Option<RootPointer> {
        Some(RootPointer {
            table: vm_memory::GuestAddress(self.page() << 12),
            mode: self.table_mode()?,
        })
    }

    /// How the table is to be read; `None` while translation is disabled.
    #[inline]
    pub(super) fn table_mode(self) -> Option<TableMode> {
        self.enabled().then(|| match self.mode() {
            0 => TableMode::Legacy,
            1 => TableMode::Scalable,
            2 => TableMode::Reserved,
            _ => TableMode::Abort,
        })
    }
}
