// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Remora under Remora: L1 runs Remora with dmatest behind a unit that may nest, its Linux guest (L2) gives dmatest to vfio-pci
//! and runs Remora with `--vfio`, and the Linux of that (L3) drives the device from user space. Between the two Remoras stand
//! Linux's own VFIO, iommufd and intel-iommu.
//!
//! Where L3 says `DMATEST at PLACE.` it waits, and L2 takes its turn: it looks at the inner machine, at its own tables, or does
//! something to either.
//!
//! Kernels write to a console in the midst of what programs say there. So L3's kernel is silent until L3 has said everything, and
//! what L3 and L2 said is said again at the end, while L2's kernel is silent: the account.

pub mod payload;

use std::fs;

use anyhow::{Context, Result, bail};
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
    /// Its dmatests.
    pub devices: &'a [&'a str],
    /// `--iommu` of the inner one.
    pub iommu: &'a str,
    /// Its other options; every dmatest is `$bdf` here, one after the other.
    pub passed: &'a str,
    /// What it logs, onto the same console.
    pub log: &'a str,
    /// What starts the inner Remora, in L2; empty for the shell.
    pub under: &'a str,
    /// Words for L3's kernel.
    pub cmdline: &'a str,
    /// What L3 does: a shell script.
    pub script: &'a str,
    /// What L2 does meanwhile.
    pub turns: &'a [Turn<'a>],
}

/// A turn of L2's.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Where L3 waits.
    pub at: &'a str,
    /// What L2 does: shell commands.
    pub does: &'a str,
    /// What it says to L3 then.
    pub says: &'a str,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// L2's console, L3's in it.
    pub console: Ended,
    /// What L2 and programs in L3 said.
    account: String,
    /// The inner Remora's result.
    pub result: Value,
}

/// Both processors of an L3 share one emulated processor with L2 and L1, so that what its kernel takes for a stall is none.
const OUTER: &str = r#"
set -e
# What is only told would come in between what L3 says.
dmesg -n 5
mkfifo /tmp/keys
exec 3<>/tmp/keys
for file in $(grep -l 0xd7a7 /sys/bus/pci/devices/*/device); do
    device=${file%/device}
    bdf=${device##*/}
    echo vfio-pci >$device/driver_override
    echo $bdf >/sys/bus/pci/drivers/vfio-pci/bind
    echo "outer: device $bdf" >>/tmp/said
    passed="$passed PASSED"
done
ctl() { remora ctl --api-socket /tmp/inner "$@"; }
# The PASIDs of a device that L2's tables name, as its kernel reads them.
pasids() {
    grep "^${bdf#*:}" /sys/kernel/debug/iommu/intel/dmar_translation_struct | awk '{ print $4 }'
}
turns=0
# Waits until L3 has come to a place.
reached() {
    turns=$((turns + 1))
    while [ $(grep -c 'DMATEST at .*\.' /tmp/console) -lt $turns ]; do
        if [ -e /tmp/status ]; then echo "outer: L3 never came to $1"; exit 1; fi
        sleep 0.2
    done
    grep 'DMATEST at ' /tmp/console | sed -n ${turns}p | grep -q "DMATEST at $1\."
}
touch /tmp/console
{
    status=0
    UNDER remora run --kernel /inner/kernel --initrd /inner/initrd --cmdline "console=ttyS0 quiet rcupdate.rcu_cpu_stall_suppress=1 CMDLINE" \
        --memory 192M --iommu IOMMU $passed --api-socket /tmp/inner \
        --result /tmp/result.json --log LOG </tmp/keys 2>&1 || status=$?
    echo $status >/tmp/status
} | tee /tmp/console &
TURNS
wait
sleep 1
# What L2's kernel has to say now comes after the account.
lines=$(dmesg | wc -l)
dmesg -n 1
echo "outer: account"
grep -E 'DMATEST|FAILED|guest: script' /tmp/console
cat /tmp/said
echo "outer: result $(tr -d '\n' </tmp/result.json)"
dmesg | tail -n +$((lines + 1))
sleep 1
dmesg -n 5
exit $(cat /tmp/status)
"#;

/// What L3 does before its script, and after.
const INNER: &str = r#"
dmesg | grep -E 'DMAR|enabling device' | sed 's/^\[[^]]*\]/inner:/'
dmesg -n 1
status=0
sh -e /inner-script || status=$?
dmesg -r | grep '^<[0-4]>' | sed 's/^/inner: /'
exit $status
"#;

/// What a dmatest is to the inner Remora that has it from the start.
pub const FROM_THE_START: &str = "--vfio $bdf";

