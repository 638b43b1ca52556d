// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1's PCI devices, taken from their drivers to be passed through and given back.

use anyhow::{Context, Result};

use crate::lab::Lab;

/// One of L1's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostDevice {
    /// The NVMe controller, whose disk is a sparse file.
    Nvme,
    /// The edu device.
    Edu,
    /// The network card.
    E1000e,
    /// The device that is nothing but memory.
    SharedMemory,
}

/// Finds the device and has `driver` take it, or nobody if there is none; its address is the output.
const SCRIPT: &str = r#"
set -e
device=$(dirname "$(grep -l PATTERN /sys/bus/pci/devices/*/FILE)")
bdf=${device##*/}
if [ -e $device/driver ]; then echo $bdf >$device/driver/unbind; fi
echo $override >$device/driver_override
if [ -n "$driver" ]; then echo $bdf >/sys/bus/pci/drivers/$driver/bind; fi
echo $bdf
"#;

impl HostDevice {
    /// Binds the device to vfio-pci, whatever had it before; its address.
    pub fn take(self, lab: &mut Lab<'_>) -> Result<String> {
        self.bind(lab, "take", "vfio-pci", "vfio-pci")
    }

    /// Gives the device back to its own driver.
    pub fn give_back(self, lab: &mut Lab<'_>) -> Result<String> {
        self.bind(lab, "give-back", "", self.driver())
    }

    fn bind(self, lab: &mut Lab<'_>, job: &str, other: &str, driver: &str) -> Result<String> {
        let (file, pattern) = match self {
            Self::Nvme => ("class", "0x010802"),
            Self::Edu => ("device", "0x11e8"),
            Self::E1000e => ("device", "0x10d3"),
            Self::SharedMemory => ("device", "0x1110"),
        };
        let script = SCRIPT.replace("PATTERN", pattern).replace("FILE", file);
        let script = format!("override='{other}'\ndriver='{driver}'\n{script}");
        let ended = lab.sh(&format!("{job}-{}", self.name()), &script)?;
        ended.expect_status(0)?;
        let address = ended.stdout.split_whitespace().last();
        Ok(address.context("a device without an address")?.to_owned())
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Edu => "edu",
            Self::E1000e => "e1000e",
            Self::SharedMemory => "shared-memory",
        }
    }

    /// L1's own driver; empty for none.
    const fn driver(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Edu | Self::SharedMemory => "",
            Self::E1000e => "e1000e",
        }
    }
}
