// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `dmatest` as a device of the host that is passed through: what the guest binds to its PASIDs is bound by the host, in a unit
//! that this guest never sees. So nothing is recorded here of requests that are blocked there; the device's answer tells.
//!
//! At each line `HOLD: NAME.` whoever watches looks at what the host was asked to do, and presses a key.

pub mod arrival;
pub mod domains;
pub mod global;
pub mod rebind;
pub mod replay;
mod slot;
mod spaces;
