// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupts on their way to the processors.
//!
//! A message of a device or of the IOAPIC is remapped by the unit with the id of who sent it ([`RemappedMessages`]) and then
//! given to the local APICs ([`Processors`]), which also take the unit's own events, as nothing remaps those. The kernel
//! holds the local APICs and nothing else; [`IoapicRoutes`] tells it which vectors it must report the end of, and
//! [`VectorRoutes`] what the events of passed-through devices become. Both stand in one [`RouteTable`].
//!
//! Lock order: routes (pins or vectors, then the table), then IOAPIC, then the unit. Whoever refreshes routes holds none of
//! them, and a message is sent without any of them, except for a vector's, which is sent under the vectors' lock.

mod kvm;
mod routes;
mod table;
mod vectors;

pub use routes::{IoapicRoutes, Pins};
pub use table::RouteTable;
pub use vectors::VectorRoutes;

use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender, MsiSink};
use iommu::unit::Unit;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vmm_sys_util::eventfd::EventFd;

/// Addresses of interrupt messages begin with this (bits 31:20); those above 4 GiB are none.
const INTERRUPT_RANGE: u64 = 0xfee;

/// Whether a write of this is an interrupt.
const fn is_interrupt(message: MsiMessage) -> bool {
    message.address >> 20 == INTERRUPT_RANGE
}

/// What the kernel does with interrupts.
pub trait LocalApics: fmt::Debug + Send + Sync {
    /// Gives the local APICs a message at once (KVM_SIGNAL_MSI).
    ///
    /// # Errors
    /// The kernel finds it malformed.
    fn signal(&self, message: MsiMessage) -> io::Result<()>;

    /// Replaces all routes (KVM_SET_GSI_ROUTING).
    ///
    /// # Errors
    /// The kernel refused.
    fn set_routes(&self, routes: &[Route]) -> io::Result<()>;

    /// Each signal of `event` is delivered by the route of `gsi` from now on (KVM_IRQFD), one that waits in it first.
    ///
    /// # Errors
    /// The kernel refused.
    fn attach(&self, event: &EventFd, gsi: u32) -> io::Result<()>;

    /// Signals of `event` are delivered no longer, and wait in it; when it returns, nothing is on its way.
    ///
    /// # Errors
    /// The event is not attached to `gsi`.
    fn detach(&self, event: &EventFd, gsi: u32) -> io::Result<()>;
}

/// One route of the kernel: what the global system interrupt `gsi` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interrupt.
    pub gsi: u32,
    /// Its message, remapped.
    pub message: MsiMessage,
}

/// Remaps interrupts.
pub trait Remap: fmt::Debug + Send + Sync {
    /// Remaps a message and delivers it to `processors`; one that is blocked is recorded and dropped.
    fn remap_to(&self, source: SourceId, message: MsiMessage, processors: &dyn MsiSink);

    /// What [`Self::remap_to`] would deliver, leaving no trace.
    fn preview(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage>;
}

impl Remap for Unit {
    fn remap_to(&self, source: SourceId, message: MsiMessage, processors: &dyn MsiSink) {
        Unit::remap_to(self, source, message, processors);
    }

    fn preview(&self, source: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        self.peek_remap(source, message)
    }
}

/// A machine without remapping: messages pass, whatever else is written there does not.
#[derive(Clone, Copy, Debug)]
pub struct NoRemap;

impl Remap for NoRemap {
    fn remap_to(&self, _: SourceId, message: MsiMessage, processors: &dyn MsiSink) {
        processors.deliver(message);
    }

    fn preview(&self, _: SourceId, message: MsiMessage) -> Option<MsiMessage> {
        Some(message)
    }
}

/// The processors' end: what arrives here is delivered as it is.
#[derive(Debug)]
pub struct Processors {
    apics: Arc<dyn LocalApics>,
    malformed: AtomicU64,
}

impl Processors {
    /// The processors behind `apics`.
    #[must_use]
    pub fn new(apics: Arc<dyn LocalApics>) -> Arc<Self> {
        Arc::new(Self {
            apics,
            malformed: AtomicU64::new(0),
        })
    }
}

impl MsiSink for Processors {
    fn deliver(&self, message: MsiMessage) {
        if let Err(error) = self.apics.signal(message) {
            // The guest made the message, so it is the guest's mistake; powers of two keep it from filling the log.
            let count = self.malformed.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(
                    "interrupt message {:#x} at {:#x} not delivered ({count} so far): {error}",
                    message.data,
                    message.address
                );
            }
        }
    }
}

/// The devices' end: remaps and delivers.
#[derive(Debug)]
pub struct RemappedMessages {
    remap: Arc<dyn Remap>,
    processors: Arc<dyn MsiSink>,
}

impl RemappedMessages {
    /// Messages that pass `remap` on their way to `processors`.
    #[must_use]
    pub fn new(remap: Arc<dyn Remap>, processors: Arc<dyn MsiSink>) -> Arc<Self> {
        Arc::new(Self { remap, processors })
    }
}

impl MsiSender for RemappedMessages {
    fn send(&self, requester: &Requester, message: MsiMessage) {
        if !requester.is_bus_master() {
            return;
        }
        // A device writes its message like any other data. Outside the interrupt range it would be DMA, which a guest that
        // programs such an address does not get: no guest wants it, and it would have to go through the device's DMA space.
        if !is_interrupt(message) {
            return;
        }
        let source = requester.source();
        self.remap.remap_to(source, message, &*self.processors);
    }
}

#[cfg(test)]
mod tests;
