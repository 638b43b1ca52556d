// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel knows of the IOAPIC: for which vectors it must report the end of the interrupt.
//!
//! The IOAPIC's messages do not travel by these routes. With a split interrupt controller the kernel looks in the routes of
//! the IOAPIC's pins for level-triggered vectors and leaves to userspace (KVM_EXIT_IOAPIC_EOI) when one of those ends. So a
//! pin needs a route only while its remapped message is level-triggered; Linux behind interrupt remapping has none, because
//! its table entries say edge and it ends interrupts at the IOAPIC itself.

use super::table::RouteTable;
use super::{Remap, Route};
use crate::board::EoiSink;
use iommu::ids::SourceId;
use iommu::msi::MsiMessage;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Data bit 15: the message is level-triggered.
const LEVEL: u32 = 1 << 15;

/// The pins of an IOAPIC.
pub trait Pins: fmt::Debug + Send + Sync {
    /// The message of each pin that is level-triggered and not masked, not remapped yet.
    fn level_messages(&self) -> Vec<(u32, MsiMessage)>;

    /// A processor finished the interrupt of `pin`, which is sent again if the line is still asserted.
    fn end_of_interrupt(&self, pin: u32);
}

/// Keeps the kernel's routes equal to the IOAPIC's pins.
#[derive(Debug)]
pub struct IoapicRoutes {
    pins: Arc<dyn Pins>,
    source: SourceId,
    remap: Arc<dyn Remap>,
    table: Arc<RouteTable>,
    current: Mutex<Vec<Route>>,
}

impl IoapicRoutes {
    /// Routes of `pins` in `table`, remapped as messages of `source`. There are none yet.
    #[must_use]
    pub fn new(
        pins: Arc<dyn Pins>,
        source: SourceId,
        remap: Arc<dyn Remap>,
        table: Arc<RouteTable>,
    ) -> Arc<Self> {
        Arc::new(Self {
            pins,
            source,
            remap,
            table,
            current: Mutex::new(Vec::new()),
        })
    }

    /// Looks at the pins and at their remapping again; call it after either changed.
    pub fn refresh(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.wanted();
        if *current == wanted {
            return;
        }
        let old = current.iter().map(|route| (route.gsi, None));
        let new = wanted.iter().map(|route| (route.gsi, Some(route.message)));
        match self.table.change(old.chain(new)) {
            Ok(()) => *current = wanted,
            Err(error) => tracing::error!("the host refused the IOAPIC's routes: {error}"),
        }
    }

    fn wanted(&self) -> Vec<Route> {
        let messages = self.pins.level_messages().into_iter();
        messages
            .filter_map(|(gsi, message)| {
                let message = self.remap.preview(self.source, message)?;
                (message.data & LEVEL != 0).then_some(Route { gsi, message })
            })
            .collect()
    }
}

impl EoiSink for IoapicRoutes {
    fn eoi(&self, vector: u8) {
        // The vector is the remapped one. Several pins may share it.
        let pins: Vec<u32> = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|route| route.message.data.to_le_bytes()[0] == vector)
            .map(|route| route.gsi)
            .collect();
        for pin in pins {
            self.pins.end_of_interrupt(pin);
        }
    }
}
