// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The ways in which a request of a device is refused, 62 reasons: the guest's kernel logs each once, with its source, PASID,
//! address and reason, and nothing else; the unit counted the same.

mod expected;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::expected::{Fault, LEGACY, SCALABLE, Who};
use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "faults",
    about: "edu and dmatest make requests that must be refused, for 62 reasons: the guest's kernel logs exactly those",
    limit: Duration::from_secs(300),
    run,
};

/// Devices on the root bus that make requests, and one more that changes tables.
const DMATESTS: usize = 7;

/// Fault recording registers of the unit.
const RECORDS: usize = 8;

/// The fault event is masked while a group of faults is made, so that the kernel looks at its tables when they are whole again.
/// It logs ten lines in five seconds, of which a group takes two besides its faults.
const SCRIPT: &str = r#"
set -e
unit() { devmem $((0xfed90000 + $1)) $2 $3; }
group() {
    unit 0x38 32 0x80000000
    "$@"
    unit 0x38 32 0
    sleep 5.5
}
for device in /sys/bus/pci/devices/*; do
    echo "DEVICE ${device##*/} $(cat "$device/device")"
done
# What the kernel finds in its tables for each fault takes a second to print.
dmesg -n 4
edu=$(dirname "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device)")
edu_reads() {
    echo 1 >"$edu/enable"
    printf '\006' | dd of="$edu/config" bs=1 seek=4 conv=notrunc 2>/dev/null
    base=$(awk 'NR == 1 { print $1 }' "$edu/resource")
    register() { devmem $(printf '0x%x' $((base + $1))) 32 $2; }
    register 0x80 0x0bad1000
    register 0x88 0x40000
    register 0x90 64
    register 0x98 1
    while [ $(($(register 0x98) & 1)) = 1 ]; do :; done
    echo "FAULT edu ${edu##*/}"
}
group edu_reads
for name in GROUPS; do
    group guest-tools faults $name $(unit 0x20 64) $(unit 0xb8 64)
done
"#;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    boot(lab, "scalable", "", SCALABLE)?;
    boot(lab, "legacy", " intel_iommu=sm_off", LEGACY)?;
    Ok(Verdict::Pass)
}

/// Has a guest make all `faults`, in their groups.
fn boot(lab: &mut Lab<'_>, name: &str, words: &str, faults: &[(&str, &[Fault])]) -> Result<()> {
    let groups: Vec<&str> = faults.iter().skip(1).map(|(group, _)| *group).collect();
    let script = SCRIPT.replace("GROUPS", &groups.join(" "));
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd(name, &guest)?;
    let result = format!("{name}.json");
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(&initrd)
        // The kernel keeps off a MiB of memory, in which tables can be made.
        .cmdline(&format!("console=ttyS0 memmap=1M$0x8000000{words}"))
        .args(&[
            "--memory",
            "256M",
            "--iommu",
            "mode=scalable,stages=both,nesting=on,pri=on,caching-mode=off",
        ])
        .args(&["--edu", "--root-port", "id=port", "--dmatest=bus=port"])
        .args(&["--dmatest"; DMATESTS])
        .args(&["--result", &result])
        .allow("DMAR: DRHD: handling fault status reg ")
        .allow("Request device [");
    let console = lab.remora(name, &remora)?;
    guest_did_well(&console)?;
    judge(&console, faults).with_context(|| format!("in the {name} guest"))?;
    let report = Report::read(lab, &result)?;
    counted(&report, faults).with_context(|| format!("in the {name} guest"))
}

/// Compares what the kernel logged with what was to be logged, line by line and in order.
fn judge(console: &Ended, faults: &[(&str, &[Fault])]) -> Result<()> {
    let devices = Devices::read(&console.stdout)?;
    let (mut made, mut logged) = (Vec::new(), Vec::new());
    for (_, group) in faults {
        // The index of the first record, and that there is one.
        let status = (made.len() % RECORDS) << 8 | 2;
        logged.push(format!("DRHD: handling fault status reg {status:x}"));
        for fault in *group {
            let device = devices.id(fault.who)?;
            made.push(format!("{} {device}", fault.name));
            logged.push(fault.line(device));
        }
    }
    let lines = console.stdout.lines();
    let said = lines.clone().filter_map(|line| line.strip_prefix("FAULT "));
    same("fault", &made, &said.collect::<Vec<_>>())?;
    same(
        "line of the log",
        &logged,
        &lines.filter_map(about_fault).collect::<Vec<_>>(),
    )?;
    console.forbid("callbacks suppressed")?;
    Ok(())
}

