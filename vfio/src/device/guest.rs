// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest sees of a function by itself: its configuration space and its MSI-X table.

use super::config::{ConfigError, HostFunction, Place, Services, VirtualConfig};
use super::msix;
use super::regions::Part;
use devices::pci::msix::MsixTable;

/// What the guest sees of a function, before it is on a bus.
#[derive(Debug)]
pub struct Guest {
    pub(super) config: VirtualConfig,
    pub(super) table: Option<MsixTable>,
}

impl Guest {
    /// What a guest sees of `host` at `place`, without ATS, page requests and PASIDs.
    ///
    /// # Errors
    /// The function cannot be shown.
    pub fn new(host: &HostFunction<'_>, place: Place) -> Result<Self, ConfigError> {
        Self::with_services(host, place, &Services::default())
    }

    /// What a guest sees of `host` at `place`, with `services`.
    ///
    /// # Errors
    /// The function cannot be shown.
    pub fn with_services(
        host: &HostFunction<'_>,
        place: Place,
        services: &Services,
    ) -> Result<Self, ConfigError> {
        let config = VirtualConfig::with_services(host, place, services)?;
        let table = config.msix().map(MsixTable::new);
        Ok(Self { config, table })
    }

    /// The bytes of `bar` that must not be the guest's to touch directly.
    #[must_use]
    pub fn trapped(&self, bar: u8) -> Vec<Part> {
        let table = self.table.as_ref();
        table
            .map(|table| msix::trapped(table.place(), bar))
            .unwrap_or_default()
    }
}
