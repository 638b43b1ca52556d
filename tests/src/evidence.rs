// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What several scenarios take as evidence: that a guest's kernel took the unit over, and what the unit counted.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::lab::{Ended, Lab};

/// Lines by which Linux 7 says that DMA and interrupts go through the unit at the address that Remora gives it.
pub const UNIT_TAKEN_OVER: &[&str] = &[
    "DMAR: Host address width ",
    "DMAR: DRHD base: 0x000000fed90000 flags: 0x1",
    "DMAR: dmar0: reg_base_addr fed90000 ver ",
    "DMAR-IR: IOAPIC id 0 under DRHD base  0xfed90000 IOMMU 0",
    "DMAR-IR: Queued invalidation will be enabled to support x2apic and Intr-remapping.",
    "DMAR-IR: Enabled IRQ remapping in x2apic mode",
    "DMAR: dmar0: Using Queued invalidation",
    "DMAR: Intel(R) Virtualization Technology for Directed I/O",
];

/// Fails unless the guest's kernel took the unit over and its script came to its end without a failure.
pub fn guest_did_well(console: &Ended) -> Result<()> {
    guest_did_well_saying(console, UNIT_TAKEN_OVER)
}

/// As [`guest_did_well`], with `lines` in place of those that tell of one unit.
pub fn guest_did_well_saying(console: &Ended, lines: &[&str]) -> Result<()> {
    console.expect_status(0)?;
    for line in lines {
        console.expect(line)?;
    }
    console.expect("guest: script ended with status 0")?;
    Ok(())
}

/// CAP and ECAP of unit `number` as the guest's kernel read them.
pub fn registers(console: &Ended, number: u32) -> Result<(u64, u64)> {
    let unit = format!("DMAR: dmar{number}: reg_base_addr ");
    let line = console
        .stdout
        .lines()
        .find_map(|line| Some(line.split_once(&unit)?.1));
    let line = line.with_context(|| format!("the kernel knows no dmar{number}"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [_, "ver", _, "cap", cap, "ecap", ecap] => Ok((
            u64::from_str_radix(cap, 16)?,
            u64::from_str_radix(ecap, 16)?,
        )),
        _ => bail!("the kernel says of dmar{number}: {line}"),
    }
}

/// What Remora's `--result` file says.
#[derive(Debug)]
pub struct Report(Value);

impl Report {
    /// The file `name` of the scenario's directory.
    pub fn read(lab: &Lab<'_>, name: &str) -> Result<Self> {
        let path = lab.dir().join(name);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("reading the result {}", path.display()))?;
        let value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        Ok(Self(value))
    }

    /// What it says of unit `number` of several.
    pub fn of_unit(&self, number: usize) -> Result<Self> {
        match &self.0["unit"]["units"][number] {
            Value::Null => bail!("no unit {number} in {}", self.0),
            unit => Ok(Self(json!({ "unit": unit }))),
        }
    }

    /// One of the unit's counters.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let value = self.0["unit"][name].as_u64();
        value.with_context(|| format!("no counter '{name}' in {}", self.0))
    }

    /// What the mirror of passed-through devices counted.
    pub fn passthrough(&self) -> Result<&Value> {
        match &self.0["unit"]["passthrough"] {
            Value::Null => bail!("nothing of passed-through devices in {}", self.0),
            numbers => Ok(numbers),
        }
    }

    /// How often the unit blocked something for this reason, by its code.
    pub fn faults(&self, reason: &str) -> u64 {
        let count = self.0["unit"]["faults_by_reason"][reason].as_u64();
        count.unwrap_or_default()
    }

    /// Fails unless the unit counted at least `least`.
    pub fn expect_at_least(&self, name: &str, least: u64) -> Result<&Self> {
        let count = self.counter(name)?;
        if count < least {
            bail!(
                "the unit counted only {count} {name}, not {least}: {}",
                self.0
            );
        }
        Ok(self)
    }

    /// Fails unless the guest ended the run by itself and the unit blocked nothing.
    pub fn expect_untroubled(&self) -> Result<&Self> {
        if self.0["reason"] != "poweroff" {
            bail!("the run did not end by the guest's power-off: {}", self.0);
        }
        for name in ["faults", "queue_errors"] {
            if self.counter(name)? != 0 {
                bail!("the unit counted {name}: {}", self.0);
            }
        }
        Ok(self)
    }
}