/// Fails unless each line begins as wanted, and there are neither more nor fewer.
fn same(what: &str, wanted: &[String], seen: &[&str]) -> Result<()> {
    for number in 0..wanted.len().max(seen.len()) {
        let (wanted, seen) = (wanted.get(number), seen.get(number));
        let pair = wanted.zip(seen);
        if !pair.is_some_and(|(wanted, seen)| seen.starts_with(wanted)) {
            bail!("{what} {number} was to be {wanted:?} and is {seen:?}");
        }
    }
    Ok(())
}

/// What the kernel says of faults, without time and prefix.
fn about_fault(line: &str) -> Option<&str> {
    let (_, said) = line.split_once("DMAR: ")?;
    let about = said.contains("Request device") || said.contains("fault status");
    about.then_some(said)
}

/// Fails unless the unit counted each fault once, and no other.
fn counted(report: &Report, faults: &[(&str, &[Fault])]) -> Result<()> {
    let all: Vec<&Fault> = faults.iter().flat_map(|(_, group)| *group).collect();
    for fault in &all {
        let wanted = all.iter().filter(|other| other.reason == fault.reason);
        let wanted = u64::try_from(wanted.count())?;
        let counted = report.faults(&format!("{:#04x}", fault.reason));
        if counted != wanted {
            bail!(
                "{counted} faults of '{}' were counted, not {wanted}",
                fault.name
            );
        }
    }
    let (faults, lost) = (report.counter("faults")?, report.counter("faults_lost")?);
    if (faults, lost) != (u64::try_from(all.len())?, 0) {
        bail!(
            "{faults} faults were counted and {lost} lost, and {} made",
            all.len()
        );
    }
    Ok(())
}

/// Where the guest's devices are.
struct Devices<'a> {
    edu: &'a str,
    /// On the root bus, in order; the first one changes tables.
    dmatests: Vec<&'a str>,
    below: &'a str,
}

impl<'a> Devices<'a> {
    fn read(console: &'a str) -> Result<Self> {
        let lines = console
            .lines()
            .filter_map(|line| line.strip_prefix("DEVICE "));
        let devices: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(' ')).collect();
        let with = |number: &str, bus: &str| -> Vec<&str> {
            let found = devices
                .iter()
                .filter(|(id, device)| id.starts_with(bus) && *device == number);
            found.map(|(id, _)| *id).collect()
        };
        let (edu, dmatests) = (with("0x11e8", "0000:00:"), with("0xd7a7", "0000:00:"));
        match (&edu[..], &with("0xd7a7", "0000:01:")[..]) {
            (&[edu], &[below]) if dmatests.len() == DMATESTS => Ok(Self {
                edu,
                dmatests,
                below,
            }),
            _ => bail!("the guest has other devices: {devices:?}"),
        }
    }

    fn id(&self, who: Who) -> Result<&'a str> {
        match who {
            Who::Edu => Ok(self.edu),
            Who::Below => Ok(self.below),
            Who::Dmatest(number) => {
                let id = self.dmatests.get(number + 1).copied();
                id.with_context(|| format!("no dmatest {number}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_wants_each_line_once_in_order_and_no_other() {
        let wanted = ["a 1".to_owned(), "b 2".to_owned()];
        same("line", &wanted, &["a 1 and more", "b 2"]).unwrap();
        for seen in [
            &["a 1"][..],
            &["b 2", "a 1"],
            &["a 1", "b 2", "b 2"],
            &["a 1", "b 3"],
        ] {
            same("line", &wanted, seen).unwrap_err();
        }
    }

    #[test]
    fn lines_of_faults_are_the_kernels() {
        let lines: Vec<String> = SCALABLE
            .iter()
            .flat_map(|(_, group)| group.iter().map(|fault| fault.line("0000:00:04.0")))
            .collect();
        for line in [
            "[DMA Write NO_PASID] Request device [0000:00:04.0] fault addr 0x234567000 [fault reason 0x71]",
            "[DMA Read PASID 0xfffff] Request device [0000:00:04.0] fault addr 0x1000 [fault reason 0x51]",
            "[INTR-REMAP] Request device [0000:00:04.0] fault index 0x1002 [fault reason 0x26]",
        ] {
            let log = format!("[   15.69] DMAR: {line} SM: text");
            assert!(lines.iter().any(|own| own == line), "{line}");
            assert!(about_fault(&log).is_some_and(|said| said.starts_with(line)));
        }
        assert_eq!(about_fault("[ 1.0] DMAR: root entry: 0x0"), None);
    }

    #[test]
    fn groups_fit_the_records_and_what_the_kernel_logs_at_once() {
        for (name, group) in SCALABLE.iter().chain(LEGACY) {
            assert!(group.len() <= RECORDS, "{name}");
        }
    }
}
