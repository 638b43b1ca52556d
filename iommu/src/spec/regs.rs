// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The registers of the unit, one file each. Offsets are bytes from the register base.

mod cap;
mod ecap;

pub use cap::Cap;
pub use ecap::Ecap;
