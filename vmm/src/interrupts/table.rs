// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel's routes, which can only be replaced all at once (KVM_SET_GSI_ROUTING): the IOAPIC's pins have the global system
//! interrupts that the split interrupt controller keeps for them, vectors of passed-through devices those above.
//!
//! Lock rule: one lock over the routes and the kernel's call, the last of the routes' locks. The kernel replaces the table in
//! one go, and when it returns no interrupt is delivered by the old one any more.

use super::{LocalApics, Route};
use iommu::msi::MsiMessage;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Global system interrupts that KVM has routes for (`KVM_MAX_IRQ_ROUTES`).
pub const MOST_ROUTES: u32 = 4096;

/// The table.
#[derive(Debug)]
pub struct RouteTable {
    apics: Arc<dyn LocalApics>,
    routes: Mutex<BTreeMap<u32, MsiMessage>>,
}

impl RouteTable {
    /// A table of `apics`, who have no routes yet.
    #[must_use]
    pub fn new(apics: Arc<dyn LocalApics>) -> Arc<Self> {
        Arc::new(Self {
            apics,
            routes: Mutex::default(),
        })
    }

    /// The kernel behind the table.
    #[must_use]
    pub fn apics(&self) -> &Arc<dyn LocalApics> {
        &self.apics
    }

    /// Gives each interrupt of `changes` its message, remapped, or takes its route away. The kernel is told once, and only if
    /// something is different, since it makes every processor look at its vectors again.
    ///
    /// # Errors
    /// The kernel refused; all routes are as before.
    pub fn change(
        &self,
        changes: impl IntoIterator<Item = (u32, Option<MsiMessage>)>,
    ) -> io::Result<()> {
        let mut routes = self.lock();
        let mut wanted = routes.clone();
        for (gsi, message) in changes {
            match message {
                Some(message) => wanted.insert(gsi, message),
                None => wanted.remove(&gsi),
            };
        }
        if *routes == wanted {
            return Ok(());
        }
        let list: Vec<Route> = wanted
            .iter()
            .map(|(&gsi, &message)| Route { gsi, message })
            .collect();
        self.apics.set_routes(&list)?;
        *routes = wanted;
        Ok(())
    }

    /// Nobody raises `gsi` any more: its route goes with the next change.
    pub fn forget(&self, gsi: u32) {
        self.lock().remove(&gsi);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, MsiMessage>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
