// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scalable mode, with `edu` (requests without PASID) and `dmatest` (all kinds of requests) as the devices.
//!
//! What the unit does not offer is skipped by name, so that the same checks run on units of different stages and widths.

mod ats;
pub mod bench;
mod descriptor_errors;
mod descriptors;
mod device_tlb;
mod directories;
mod event_destinations;
mod first_stage;
mod first_stage_rights;
mod invalidation;
mod lookup;
mod modes;
mod nested;
mod page_requests;
mod pasid_cache;
mod pass_through;
mod posted;
mod registers;
mod rid_pasid;
mod second_stage;

use super::Machine;
use crate::check::Checks;

/// A row of the groups.
type Row = (&'static str, fn(&Machine, Checks));

/// The groups in the order in which they run. The first sees reset values.
pub const GROUPS: &[Row] = &[
    ("sm-registers", registers::run),
    ("sm-descriptors", descriptors::run),
    ("sm-descriptor-errors", descriptor_errors::run),
    ("sm-lookup", lookup::run),
    ("sm-directories", directories::run),
    ("sm-rid-pasid", rid_pasid::run),
    ("sm-first-stage", first_stage::run),
    ("sm-first-stage-rights", first_stage_rights::run),
    ("sm-second-stage", second_stage::run),
    ("sm-nested", nested::run),
    ("sm-pass-through", pass_through::run),
    ("sm-pasid-cache", pasid_cache::run),
    ("sm-invalidation", invalidation::run),
    ("sm-ats", ats::run),
    ("sm-device-tlb", device_tlb::run),
    ("sm-page-requests", page_requests::run),
    ("sm-event-destinations", event_destinations::run),
    ("sm-modes", modes::run),
    ("sm-posted", posted::run),
];
