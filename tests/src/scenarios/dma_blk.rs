// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk behind the unit, with strict and with lazy invalidation: what the guest writes is in the image, bit by bit.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "dma-blk",
    about: "64 MiB of random, then sequential disk I/O through the unit, strict and lazy, checked on both sides",
    limit: Duration::from_secs(480),
    run,
};

/// Random I/O on the first half, then the first half copied to the second in large pieces.
const SCRIPT: &str = r#"
set -e
echo "domain $(cat /sys/block/vda/device/../iommu_group/type)"
guest-tools blkcheck random /dev/vda 64 SEED
dd if=/dev/vda of=/dev/vda bs=1M count=64 seek=64 iflag=direct oflag=direct conv=notrunc,fsync
"#;

/// The image in L1, after the guest is gone.
const CHECK: &str = r"
set -e
guest-tools blkcheck verify /tmp/disk.img 64 SEED
dd if=/tmp/disk.img of=/tmp/second.img bs=1M skip=64 count=64 2>/dev/null
guest-tools blkcheck verify /tmp/second.img 64 SEED
rm /tmp/disk.img /tmp/second.img
";

/// What `blkcheck random` makes at the least: a write and a read for each extent of at most 32 KiB. There are about twice
/// as many.
const REQUESTS: u64 = 2 * (64 << 20) / (32 << 10);

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let strict = pass(lab, "strict", "iommu.strict=1", 11)?;
    let lazy = pass(lab, "lazy", "iommu.strict=0", 12)?;
    // A strict guest invalidates each mapping of a request, a lazy one everything now and then.
    strict.expect_at_least("page_invalidations", 2 * REQUESTS)?;
    lazy.expect_at_least("iotlb_invalidations", 2)?;
    let single = lazy.counter("page_invalidations")?;
    if single > REQUESTS / 10 {
        bail!(
            "a lazy guest made {single} invalidations of single mappings for {REQUESTS} requests"
        );
    }
    Ok(Verdict::Pass)
}

fn pass(lab: &mut Lab<'_>, name: &str, policy: &str, seed: u32) -> Result<Report> {
    let with_seed = |script: &str| script.replace("SEED", &seed.to_string());
    let guest = Guest::script(&with_seed(SCRIPT))
        .file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd(name, &guest)?;
    lab.sh(&format!("{name}-disk"), "truncate -s 128M /tmp/disk.img")?
        .expect_status(0)?;
    let result = format!("{name}.json");
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        .cmdline(&format!("console=ttyS0 {policy}"))
        .args(&["--disk", "/tmp/disk.img", "--result", &result]);
    let console = lab.remora(name, &remora)?;
    guest_did_well(&console)?;
    let kind = if name == "lazy" { "DMA-FQ" } else { "DMA" };
    console
        .expect(&format!("invalidation policy: {name} mode"))?
        .expect(&format!("domain {kind}\n"))?
        .expect("64+0 records out")?;
    let check = lab.sh(&format!("{name}-check"), &with_seed(CHECK))?;
    check.expect_status(0)?;
    same_sums(&console, &check)?;
    let report = Report::read(lab, &result)?;
    // A request is at least a descriptor, a header, the data and a status.
    report
        .expect_untroubled()?
        .expect_at_least("translations", 4 * REQUESTS)?;
    Ok(report)
}

/// The guest prints one checksum, L1 the same for either half of the image.
fn same_sums(console: &Ended, check: &Ended) -> Result<()> {
    let sums = |ended: &Ended| -> Vec<String> {
        let lines = ended.stdout.lines();
        lines
            .filter_map(|line| line.strip_prefix("BLKCHECK ok ").map(str::to_owned))
            .collect()
    };
    let (guest, host) = (sums(console), sums(check));
    match (guest.as_slice(), host.as_slice()) {
        ([guest], [first, second]) if guest == first && guest == second => Ok(()),
        _ => bail!("checksums differ: the guest has {guest:?}, the image's halves {host:?}"),
    }
}
