// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the unit remembers of the tables in memory (Caching Translation Information): context entries by source, PASID
//! entries by source and PASID, pages and tables by domain, PASID and address, interrupt entries by index.
//!
//! Only outcomes that allow a request are kept: faults and entries that are not present never are, although caching mode
//! would permit it. Each cache is bounded and drops exactly what an invalidation names.

pub(crate) mod binding;
pub(crate) mod context;
pub(crate) mod interrupt;
pub(crate) mod iotlb;
mod lines;
pub(crate) mod scalable_context;

pub(crate) use lines::Stamp;

#[cfg(test)]
mod tests;
