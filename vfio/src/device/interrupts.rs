// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The interrupts of a passed-through function: what the guest's driver programmed, carried out on the host.
//!
//! Each vector has a route of the machine's, with an event that the host's kernel signals. A masked vector's route delivers
//! nothing and its event keeps the signal, which is then pending. MSI-X vectors are armed on the host when the guest first
//! unmasks them, because the host's vectors are few; where the kernel cannot add any later, all are armed at once.
//!
//! The caller serialises calls. Nothing of the guest's lock order is taken here but what a route does.

use super::config::Interrupts;
use super::port::{IrqKind, Port};
use crate::uapi::Errno;
use devices::pci::msix::MsixTable;
use iommu::ids::Requester;
use iommu::msi::MsiMessage;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// One vector's way to the guest.
pub trait VectorRoute: fmt::Debug + Send + Sync {
    /// The event that the host's kernel signals.
    fn event(&self) -> BorrowedFd<'_>;

    /// What a signal delivers from now on, through interrupt remapping; `None` lets signals wait. One that waits is
    /// delivered by the next message that is set.
    ///
    /// # Errors
    /// The machine has no route left.
    fn set(&self, message: Option<MsiMessage>) -> io::Result<()>;

    /// Whether a signal waits.
    fn is_pending(&self) -> bool;
}

/// The machine, which makes routes.
pub trait InterruptRoutes: fmt::Debug + Send + Sync {
    /// A route for messages of `requester`, which delivers nothing yet.
    ///
    /// # Errors
    /// The machine has none left.
    fn route(&self, requester: &Arc<Requester>) -> io::Result<Box<dyn VectorRoute>>;
}

/// Interrupts that the guest asked for and does not get.
#[derive(Debug, thiserror::Error)]
pub enum InterruptError {
    /// VFIO refuses.
    #[error("VFIO_DEVICE_SET_IRQS for {kind:?} failed: {source}")]
    Host {
        /// The kind.
        kind: IrqKind,
        /// Why.
        source: Errno,
    },
    /// The machine refuses.
    #[error("no interrupt route: {0}")]
    Route(#[from] io::Error),
}

/// What is carried out now.
#[derive(Debug)]
pub struct HostInterrupts {
    requester: Arc<Requester>,
    machine: Arc<dyn InterruptRoutes>,
    can_add_vectors: bool,
    /// The event of the pin, where the guest has one.
    pin: Option<Arc<OwnedFd>>,
    /// Which is enabled on the host.
    kind: Option<IrqKind>,
    /// By vector; `None` for one that is not armed.
    vectors: Vec<Option<Vector>>,
}

/// An armed vector.
#[derive(Debug)]
struct Vector {
    route: Box<dyn VectorRoute>,
    /// What the route was last told, so that a guest's write to one vector costs no calls for the others.
    message: Option<MsiMessage>,
}

impl Vector {
    fn set(&mut self, message: Option<MsiMessage>) -> io::Result<()> {
        if self.message != message {
            self.route.set(message)?;
            self.message = message;
        }
        Ok(())
    }
}

impl HostInterrupts {
    /// Nothing is enabled.
    #[must_use]
    pub const fn new(
        requester: Arc<Requester>,
        machine: Arc<dyn InterruptRoutes>,
        can_add_vectors: bool,
    ) -> Self {
        Self {
            requester,
            machine,
            can_add_vectors,
            pin: None,
            kind: None,
            vectors: Vec::new(),
        }
    }

    /// The pin signals `event` from the next [`Self::apply`] on, wherever neither MSI nor MSI-X is used.
    pub fn connect_pin(&mut self, event: Arc<OwnedFd>) {
        self.pin = Some(event);
    }

    /// Brings the host to what `wanted` says.
    ///
    /// # Errors
    /// The host or the machine refuses; what was enabled before is then off.
    pub fn apply(
        &mut self,
        port: &dyn Port,
        wanted: &Interrupts,
        table: Option<&MsixTable>,
    ) -> Result<(), InterruptError> {
        let result = match (wanted, table) {
            (Interrupts::Msi(messages), _) => self.msi(port, messages),
            (Interrupts::Msix(all_masked), Some(table)) => self.msix(port, table, *all_masked),
            _ => self.intx(port),
        };
        if result.is_err() {
            // The first error is the one to tell.
            drop(self.disable(port));
        }
        result
    }

