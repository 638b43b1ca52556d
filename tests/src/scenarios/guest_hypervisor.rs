// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Three levels: L1 runs Remora, whose Linux guest runs Remora in its own KVM, whose guest boots the lab kernel behind the
//! unit of that inner Remora, reads a disk through it and powers off.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::evidence::{Report, UNIT_TAKEN_OVER, guest_did_well};
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "guest-hypervisor",
    about: "a Linux guest runs Remora in its own KVM: a guest of the guest boots behind the inner unit and powers off",
    limit: Duration::from_secs(240),
    run,
};

/// The innermost guest. Each byte on its console is an exit through two hypervisors: its kernel is told to be quiet, and only
/// what is judged is printed, warnings of the kernel among it.
const INNER: &str = r#"
set -e
echo "inner: loader $(cat /proc/sys/kernel/bootloader_type)"
echo "inner: units $(ls /sys/class/iommu)"
dmesg | grep -E 'Hypervisor detected|DMAR' | sed 's/^\[[^]]*\]/inner:/'
dmesg -r | grep '^<[0-4]>' || true
echo "inner: disk $(dd if=/dev/vda bs=16k iflag=direct 2>/dev/null | sha256sum)"
"#;

/// The guest in between. The inner guest's processor lacks XSAVE already, because its own does.
const OUTER: &str = r#"
set -e
guest-tools blkcheck write /inner/disk 1 71
echo "outer: disk $(sha256sum </inner/disk)"
remora run --kernel /inner/kernel --initrd /inner/initrd --cmdline "console=ttyS0 quiet" \
    --memory 128M --disk /inner/disk --result /tmp/result.json
echo "outer: result $(cat /tmp/result.json)"
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let programs = lab.binaries().clone();
    let kernel = lab.kernel().bzimage.clone();
    let inner = lab.initrd("inner", &Guest::script(INNER))?;
    let disk = lab.dir().join("disk");
    std::fs::File::create(&disk)?.set_len(1 << 20)?;
    let outer = Guest::script(OUTER)
        .file("bin/guest-tools", &programs.guest_tools)
        .file("bin/remora", &programs.remora)
        .file("inner/kernel", &kernel)
        .file("inner/initrd", &inner)
        .file("inner/disk", &disk);
    let outer = lab.initrd("outer", &outer)?;
    let remora =
        Remora::boot(&kernel)
            .initrd(&outer)
            .args(&["--memory", "512M", "--result", "result.json"]);
    let console = lab.remora("boot", &remora)?;
    guest_did_well(&console)?;
    inner_did_well(&console.stdout)?;
    Report::read(lab, "result.json")?.expect_untroubled()?;
    Ok(Verdict::Pass)
}

/// Fails unless the innermost guest's kernel took its unit over, its disk was read through it, and it powered off.
fn inner_did_well(console: &str) -> Result<()> {
    let said = |speaker: &str| -> Vec<&str> {
        let lines = console.lines();
        lines
            .filter_map(|line| line.strip_prefix(speaker))
            .collect()
    };
    let (inner, outer) = (said("inner: "), said("outer: "));
    let found = |text: &str| inner.iter().any(|line| line.contains(text));
    for text in ["Hypervisor detected: KVM", "units dmar0", "loader 255"] {
        if !found(text) {
            bail!("the inner guest did not say '{text}': {inner:?}");
        }
    }
    for text in UNIT_TAKEN_OVER {
        if !found(text) {
            bail!("the inner guest's kernel did not say '{text}': {inner:?}");
        }
    }
    let value = |lines: &[&str], name: &str| -> Result<String> {
        let value = lines.iter().find_map(|line| line.strip_prefix(name));
        Ok(value
            .with_context(|| format!("no '{name}' in {lines:?}"))?
            .to_owned())
    };
    let (read, written) = (value(&inner, "disk ")?, value(&outer, "disk ")?);
    if read != written {
        bail!("the inner guest read {read}, and not {written}");
    }
    let result: Value = serde_json::from_str(&value(&outer, "result ")?)?;
    let unit = &result["unit"];
    let well = result["reason"] == "poweroff" && unit["faults"] == 0 && unit["queue_errors"] == 0;
    if !well || unit["translations"].as_u64() < Some((1 << 20) / 4096) {
        bail!("the inner unit was in trouble, or idle: {result}");
    }
    Ok(())
}
