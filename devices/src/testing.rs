// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Fakes that record what a device under test does to the outside.

use crate::irq::IrqLine;
use iommu::ids::{Requester, SourceId};
use iommu::msi::{MsiMessage, MsiSender};
use std::sync::Mutex;

/// A line that remembers every level it was set to.
#[derive(Debug, Default)]
pub(crate) struct RecordingLine(Mutex<Vec<bool>>);

impl RecordingLine {
    /// The levels so far, oldest first.
    pub(crate) fn levels(&self) -> Vec<bool> {
        self.0.lock().unwrap().clone()
    }
}

impl IrqLine for RecordingLine {
    fn set_level(&self, asserted: bool) {
        self.0.lock().unwrap().push(asserted);
    }
}

/// A sender that remembers the messages of bus masters and drops the others, as the machine's does.
#[derive(Debug, Default)]
pub(crate) struct RecordingSender(Mutex<Vec<(SourceId, MsiMessage)>>);

impl RecordingSender {
    /// Takes the messages so far out: source id, address, data.
    pub(crate) fn take(&self) -> Vec<(u16, u64, u32)> {
        std::mem::take(&mut *self.0.lock().unwrap())
            .into_iter()
            .map(|(source, message)| (source.0, message.address, message.data))
            .collect()
    }
}

impl MsiSender for RecordingSender {
    fn send(&self, requester: &Requester, message: MsiMessage) {
        if requester.is_bus_master() {
            self.0.lock().unwrap().push((requester.source(), message));
        }
    }
}
