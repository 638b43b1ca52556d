// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `remora doctor` where the truth is known: in L1, which has everything, as root and as a user with little; and in Linux guests
//! whose IOMMU is switched off on the command line, or is not there at all.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::ending::expect_one_line;
use crate::evidence::guest_did_well_saying;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "doctor",
    about: "remora doctor tells the truth: in L1 as root and as a poor user, in guests without IOMMU and without KVM",
    limit: Duration::from_secs(180),
    run,
};

/// Everything as L1 has it.
const RICH: &str = "remora doctor --json";

/// A user without a right, with 64 KiB to lock, in a host with a low limit of mappings and no huge pages.
const POOR: &str = r#"
limit=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
huge=/sys/kernel/mm/transparent_hugepage/enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' $huge)
back() {
    echo 65535 >$limit
    echo $before >$huge
    chown 0:0 /dev/kvm
    chmod 600 /dev/kvm
}
trap back EXIT
echo 512 >$limit
echo never >$huge
chown 0:6 /dev/kvm
chmod 660 /dev/kvm
ulimit -l 64
# Where the program was built may be closed to others.
cp "$(which remora)" /tmp/remora
/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups /tmp/remora doctor --json
echo "status $?"
/usr/bin/setpriv --reuid=65534 --regid=65534 --groups=6 /tmp/remora doctor
"#;

/// Rows by id with level and a part of what was found or advised.
type Rows = &'static [(&'static str, &'static str, &'static str)];

const IN_L1: Rows = &[
    ("kvm", "ok", "API version 12"),
    (
        "kvm-kind",
        "warning",
        "AMD SVM emulated in software by QEMU (TCG)",
    ),
    ("kvm-features", "ok", "all that a machine needs"),
    ("iommu", "ok", "Intel VT-d: units dmar0"),
    ("iommu-mode", "ok", "translated"),
    (
        "iommu-offer",
        "ok",
        "-bit addresses, pages up to 1 GiB, scalable mode without nested translation",
    ),
    ("interrupt-remapping", "ok", "interrupts are remapped"),
    (
        "reserved-regions",
        "ok",
        "no group has memory that must stay mapped",
    ),
    ("vfio-pci", "ok", "vfio-pci is there"),
    ("iommufd", "ok", "PASIDs can be attached"),
    ("vfio-type1", "ok", "/dev/vfio/vfio can be used"),
    ("entry-limit", "ok", "65535 mappings"),
    ("memlock", "ok", "CAP_IPC_LOCK"),
    ("hugepages", "ok", "transparent huge pages"),
];

const FOR_THE_POOR: Rows = &[
    (
        "kvm",
        "missing",
        "/dev/kvm cannot be opened: Permission denied",
    ),
    (
        "iommufd",
        "warning",
        "/dev/iommu cannot be opened: Permission denied",
    ),
    ("entry-limit", "warning", "512 mappings"),
    ("memlock", "warning", "only 64 KiB of memory may be locked"),
    ("hugepages", "warning", "no transparent huge pages"),
    ("interrupt-remapping", "ok", "interrupts are remapped"),
];

const SWITCHED_OFF: Rows = &[
    ("kvm", "ok", "API version 12"),
    (
        "iommu",
        "missing",
        "the kernel's command line switches the IOMMU off",
    ),
];

const NO_IOMMU: Rows = &[
    ("kvm", "missing", "there is no /dev/kvm"),
    ("iommu", "missing", "the firmware describes no IOMMU"),
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let rich = lab.sh("rich", RICH)?;
    check(json(rich.expect_status(0)?)?, true, true, IN_L1)?;
    let poor = lab.sh("poor", POOR)?;
    check(json(poor.expect_status(0)?)?, false, false, FOR_THE_POOR)?;
    poor.expect("status 3")?
        .expect("sudo usermod -aG disk")?
        .expect("A VM can be run: yes.")?;
    let off = guest(lab, "off", "host,-xsave", "intel_iommu=off", &[])?;
    check(off, true, false, SWITCHED_OFF)?;
    let none = guest(lab, "none", "host,-xsave,-svm", "", &["--iommu", "off"])?;
    check(none, false, false, NO_IOMMU)?;
    let wrong = lab.remora("wrong", &Remora::with(&["doctor", "--better"]))?;
    wrong.expect_status(2)?;
    expect_one_line(&wrong)?;
    Ok(Verdict::Pass)
}

/// What the doctor says in a Linux guest.
fn guest(
    lab: &mut Lab<'_>,
    name: &str,
    cpu: &str,
    parameter: &str,
    args: &[&str],
) -> Result<Value> {
    let script = "remora doctor --json >/tmp/report\necho \"status $?\"\ncat /tmp/report\n";
    let guest = Guest::script(script).file("bin/remora", &lab.binaries().remora.clone());
    let initrd = lab.initrd(name, &guest)?;
    let kernel = in_l1(&lab.kernel().bzimage);
    let remora = Remora::with(&["run", "--kernel", &kernel, "--cpu", cpu])
        .initrd(&initrd)
        .cmdline(&format!("console=ttyS0 quiet {parameter}"))
        .args(args);
    let console = lab.remora(&format!("guest-{name}"), &remora)?;
    guest_did_well_saying(&console, &[])?;
    json(&console)
}

/// The object that begins with a line "{" and ends with a line "}".
fn json(ended: &Ended) -> Result<Value> {
    let lines = ended.stdout.lines().map(|line| line.trim_end_matches('\r'));
    let from_brace = lines.skip_while(|line| *line != "{");
    let mut text = String::new();
    for line in from_brace {
        text += line;
        if line == "}" {
            break;
        }
    }
    serde_json::from_str(&text).with_context(|| format!("no JSON object in {}", ended.stdout))
}

fn check(report: Value, vm: bool, passthrough: bool, rows: Rows) -> Result<()> {
    if report["vm"] != vm || report["passthrough"] != passthrough {
        bail!("not vm {vm} and passthrough {passthrough}: {report:#}");
    }
    let all = report["rows"].as_array().context("rows are an array")?;
    for (id, level, text) in rows {
        let row = all.iter().find(|row| row["id"] == *id);
        let row = row.with_context(|| format!("no row {id} in {report:#}"))?;
        let found = row["finding"].as_str().unwrap_or_default();
        if row["level"] != *level || !found.contains(text) {
            bail!("{id} is not {level} with '{text}': {row}");
        }
        if *level != "ok" && row["advice"].as_str().unwrap_or_default().is_empty() {
            bail!("{id} says not what to do: {row}");
        }
    }
    Ok(())
}
