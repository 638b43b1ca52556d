// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupt lines: wires with a level, as opposed to messages.

use std::fmt;

/// One input of an interrupt controller, or one source of a shared line. Level is what counts; an edge is a change of it.
pub trait IrqLine: fmt::Debug + Send + Sync {
    /// Drives the line: `true` is asserted, whatever the electrical polarity.
    fn set_level(&self, asserted: bool);
}
