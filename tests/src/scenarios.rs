// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every scenario, in the order of `run --all`: first the lab itself, on which the others stand.

use crate::scenario::Scenario;

mod lab_qemu_l2;
mod lab_self;

/// All scenarios.
pub const ALL: &[&Scenario] = &[&lab_self::SCENARIO, &lab_qemu_l2::SCENARIO];
