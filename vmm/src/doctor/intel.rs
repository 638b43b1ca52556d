// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's Intel units can do, by the CAP and ECAP registers that the kernel shows.

use super::host::Host;
use iommu::spec::regs::{Cap, Ecap};

/// A VT-d unit of the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub cap: Cap,
    pub ecap: Ecap,
}

/// The units that show their registers.
pub(super) fn units(host: &Host<'_>) -> Vec<Unit> {
    let names = host.files.names("sys/class/iommu");
    let unit = |name: &String| {
        let register = |register: &str| {
            let path = format!("sys/class/iommu/{name}/intel-iommu/{register}");
            host.files.hex(&path)
        };
        Some(Unit {
            cap: Cap::from(register("cap")?),
            ecap: Ecap::from(register("ecap")?),
        })
    };
    names.iter().filter_map(unit).collect()
}

impl Unit {
    /// The widest second-stage address in bits.
    pub(super) fn width(&self) -> u32 {
        let widths = [(1, 39), (2, 48), (3, 57)];
        let widest = widths
            .iter()
            .rev()
            .find(|(bit, _)| self.cap.sagaw() >> bit & 1 == 1);
        widest.map_or(0, |(_, width)| *width)
    }

    /// The largest second-stage page.
    pub(super) fn largest_page(&self) -> &'static str {
        match self.cap.sslps() {
            pages if pages & 2 != 0 => "1 GiB",
            pages if pages & 1 != 0 => "2 MiB",
            _ => "4 KiB",
        }
    }

    /// Whether guests' first-stage tables can be used as they are, over second-stage ones.
    pub(super) fn nests(&self) -> bool {
        self.ecap.smts() && self.ecap.nest()
    }

    /// Width of PASIDs in bits; 0 for none.
    pub(super) fn pasid_bits(&self) -> u32 {
        if self.ecap.smts() && self.ecap.pasid() {
            u32::from(self.ecap.pss()) + 1
        } else {
            0
        }
    }
}
