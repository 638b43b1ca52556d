// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mirror between guest tables in memory and a fake host.

mod answers;
mod arrival;
mod budgets;
mod device_memory;
mod dumps;
mod following;
mod guest;
mod limits;
mod news;
mod properties;
mod refusals;
mod reports;
mod rig;
mod sharing;
mod single;
mod slices;
mod unclean;
