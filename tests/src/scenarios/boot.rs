// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The lab kernel boots as bzImage and as PVH ELF, takes the unit over and powers off.

use std::time::Duration;

use anyhow::Result;

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::kernel::Kernel;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const BZIMAGE: Scenario = Scenario {
    name: "boot-bzimage",
    about: "a bzImage with an initramfs boots, its intel-iommu driver takes the unit over, it powers off",
    limit: Duration::from_secs(60),
    run: |lab| {
        // The boot protocol's "undefined" loader.
        boot(lab, |kernel| &kernel.bzimage, "loader 255")
    },
};

pub const PVH: Scenario = Scenario {
    name: "boot-pvh",
    about: "an ELF vmlinux boots by PVH, its intel-iommu driver takes the unit over, it powers off",
    limit: Duration::from_secs(60),
    run: |lab| {
        // What the kernel's own PVH entry claims for hypervisors other than Xen.
        boot(lab, |kernel| &kernel.vmlinux, "loader 176")
    },
};

const SCRIPT: &str = r#"
set -e
echo "loader $(cat /proc/sys/kernel/bootloader_type)"
echo "says $(sed 's/.*says=//' /proc/cmdline)"
echo "units: $(ls /sys/class/iommu)"
echo "memory: $(sed -n 's/MemTotal: *\(.*\) kB/\1/p' /proc/meminfo)"
"#;

fn boot(
    lab: &mut Lab<'_>,
    image: fn(&Kernel) -> &std::path::PathBuf,
    loader: &str,
) -> Result<Verdict> {
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT))?;
    let remora = Remora::boot(image(lab.kernel()))
        .initrd(&initrd)
        .cmdline("console=ttyS0 says=hello")
        .args(&["--memory", "256M", "--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    for wanted in [
        "Hypervisor detected: KVM",
        "iommu: Default domain type: Translated",
        "units: dmar0",
        "says hello",
        loader,
    ] {
        console.expect(wanted)?;
    }
    memory_is_there(&console.stdout)?;
    // The IOAPIC's messages at least; there is no other device.
    Report::read(lab, "result.json")?
        .expect_untroubled()?
        .expect_at_least("interrupts", 1)?
        .expect_at_least("interrupt_invalidations", 1)?;
    Ok(Verdict::Pass)
}

/// Of 256 MiB the kernel keeps some for itself, but not a quarter.
fn memory_is_there(console: &str) -> Result<()> {
    let kib = console
        .lines()
        .find_map(|line| line.strip_prefix("memory: ")?.trim().parse::<u32>().ok());
    match kib {
        Some(kib) if (192 << 10..256 << 10).contains(&kib) => Ok(()),
        other => anyhow::bail!("the guest was given 256 MiB and sees {other:?} KiB"),
    }
}