impl ThreeLevels<'_> {
    /// Two units with all that Remora has, and a device that is there from the start.
    pub const NESTING: Self = Self {
        host: "mode=scalable,stages=both,nesting=on,pasid-bits=20",
        devices: &["--dmatest"],
        iommu: "mode=scalable",
        passed: FROM_THE_START,
        log: "info",
        under: "",
        cmdline: "",
        script: "",
        turns: &[],
    };

    /// Boots all of it; each level must end well, and the inner unit must not have met an error in its queue.
    pub fn boot(&self, lab: &mut Lab<'_>) -> Result<Outcome> {
        let programs = lab.binaries().clone();
        let kernel = lab.kernel().bzimage.clone();
        let script = lab.dir().join("inner-script");
        fs::write(&script, self.script).context("writing what L3 does")?;
        let inner = Guest::script(INNER)
            .file("bin/guest-tools", &programs.guest_tools)
            .file("inner-script", &script);
        let inner = lab.initrd("inner", &inner)?;
        let script = self.outer();
        let mut outer = Guest::script(&script)
            .file("bin/remora", &programs.remora)
            .file("inner/kernel", &kernel)
            .file("inner/initrd", &inner);
        // Unpacking tens of megabytes takes L2 seconds.
        if script.contains("host-tools ") {
            outer = outer.file("bin/host-tools", &programs.host_tools);
        }
        let outer = lab.initrd("outer", &outer)?;
        let remora = Remora::boot(&kernel)
            .initrd(&outer)
            .args(&["--memory", "768M", "--iommu", self.host])
            .args(self.devices)
            .args(&["--result", "result.json"])
            .allow("DMAR: DRHD: handling fault status reg ")
            .allow(FAULT);
        let console = lab.remora("boot", &remora)?;
        if let Some(why) = said_after(&console.stdout, "guest-tools: FAILED: ") {
            bail!("in L3: {why}");
        }
        guest_did_well(&console)?;
        let account = console.stdout.split_once("outer: account");
        let account = account.context("L2 gave no account")?.1.to_owned();
        if !account.contains("guest: script ended with status 0") {
            bail!("L3 failed: {account}");
        }
        let result = result_of(&console)?;
        let unit = &result["unit"];
        if result["reason"] != "poweroff" || unit["queue_errors"] != 0 {
            bail!("the inner machine was in trouble: {result}");
        }
        Ok(Outcome {
            console,
            account,
            result,
        })
    }

    /// What L2 does.
    fn outer(&self) -> String {
        let turn = |turn: &Turn<'_>| {
            let Turn { at, does, says } = turn;
            format!(
                "reached '{at}'\nsaid=$({does})\necho \"outer: at {at}: $(echo \"$said\" | tr '\\n' ' ')\" >>/tmp/said\necho {says} >&3\n"
            )
        };
        let turns: String = self.turns.iter().map(turn).collect();
        OUTER
            .replace("PASSED", self.passed)
            .replace("LOG", self.log)
            .replace("UNDER", self.under)
            .replace("CMDLINE", self.cmdline)
            .replace("IOMMU", self.iommu)
            .replace("TURNS", &turns)
    }
}

/// The inner Remora's result, which L2 printed.
fn result_of(console: &Ended) -> Result<Value> {
    let result = said_after(&console.stdout, "outer: result ");
    let result = result.context("the inner Remora left no result")?;
    Ok(serde_json::from_str(result)?)
}

impl Outcome {
    /// What a use of dmatest said at its end.
    pub fn said(&self, what: &str) -> Result<&str> {
        let said = said_after(&self.account, &format!("DMATEST ok {what}: "));
        said.with_context(|| format!("'{what}' did not come to its end: {}", self.account))
    }

    /// How often a use of dmatest came to its end.
    pub fn times(&self, what: &str) -> usize {
        let said = format!("DMATEST ok {what}: ");
        self.account.matches(&said).count()
    }

    /// What L2 said in each of its turns at `place`.
    pub fn turns(&self, place: &str) -> Vec<&str> {
        let start = format!("outer: at {place}: ");
        let lines = self.account.lines();
        lines
            .filter_map(|line| Some(line.split_once(&start)?.1.trim()))
            .collect()
    }

    /// Fails unless each access that was refused to L3 stands in the log of L2's kernel, with its source, its PASID and, if one
    /// is given, this reason. How many there were.
    pub fn refusals_are_logged(&self, reason: Option<&str>) -> Result<usize> {
        let stdout = &self.console.stdout;
        let device = said_after(&self.account, "outer: device ").context("L2 has no device")?;
        let refused = self
            .account
            .lines()
            .filter_map(|line| line.split_once("DMATEST refused ")?.1.rsplit_once(" at "));
        let mut count = 0;
        for (request, page) in refused {
            count += 1;
            let page = page.trim();
            let reason = reason.unwrap_or("0x");
            let line = format!(
                "DMAR: {request} Request device [{device}] fault addr {page} [fault reason {reason}"
            );
            if !stdout.contains(&line) {
                bail!("L2's kernel did not log '{line}'");
            }
        }
        Ok(count)
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

/// What `remora ctl stats --json`, or `dump`, of the inner Remora says of passed-through devices.
pub fn passed_through(json: &str) -> Result<Value> {
    let value: Value =
        serde_json::from_str(json.trim()).with_context(|| format!("not JSON: {json}"))?;
    Ok(value["parts"]["passthrough"].clone())
}

/// The rest of the first line that holds `start`.
fn said_after<'a>(console: &'a str, start: &str) -> Option<&'a str> {
    let mut lines = console.lines();
    lines.find_map(|line| Some(line.split_once(start)?.1.trim()))
}