    /// Switches off whatever is enabled.
    ///
    /// # Errors
    /// The host refuses; nothing is delivered all the same.
    pub fn disable(&mut self, port: &dyn Port) -> Result<(), InterruptError> {
        self.vectors.clear();
        match self.kind.take() {
            Some(kind) => port
                .disarm(kind)
                .map_err(|source| InterruptError::Host { kind, source }),
            None => Ok(()),
        }
    }

    /// Whether a signal of `vector` waits to be unmasked.
    #[must_use]
    pub fn is_pending(&self, vector: u16) -> bool {
        let vector = self
            .vectors
            .get(usize::from(vector))
            .and_then(Option::as_ref);
        vector.is_some_and(|vector| vector.route.is_pending())
    }

    /// The pin, unless it is armed already. That the guest disabled it is the host's kernel's to know.
    fn intx(&mut self, port: &dyn Port) -> Result<(), InterruptError> {
        let Some(event) = self.pin.clone() else {
            return self.disable(port);
        };
        if self.kind == Some(IrqKind::Intx) {
            return Ok(());
        }
        self.disable(port)?;
        let kind = IrqKind::Intx;
        self.kind = Some(kind);
        port.arm(kind, 0, &[Some(event.as_fd())])
            .map_err(|source| InterruptError::Host { kind, source })
    }

    /// The number of vectors that MSI has cannot change while it is enabled.
    fn msi(
        &mut self,
        port: &dyn Port,
        messages: &[Option<MsiMessage>],
    ) -> Result<(), InterruptError> {
        if self.kind != Some(IrqKind::Msi) || self.vectors.len() != messages.len() {
            self.disable(port)?;
            let vectors = messages.iter().map(|_| self.vector().map(Some));
            self.vectors = vectors.collect::<io::Result<_>>()?;
            self.arm(port, IrqKind::Msi, 0, messages.len())?;
        }
        self.set(|vector| messages.get(usize::from(vector)).copied().flatten())
    }

    fn msix(
        &mut self,
        port: &dyn Port,
        table: &MsixTable,
        all_masked: bool,
    ) -> Result<(), InterruptError> {
        let message = |vector| (!all_masked).then(|| table.message(vector)).flatten();
        let count = usize::from(table.vectors());
        if self.kind != Some(IrqKind::Msix) {
            self.disable(port)?;
            self.vectors.resize_with(count, || None);
            if self.can_add_vectors {
                // One vector without an event: the device is told to use MSI-X and not its pin.
                self.arm(port, IrqKind::Msix, 0, 1)?;
            } else {
                for vector in 0..count {
                    self.vectors[vector] = Some(self.vector()?);
                }
                self.arm(port, IrqKind::Msix, 0, count)?;
            }
        }
        for vector in 0..table.vectors() {
            let index = usize::from(vector);
            if message(vector).is_some() && self.vectors[index].is_none() {
                self.vectors[index] = Some(self.vector()?);
                self.arm(port, IrqKind::Msix, index, 1)?;
            }
        }
        self.set(message)
    }

    fn vector(&self) -> io::Result<Vector> {
        Ok(Vector {
            route: self.machine.route(&self.requester)?,
            message: None,
        })
    }

    fn arm(
        &mut self,
        port: &dyn Port,
        kind: IrqKind,
        first: usize,
        count: usize,
    ) -> Result<(), InterruptError> {
        let events: Vec<_> = self.vectors[first..first + count]
            .iter()
            .map(|vector| vector.as_ref().map(|vector| vector.route.event()))
            .collect();
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        // From here on the host may have it enabled, even if it reports an error.
        self.kind = Some(kind);
        port.arm(kind, first, &events)
            .map_err(|source| InterruptError::Host { kind, source })
    }

    fn set(&mut self, message: impl Fn(u16) -> Option<MsiMessage>) -> Result<(), InterruptError> {
        for (number, vector) in (0..).zip(&mut self.vectors) {
            if let Some(vector) = vector {
                vector.set(message(number))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
