// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A minimal driver of one VT-d unit: what the checks need, written from the specification and independent of the unit's code.

pub mod faults;
pub mod irte;
pub mod legacy;
pub mod page_queue;
pub mod paging;
pub mod queue;
pub mod scalable;
pub mod unit;
pub mod wide_queue;
