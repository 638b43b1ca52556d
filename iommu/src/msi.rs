// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Message-signalled interrupts on their way from a device to a processor.

use crate::ids::Requester;
use std::fmt;

/// A memory write that is an interrupt: what stands in an MSI capability or an MSI-X table entry, or, behind the unit, what
/// the interrupt controller is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MsiMessage {
    /// Address, 64 bits. After remapping with 32-bit destinations, bits 63:40 hold destination bits 31:8.
    pub address: u64,
    /// Data.
    pub data: u32,
}

/// Where the messages of devices go: through interrupt remapping to the processors.
pub trait MsiSender: fmt::Debug + Send + Sync {
    /// Sends `message` as `requester`. A message of a requester that is not a bus master, or that remapping blocks, is
    /// dropped; the unit has then recorded the fault.
    fn send(&self, requester: &Requester, message: MsiMessage);
}

/// Where messages go that are not remapped any more (or never are: the unit's own events).
pub trait MsiSink: fmt::Debug + Send + Sync {
    /// Delivers `message` to the processors it addresses.
    fn deliver(&self, message: MsiMessage);
}
