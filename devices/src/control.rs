// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What devices ask the machine for.

use std::fmt;

/// A request of the guest's that ends or restarts the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineRequest {
    /// Switch off.
    PowerOff,
    /// Start again.
    Reset,
    /// End the run with this value, which the guest wrote to the debug exit port.
    DebugExit(u32),
    /// The guest says that its kernel panicked.
    GuestPanicked,
}

/// The machine, as far as its devices know it.
pub trait MachineControl: fmt::Debug + Send + Sync {
    /// Takes note of the request and returns at once; the machine acts on it later. Called on the vCPU that made the access.
    fn request(&self, what: MachineRequest);
}
