// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The translator: what a request means in the guest's tables.

use crate::address::Gpa;
use crate::capabilities::Capabilities;
use crate::dma::DmaSpace;
use crate::fault::{Fault, FaultReason, FaultSubject};
use crate::ids::SourceId;
use crate::invalidation::Invalidation;
use crate::memory::PhysMem;
use crate::msi::MsiMessage;
use crate::request::{Perms, Request, Translation};
use std::sync::{Arc, Mutex, PoisonError};

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

/// How interrupts are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptMode {
    /// The table, or `None` when interrupts pass unchanged.
    pub table: Option<InterruptTable>,
    /// Compatibility-format interrupts pass although there is a table (CFIS).
    pub compatibility_allowed: bool,
}

/// Translates requests and remaps interrupts.
#[derive(Debug)]
pub struct Translator {
    root: Mutex<Option<RootPointer>>,
    interrupts: Mutex<InterruptMode>,
}

impl Translator {
    /// A translator that lets everything through.
    #[must_use]
    pub fn new(_capabilities: Arc<Capabilities>, _memory: Arc<dyn PhysMem>) -> Self {
        Self {
            root: Mutex::new(None),
            interrupts: Mutex::new(InterruptMode::default()),
        }
    }

    /// Enables translation, or disables it with `None`, and drops everything that is cached.
    pub fn set_translation(&self, root: Option<RootPointer>) {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// Sets how interrupts are treated and drops every cached table entry.
    pub fn set_interrupts(&self, mode: InterruptMode) {
        *self
            .interrupts
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Translates one request.
    ///
    /// # Errors
    /// The request is blocked.
    pub fn translate(&self, request: &Request) -> Result<Translation, Fault> {
        let root = *self.root.lock().unwrap_or_else(PoisonError::into_inner);
        if root.is_none() {
            return Ok(Translation {
                gpa: vm_memory::GuestAddress(request.address.0),
                len: u64::MAX - request.address.0,
                perms: Perms::READ_WRITE,
            });
        }
        Err(Fault {
            reason: FaultReason::RootNotPresent,
            subject: FaultSubject::Dma(*request),
            record: true,
        })
    }

    /// Remaps one interrupt.
    ///
    /// # Errors
    /// The interrupt is blocked.
    pub fn remap(&self, source: SourceId, message: MsiMessage) -> Result<MsiMessage, Fault> {
        let mode = *self
            .interrupts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if mode.table.is_none() {
            return Ok(message);
        }
        Err(Fault {
            reason: FaultReason::IrteNotPresent,
            subject: FaultSubject::Interrupt { source, index: 0 },
            record: true,
        })
    }

    /// Drops what `batch` names; returns when no DMA section can still use it.
    pub fn invalidate(&self, _batch: &[Invalidation]) {}

    /// Adds a space whose sections invalidations wait for. Held weakly.
    pub fn register(&self, _space: &Arc<DmaSpace>) {}
}
