// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The hardware structures of the VT-d specification, one file each: types only, no behaviour.
//!
//! Bit 0 is the least significant bit; every structure in memory is little-endian. A field that holds more values than the
//! specification defines is an integer here, so that an unknown value is a value and never a panic.

#[cfg(test)]
#[macro_use]
mod bits;

pub mod ats_completion;
pub mod context;
pub mod descriptor;
pub mod first_stage;
pub mod interrupt_request;
pub mod irte;
pub mod page_request;
pub mod pasid_directory;
pub mod pasid_entry;
pub mod posted_descriptor;
pub mod regs;
pub mod root;
pub mod scalable_context;
pub mod scalable_root;
pub mod second_stage;
