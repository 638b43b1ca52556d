// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Remora under Remora: L1 runs Remora with dmatest behind a unit that may nest, its Linux guest (L2) gives dmatest to vfio-pci
//! and runs Remora with `--vfio`, and the Linux of that (L3) drives the device from user space. Between the two Remoras stand
//! Linux's own VFIO, iommufd and intel-iommu.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::evidence::guest_did_well;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;

/// How a fault begins in a kernel's log.
const FAULT: &str = "Request device [";

/// What runs.
#[derive(Debug, Clone, Copy)]
pub struct ThreeLevels<'a> {
    /// `--iommu` of the outer Remora.
    pub host: &'a str,
    /// `--iommu` of the inner one.
    pub iommu: &'a str,
    /// What L3 does: the arguments of `guest-tools`, line by line.
    pub uses: &'a [&'a str],
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// L2's console, L3's in it.
    pub console: Ended,
    /// The inner Remora's result.
    pub result: Value,
}

const OUTER: &str = r#"
set -e
device=$(dirname $(grep -l 0xd7a7 /sys/bus/pci/devices/*/device))
bdf=${device##*/}
echo vfio-pci >$device/driver_override
echo $bdf >/sys/bus/pci/drivers/vfio-pci/bind
remora run --kernel /inner/kernel --initrd /inner/initrd --cmdline "console=ttyS0 quiet" \
    --memory 192M --iommu IOMMU --vfio $bdf --result /tmp/result.json --log info
echo "outer: result $(tr -d '\n' </tmp/result.json)"
"#;

impl ThreeLevels<'_> {
    /// Boots all of it; each level must end well, and the inner unit must not have met an error in its queue.
    pub fn boot(&self, lab: &mut Lab<'_>) -> Result<Outcome> {
        let programs = lab.binaries().clone();
        let kernel = lab.kernel().bzimage.clone();
        let uses = self
            .uses
            .iter()
            .map(|words| format!("guest-tools {words}\n"));
        let inner = format!(
            "set -e\ndmesg | grep -E 'DMAR|enabling device' | sed 's/^\\[[^]]*\\]/inner:/'\n{}",
            uses.collect::<String>()
        );
        let inner = Guest::script(&inner).file("bin/guest-tools", &programs.guest_tools);
        let inner = lab.initrd("inner", &inner)?;
        let outer = Guest::script(&OUTER.replace("IOMMU", self.iommu))
            .file("bin/remora", &programs.remora)
            .file("inner/kernel", &kernel)
            .file("inner/initrd", &inner);
        let outer = lab.initrd("outer", &outer)?;
        let remora = Remora::boot(&kernel)
            .initrd(&outer)
            .args(&["--memory", "768M", "--dmatest", "--iommu", self.host])
            .args(&["--result", "result.json"])
            .allow("DMAR: DRHD: handling fault status reg ")
            .allow(FAULT);
        let console = lab.remora("boot", &remora)?;
        guest_did_well(&console)?;
        let result = console
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix("outer: result "));
        let Some(result) = result else {
            bail!("the inner Remora left no result");
        };
        let result: Value = serde_json::from_str(result)?;
        let unit = &result["unit"];
        if result["reason"] != "poweroff" || unit["queue_errors"] != 0 {
            bail!("the inner machine was in trouble: {result}");
        }
        Ok(Outcome { console, result })
    }
}

impl Outcome {
    /// What a use of dmatest said at its end.
    pub fn said(&self, what: &str) -> Result<&str> {
        crate::dmatest::said(&self.console, what)
    }

    /// Faults that L2's kernel logged: those of the device, of which the inner Remora cannot know.
    pub fn host_faults(&self) -> usize {
        self.console.stdout.matches(FAULT).count()
    }

    /// Faults that the inner guest was given.
    pub fn faults(&self) -> u64 {
        self.result["unit"]["faults"].as_u64().unwrap_or(u64::MAX)
    }
}
