// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `edu` test device.

use super::iommu::Units;
use super::pci::PciBus;
use crate::config::Config;
use crate::error::Error;
use devices::edu::{DEFAULT_DMA_MASK, Edu};
use iommu::ids::Requester;
use std::sync::Arc;

/// Adds the device if the configuration asks for it.
///
/// # Errors
/// The host has no thread for it, or the root bus is full.
pub fn add(config: &Config, units: &Units, bus: &mut PciBus) -> Result<(), Error> {
    if !config.edu {
        return Ok(());
    }
    let translation = units.root();
    let space = translation.dma_space(&Arc::new(Requester::default()));
    let edu = Edu::new(space, translation.messages(), DEFAULT_DMA_MASK)
        .map_err(|e| Error::host("start a thread for edu", e))?;
    bus.add("edu", None, edu).map(|_| ())
}
