// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guests that drive dmatest from user space: `guest-tools dmatest`, once or several times in one guest, and what must be true
//! of every such run.

use anyhow::{Context, Result, bail};

use crate::evidence::{Report, guest_did_well};
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;

/// How a fault begins in the guest's log.
const FAULT: &str = "Request device [";

/// One guest.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Names the job, and its result file.
    pub name: &'a str,
    /// What `--iommu` is given.
    pub iommu: &'a str,
    /// The machine's other options, among them dmatest.
    pub machine: &'a [&'a str],
    /// The arguments of `guest-tools dmatest`, one use after another.
    pub uses: &'a [&'a str],
}

impl Run<'_> {
    /// Boots it. Each use must come to its end, and what the kernel logged, what the unit counted and what the program had
    /// refused must be equally many faults. The guest's console and what Remora reports.
    pub fn boot(&self, lab: &mut Lab<'_>) -> Result<(Ended, Report)> {
        let tools = lab.binaries().guest_tools.clone();
        let uses = self
            .uses
            .iter()
            .map(|uses| format!("guest-tools dmatest {uses}\n"));
        let script = format!("set -e\n{}", uses.collect::<String>());
        let guest = Guest::script(&script).file("bin/guest-tools", &tools);
        let initrd = lab.initrd(self.name, &guest)?;
        let result = format!("{}.json", self.name);
        let remora = Remora::boot(&lab.kernel().bzimage)
            .initrd(&initrd)
            .args(&["--iommu", self.iommu, "--result", &result])
            .args(self.machine)
            .allow("DMAR: DRHD: handling fault status reg ")
            .allow(FAULT);
        let console = lab.remora(self.name, &remora)?;
        guest_did_well(&console)?;
        let report = Report::read(lab, &result)?;
        self.judge(&console, &report)
            .with_context(|| format!("in the guest '{}'", self.name))?;
        Ok((console, report))
    }

    fn judge(&self, console: &Ended, report: &Report) -> Result<()> {
        let mut refused = 0;
        for uses in self.uses {
            let what = uses.split(' ').next().unwrap_or_default();
            let said = said(console, what)?;
            let count = said.rsplit(", ").next();
            let count = count.and_then(|words| words.strip_suffix(" refused"));
            let count: Option<u64> = count.and_then(|number| number.parse().ok());
            refused += count.with_context(|| format!("no number of refusals in '{said}'"))?;
        }
        let logged = console.stdout.matches(FAULT).count() as u64;
        let counted = report.counter("faults")?;
        if (logged, counted) != (refused, refused) {
            bail!("{refused} accesses were refused, {logged} logged and {counted} counted");
        }
        if report.counter("queue_errors")? != 0 {
            bail!("the unit met errors in its queue: {report:?}");
        }
        Ok(())
    }
}

/// What a use of dmatest said at its end.
pub fn said<'a>(console: &'a Ended, what: &str) -> Result<&'a str> {
    let start = format!("DMATEST ok {what}: ");
    let line = console.stdout.lines().find_map(|line| {
        let at = line.find(&start)?;
        Some(line[at + start.len()..].trim())
    });
    line.with_context(|| format!("'{start}' is missing from the console"))
}
