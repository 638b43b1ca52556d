// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that come and go while the guest runs. No processor has to stop for it.

use super::{PciError, PciRoot};
use crate::pci::PciFunction;
use crate::pci::root_port::RootPort;
use std::sync::Arc;

impl PciRoot {
    /// Puts `device` into the slot of `port`, one of this root, and tells the guest: presence is detected and the attention button
    /// pressed. (An operating system that knows of the button listens to nothing else.) Its interrupt pin must be
    /// connected.
    ///
    /// # Errors
    /// The port has no hotplug slot, or there is something in it.
    pub fn plug(&self, port: &RootPort, device: Arc<dyn PciFunction>) -> Result<(), PciError> {
        port.attach(device)?;
        // Before anybody looks for it.
        self.refresh();
        port.detect_presence();
        port.press_attention_button();
        Ok(())
    }

    /// Takes what is below `port` off the bus, whatever the guest does with it, and tells the guest. When this returns,
    /// the functions may not send (what they began to send may still be under way), nobody is at work with them, and whoever looks
    /// for them finds nothing. To be [reset](PciFunction::reset), which ends their DMA, and dropped.
    #[must_use]
    pub fn unplug(&self, port: &RootPort) -> Vec<Arc<dyn PciFunction>> {
        let gates = port.detach();
        self.refresh();
        let functions = gates.iter().filter_map(|gate| gate.take()).collect();
        port.detect_presence();
        functions
    }
}

#[cfg(test)]
mod tests;
