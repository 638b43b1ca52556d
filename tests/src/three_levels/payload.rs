// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bare-metal payload in L3, which does what Linux never does. Whenever it says `HOLD: NAME.`, L2 notes what the inner Remora
//! has asked of L2's kernel so far, and which PASIDs that kernel has bound; then it presses a key, and the payload goes on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use payload::Verdict as Checks;
use serde_json::Value;

use super::{FAULT, FROM_THE_START, ThreeLevels, result_of};
use crate::evidence::guest_did_well;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;

/// What runs.
#[derive(Debug, Clone, Copy)]
pub struct PayloadInside<'a> {
    /// `--iommu` of the inner Remora.
    pub iommu: &'a str,
    /// Whether dmatest comes when the payload says `HOLD: arrive.`, and is not there before.
    pub arrives: bool,
    /// The payload's command line.
    pub words: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    console: Ended,
    /// What was seen at each hold.
    holds: BTreeMap<String, Hold>,
    /// The inner Remora's result.
    pub result: Value,
}

/// What was seen at one hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Host calls and what is counted with them, since the start.
    pub totals: Value,
    /// The PASIDs that L2's kernel has bound.
    pub bound: Vec<u32>,
}

/// Busybox's `kill -0` finds zombies, so the end of the inner machine is a file. A byte on the console takes long, so little of the
/// statistics is noted, and of the kernel's log, which tells the device's faults at length, only complaints.
const OUTER: &str = r#"
set -e
dmesg -n 1
device=$(dirname $(grep -l 0xd7a7 /sys/bus/pci/devices/*/device))
bdf=${device##*/}
echo vfio-pci >$device/driver_override
echo $bdf >/sys/bus/pci/drivers/vfio-pci/bind
mkfifo /tmp/keys
exec 3<>/tmp/keys
: >/tmp/console
(
    status=0
    remora run --kernel /inner/payload --cmdline "WORDS" --memory 64M --edu --iommu IOMMU DEVICE \
        --api-socket /tmp/socket --result /tmp/result.json <&3 >/tmp/console 2>/tmp/errors || status=$?
    echo $status >/tmp/status
) &
seen=0
while [ ! -e /tmp/status ]; do
    if [ $(grep -c '^HOLD: .*\.' /tmp/console) -le $seen ]; then
        sleep 0.1
        continue
    fi
    seen=$((seen + 1))
    name=$(sed -n 's/^HOLD: \([a-z0-9-]*\)\..*/\1/p' /tmp/console | sed -n ${seen}p)
    echo "noting $name"
    if [ $name = arrive ]; then
        remora ctl --api-socket /tmp/socket add-device vfio=$bdf,id=late,bus=p0
    fi
    table=/sys/kernel/debug/iommu/intel/dmar_translation_struct
    echo "outer: bound $name" $(awk -v at=${bdf#*:} '$1 == at && $4 != 0 { print $4 }' $table) >>/tmp/notes
    remora ctl --api-socket /tmp/socket --json stats | sed 's/.*"totals"://' >/tmp/totals
    numbers=$(grep -o '"calls":{[^}]*}\|"replaced":[0-9]*' /tmp/totals | tr '\n' ,)
    echo "outer: stats $name {${numbers%,}}" >>/tmp/notes
    printf g >&3
done
dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace' || true
cat /tmp/console /tmp/errors /tmp/notes
echo "outer: result $(tr -d '\n' </tmp/result.json)"
"#;

impl PayloadInside<'_> {
    /// Boots all of it; the payload's checks must pass, and neither unit may have met an error in its queue.
    pub fn boot(&self, lab: &mut Lab<'_>) -> Result<Outcome> {
        let programs = lab.binaries().clone();
        let image = payload::build()?;
        let device = match self.arrives {
            true => "--root-port id=p0,hotplug",
            false => FROM_THE_START,
        };
        let script = OUTER
            .replace("WORDS", self.words)
            .replace("IOMMU", self.iommu)
            .replace("DEVICE", device);
        let outer = Guest::script(&script)
            .file("bin/remora", &programs.remora)
            .file("inner/payload", &image);
        let outer = lab.initrd("outer", &outer)?;
        let remora = Remora::boot(&lab.kernel().bzimage)
            .initrd(&outer)
            .args(&["--memory", "512M", "--dmatest"])
            .args(&["--iommu", ThreeLevels::NESTING.host])
            .args(&["--result", "result.json"])
            .allow("DMAR: DRHD: handling fault status reg ")
            .allow(FAULT);
        let console = lab.remora("boot", &remora)?;
        guest_did_well(&console)?;
        let result = result_of(&console)?;
        let unit = &result["unit"];
        if unit["queue_errors"] != 0 || unit["faults"] != 0 {
            bail!("the inner unit was in trouble: {result}");
        }
        let outcome = Outcome {
            holds: holds(&console)?,
            console,
            result,
        };
        outcome.judge()?;
        Ok(outcome)
    }
}

impl Outcome {
    fn judge(&self) -> Result<()> {
        let checks = Checks::parse(&self.console.stdout).context("the payload broke off")?;
        if !checks.good() || checks.skipped != 0 {
            bail!(
                "{} checks failed, {} were skipped\n{}",
                checks.failed,
                checks.skipped,
                checks.failures.join("\n")
            );
        }
        println!("{} checks of the payload passed", checks.passed);
        // isa-debug-exit's status for 0.
        if self.result["reason"] != "debug-exit" || self.result["status"] != 1 {
            bail!("the inner machine ended otherwise: {}", self.result);
        }
        Ok(())
    }

    /// What was seen at the hold `name`.
    pub fn at(&self, name: &str) -> Result<&Hold> {
        let hold = self.holds.get(name);
        hold.with_context(|| format!("nothing was noted at '{name}'"))
    }

    /// What the payload counted.
    pub fn count(&self, what: &str) -> Result<u64> {
        let start = format!("COUNT: {what} ");
        let mut lines = self.console.stdout.lines();
        let count = lines.find_map(|line| line.strip_prefix(&start)?.trim().parse().ok());
        count.with_context(|| format!("'{start}' is missing from the console"))
    }
}

impl Hold {
    /// What is counted at `name`, a JSON pointer.
    pub fn count(&self, name: &str) -> Result<u64> {
        let count = self.totals.pointer(name).and_then(Value::as_u64);
        count.with_context(|| format!("no number at {name} in {}", self.totals))
    }
}

fn holds(console: &Ended) -> Result<BTreeMap<String, Hold>> {
    let noted = |what: &str| {
        let start = format!("outer: {what} ");
        let lines = console.stdout.lines();
        let found = lines.filter_map(move |line| {
            let (name, rest) = line.strip_prefix(&start)?.split_once(' ')?;
            Some((name, rest))
        });
        found.collect::<BTreeMap<_, _>>()
    };
    let bound = noted("bound");
    let mut holds = BTreeMap::new();
    for (name, stats) in noted("stats") {
        let totals =
            serde_json::from_str(stats).with_context(|| format!("at '{name}': {stats}"))?;
        let pasids = bound.get(name).copied().unwrap_or_default();
        let pasids = pasids.split_whitespace();
        let bound = pasids.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        holds.insert(name.to_owned(), Hold { totals, bound });
    }
    Ok(holds)
}
