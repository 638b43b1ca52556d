// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Names of vendors and devices from the host's `pci.ids`, where it has one.
//!
//! A vendor's line begins with four hexadecimal digits; its devices follow, indented by one tab; theirs, by two.

use crate::host_files::HostFiles;

const PLACES: [&str; 3] = [
    "usr/share/hwdata/pci.ids",
    "usr/share/misc/pci.ids",
    "var/lib/pciutils/pci.ids",
];

/// The text of `pci.ids`; empty where there is none.
#[derive(Debug)]
pub(super) struct PciIds(String);

impl PciIds {
    pub(super) fn load(files: &HostFiles) -> Self {
        let text = PLACES.iter().find_map(|place| files.text(place));
        Self(text.unwrap_or_default())
    }

    /// Vendor and device, or the vendor alone where only that is known.
    pub(super) fn name(&self, vendor: u16, device: u16) -> Option<String> {
        let (vendor, device) = (format!("{vendor:04x}  "), format!("\t{device:04x}  "));
        let mut lines = self.0.lines();
        let vendor = lines.find_map(|line| line.strip_prefix(&vendor))?;
        let mut devices = lines.take_while(|line| line.starts_with(['\t', '#']) || line.is_empty());
        let device = devices.find_map(|line| line.strip_prefix(&device));
        Some(device.map_or_else(|| vendor.to_owned(), |device| format!("{vendor} {device}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_found_under_its_own_vendor_only() {
        let text = "# comment\n1b36  Red Hat, Inc.\n\t0001  QEMU bridge\n\t\t1af4 1100  Virtual\n\t0010  QEMU NVMe\n\
                    8086  Intel Corporation\n\t0011  A thing\n";
        let ids = PciIds(text.to_owned());
        assert_eq!(
            ids.name(0x1b36, 0x0010).as_deref(),
            Some("Red Hat, Inc. QEMU NVMe")
        );
        assert_eq!(ids.name(0x1b36, 0x0011).as_deref(), Some("Red Hat, Inc."));
        assert_eq!(
            ids.name(0x8086, 0x0011).as_deref(),
            Some("Intel Corporation A thing")
        );
        assert_eq!(ids.name(0x1af4, 0x1100), None);
    }
}
