// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every scenario, in the order of `run --all`: first the lab itself, on which the others stand.

use crate::scenario::Scenario;

mod boot;
mod boot_smp;
mod boot_stock;
mod dma_blk;
mod dma_net;
mod edu_fault;
mod intremap;
mod lab_qemu_l2;
mod lab_self;
mod share;

/// All scenarios.
pub const ALL: &[&Scenario] = &[
    &lab_self::SCENARIO,
    &lab_qemu_l2::SCENARIO,
    &boot::BZIMAGE,
    &boot::PVH,
    &boot_stock::SCENARIO,
    &boot_smp::SCENARIO,
    &dma_blk::SCENARIO,
    &dma_net::SCENARIO,
    &share::SCENARIO,
    &intremap::SCENARIO,
    &edu_fault::SCENARIO,
];
