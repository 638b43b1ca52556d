// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Names of PCI classes (PCI Code and ID Assignment Specification, chapter 1). Only a table.

/// Base class and subclass.
const CLASSES: &[(u8, u8, &str)] = &[
    (0x00, 0x00, "Unclassified device"),
    (0x00, 0x01, "VGA-compatible device"),
    (0x01, 0x00, "SCSI controller"),
    (0x01, 0x01, "IDE controller"),
    (0x01, 0x04, "RAID controller"),
    (0x01, 0x05, "ATA controller"),
    (0x01, 0x06, "SATA controller"),
    (0x01, 0x07, "SAS controller"),
    (0x01, 0x08, "NVMe controller"),
    (0x01, 0x09, "UFS controller"),
    (0x01, 0x80, "Storage controller"),
    (0x02, 0x00, "Ethernet controller"),
    (0x02, 0x07, "InfiniBand controller"),
    (0x02, 0x08, "Fabric controller"),
    (0x02, 0x80, "Network controller"),
    (0x03, 0x00, "VGA controller"),
    (0x03, 0x02, "3D controller"),
    (0x03, 0x80, "Display controller"),
    (0x04, 0x00, "Video device"),
    (0x04, 0x01, "Audio controller"),
    (0x04, 0x03, "Audio device"),
    (0x04, 0x80, "Multimedia controller"),
    (0x05, 0x00, "RAM memory"),
    (0x05, 0x01, "Flash memory"),
    (0x05, 0x02, "CXL memory"),
    (0x05, 0x80, "Memory controller"),
    (0x06, 0x00, "Host bridge"),
    (0x06, 0x01, "ISA bridge"),
    (0x06, 0x04, "PCI bridge"),
    (0x06, 0x07, "CardBus bridge"),
    (0x06, 0x09, "Semi-transparent PCI bridge"),
    (0x06, 0x80, "Bridge"),
    (0x07, 0x00, "Serial controller"),
    (0x07, 0x01, "Parallel controller"),
    (0x07, 0x03, "Modem"),
    (0x07, 0x80, "Communication controller"),
    (0x08, 0x00, "Interrupt controller"),
    (0x08, 0x01, "DMA controller"),
    (0x08, 0x02, "Timer"),
    (0x08, 0x03, "Real-time clock"),
    (0x08, 0x05, "SD host controller"),
    (0x08, 0x06, "IOMMU"),
    (0x08, 0x07, "Root complex event collector"),
    (0x08, 0x80, "System peripheral"),
    (0x09, 0x00, "Keyboard controller"),
    (0x09, 0x80, "Input device controller"),
    (0x0a, 0x00, "Docking station"),
    (0x0b, 0x40, "Co-processor"),
    (0x0c, 0x00, "FireWire controller"),
    (0x0c, 0x03, "USB controller"),
    (0x0c, 0x04, "Fibre Channel controller"),
    (0x0c, 0x05, "SMBus"),
    (0x0c, 0x07, "IPMI interface"),
    (0x0c, 0x80, "Serial bus controller"),
    (0x0d, 0x11, "Bluetooth controller"),
    (0x0d, 0x80, "Wireless controller"),
    (0x0e, 0x00, "Intelligent I/O controller"),
    (0x0f, 0x80, "Satellite communication controller"),
    (0x10, 0x00, "Network and computing encryption device"),
    (0x10, 0x80, "Encryption controller"),
    (0x11, 0x01, "Performance counters"),
    (0x11, 0x80, "Signal processing controller"),
    (0x12, 0x00, "Processing accelerator"),
    (0x13, 0x00, "Non-essential instrumentation"),
];

/// Names of base classes, for subclasses that the table lacks.
const BASES: &[&str] = &[
    "Unclassified device",
    "Storage controller",
    "Network controller",
    "Display controller",
    "Multimedia device",
    "Memory controller",
    "Bridge",
    "Communication controller",
    "System peripheral",
    "Input device",
    "Docking station",
    "Processor",
    "Serial bus controller",
    "Wireless controller",
    "Intelligent controller",
    "Satellite communication controller",
    "Encryption controller",
    "Signal processing controller",
    "Processing accelerator",
    "Instrumentation",
];

/// The name of a class: base class << 16 | subclass << 8 | programming interface.
pub(super) fn name(class: u32) -> String {
    let [_, base, sub, _] = class.to_be_bytes();
    let exact = CLASSES.iter().find(|row| (row.0, row.1) == (base, sub));
    let name = exact.map(|row| row.2);
    let name = name.or_else(|| BASES.get(usize::from(base)).copied());
    name.map_or_else(|| format!("Class {base:02x}{sub:02x}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_has_the_most_exact_name_there_is() {
        assert_eq!(name(0x01_0802), "NVMe controller");
        assert_eq!(name(0x06_0400), "PCI bridge");
        assert_eq!(name(0x02_7700), "Network controller");
        assert_eq!(name(0xff_0000), "Class ff00");
    }

    #[test]
    fn table_is_sorted_and_has_each_class_once() {
        let sorted = CLASSES
            .windows(2)
            .all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1));
        assert!(sorted);
    }
}
