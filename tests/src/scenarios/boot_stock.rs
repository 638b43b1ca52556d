// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A kernel that nobody tuned for us: Debian 12's own cloud kernel, with its virtio modules from an initramfs, reads a disk.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "boot-stock",
    about: "Debian 12's cloud kernel with its virtio modules boots and reads a disk through the unit",
    limit: Duration::from_secs(60),
    run,
};

const SCRIPT: &str = r#"
set -e
echo "kernel $(uname -r)"
echo "domain $(cat /sys/block/vda/device/../iommu_group/type)"
echo "sum $(sha256sum /dev/vda)"
"#;

/// Bytes of the disk.
const SIZE: u32 = 8 << 20;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let stock = lab.stock()?;
    let modules = stock.modules(&["virtio_pci", "virtio_blk"])?;
    let initrd = lab.initrd("guest", &Guest::script(SCRIPT).modules(modules))?;
    // No two blocks alike.
    let content: Vec<u8> = (0..SIZE / 4)
        .flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes())
        .collect();
    let disk = lab.dir().join("disk.img");
    fs::write(&disk, &content)?;
    let remora = Remora::boot(&stock.vmlinuz)
        // The lab's emulated processor has this weakness, and no microcode against it.
        .allow("Speculative Return Stack Overflow: WARNING:")
        .initrd(&initrd)
        .cmdline("console=ttyS0 intel_iommu=on")
        .args(&["--memory", "512M", "--result", "result.json", "--disk"])
        .args(&[&format!("{},readonly", in_l1(&disk))]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    let sum: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    console
        .expect("kernel 6.1")?
        .expect("domain DMA")?
        .expect(&format!("sum {sum}"))?;
    // Each page of the content is at least one request.
    Report::read(lab, "result.json")?
        .expect_untroubled()?
        .expect_at_least("translations", u64::from(SIZE) / 4096)?;
    Ok(Verdict::Pass)
}
