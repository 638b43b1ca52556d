// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory of passed-through devices as a target of DMA: whatever part of a BAR the guest has as memory, the mirror is told
//! of, after it has come and before it goes.
//!
//! Lock rule: a function's lock is held by whoever calls; the list's comes after that, and the mirror's and those of memory
//! slots after it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use vfio::device::direct::{Direct, MemorySlots};
use vfio::mirror::Mirror;
use vfio::ram::RamRegion;

use ::iommu::address::Gpa;

/// The machine's memory slots, of which the mirror hears.
#[derive(Debug)]
pub struct Targets {
    slots: Arc<dyn MemorySlots>,
    mirror: Mirror,
    regions: Mutex<Vec<RamRegion>>,
}

impl Targets {
    /// Nothing is in `slots` yet.
    pub fn new(slots: Arc<dyn MemorySlots>, mirror: Mirror) -> Self {
        Self {
            slots,
            mirror,
            regions: Mutex::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<RamRegion>)) {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = regions.clone();
        change(&mut changed);
        match self.mirror.set_device_memory(changed.clone()) {
            Ok(()) => *regions = changed,
            Err(error) => tracing::warn!("memory of a device is no target of DMA: {error}"),
        }
    }
}

fn region(gpa: Gpa, direct: &Direct) -> RamRegion {
    let part = direct.part();
    RamRegion {
        gpa,
        len: part.end - part.start,
        host: direct.host(),
    }
}

impl MemorySlots for Targets {
    fn map(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        self.slots.map(gpa, direct)?;
        self.change(|regions| regions.push(region(gpa, direct)));
        Ok(())
    }

    fn unmap(&self, gpa: Gpa, direct: &Direct) -> io::Result<()> {
        let gone = region(gpa, direct);
        self.change(|regions| regions.retain(|region| *region != gone));
        self.slots.unmap(gpa, direct)
    }
}
