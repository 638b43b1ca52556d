// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1's kernel refuses what Remora asks of it, in ways that no guest and no Remora has a hand in: single ioctls fail by a seccomp
//! filter, and memory may not be locked.
//!
//! At start that ends the run, by name and with the host as it was. While a guest runs, the guest has a fault, nothing that
//! it took away is reached, the range is tried again, and the guest goes on.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::evidence::{Report, guest_did_well};
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};
use crate::session::in_l1;

pub const SCENARIO: Scenario = Scenario {
    name: "host-refuses",
    about: "ioctls of VFIO and iommufd fail at start and at run time, memory may not be locked: named, a fault, tried again",
    limit: Duration::from_secs(600),
    run,
};

/// Calls of one ioctl that fail.
struct Refusal {
    name: &'static str,
    backend: &'static str,
    request: &'static str,
    errno: i64,
    /// The first and the last call that fail.
    calls: [&'static str; 2],
}

const fn refusal(
    name: &'static str,
    backend: &'static str,
    request: &'static str,
    errno: i64,
    calls: [&'static str; 2],
) -> Refusal {
    Refusal {
        name,
        backend,
        request,
        errno,
        calls,
    }
}

const EIO: i64 = 5;
const ENOMEM: i64 = 12;
const EBUSY: i64 = 16;
const ENOSPC: i64 = 28;

/// Every call fails.
const ALWAYS: [&str; 2] = ["1", "1000000"];

/// What no run can begin with.
const AT_START: &[Refusal] = &[
    refusal("ioas-alloc", "iommufd", "0x3b81", ENOMEM, ALWAYS),
    refusal("ioas-map", "iommufd", "0x3b85", ENOMEM, ALWAYS),
    refusal("bind", "iommufd", "0x3b76", EBUSY, ALWAYS),
    refusal("attach", "iommufd", "0x3b77", EBUSY, ALWAYS),
    refusal("hwpt-alloc", "iommufd", "0x3b89", EIO, ALWAYS),
    refusal("set-iommu", "type1", "0x3b66", EBUSY, ALWAYS),
    refusal("map-dma", "type1", "0x3b71", ENOMEM, ALWAYS),
];

/// What happens while a guest maps pages and takes them away.
const AT_RUN_TIME: &[Refusal] = &[
    refusal("copy-enomem", "iommufd", "0x3b83", ENOMEM, ["6", "8"]),
    refusal("copy-eio", "iommufd", "0x3b83", EIO, ["5", "5"]),
    refusal("unmap-eio", "iommufd", "0x3b86", EIO, ["5", "6"]),
    refusal("map-dma-enospc", "type1", "0x3b71", ENOSPC, ["12", "13"]),
    refusal("unmap-dma-eio", "type1", "0x3b72", EIO, ["8", "9"]),
];

/// How many pages the guest maps.
const PAGES: usize = 12;

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let edu = HostDevice::Edu.take(lab)?;
    // What is not mapped is blocked by L1's IOMMU, whose driver says so.
    lab.allow_in_host_log("DMAR: ");
    let script = format!("guest-tools edu pages {PAGES}\n");
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    let initrd = lab.initrd("guest", &guest)?;
    let remora = |lab: &Lab<'_>, backend: &str, result: &str| {
        Remora::boot(&lab.kernel().bzimage)
            .initrd(&initrd)
            .args(&["--memory", "256M", "--result", result])
            .args(&["--vfio", &format!("{edu},backend={backend}")])
    };
    for refusal in AT_START {
        let run = remora(lab, refusal.backend, "start.json").under(&under(lab, refusal));
        let ended = lab.remora(refusal.name, &run)?;
        let last = ended.stderr.lines().last().unwrap_or_default();
        ended.expect_status(3)?;
        if !last.starts_with("remora: host: ") || !last.contains(&edu) && !last.contains("/dev/") {
            bail!(
                "{}: the last line does not name what was refused: {last}",
                refusal.name
            );
        }
        println!("{}: {last}", refusal.name);
    }
    for backend in ["iommufd", "type1"] {
        without_locked_memory(lab, backend, remora(lab, backend, "memlock.json"))?;
    }
    for refusal in AT_RUN_TIME {
        let result = format!("{}.json", refusal.name);
        let run = remora(lab, refusal.backend, &result)
            .under(&under(lab, refusal))
            .allow("DMAR: DRHD: handling fault status reg ")
            .allow("fault reason 0x");
        let console = lab.remora(refusal.name, &run)?;
        guest_did_well(&console)?;
        let report = Report::read(lab, &result)?;
        judge(refusal, &console.stdout, &report)
            .with_context(|| format!("{}: {}", refusal.name, pages(&console.stdout).join("\n")))?;
    }
    HostDevice::Edu.give_back(lab)?;
    Ok(Verdict::Pass)
}

/// The program that has calls fail, and its arguments.
fn under(lab: &Lab<'_>, refusal: &Refusal) -> Vec<String> {
    let tools = in_l1(&lab.binaries().host_tools);
    let [first, last] = refusal.calls;
    let errno = refusal.errno.to_string();
    let words = [&tools, "refuse", refusal.request, &errno, first, last];
    words.map(str::to_owned).to_vec()
}

/// A user without the right to lock memory, and with a limit below the guest's RAM.
fn without_locked_memory(lab: &mut Lab<'_>, backend: &str, remora: Remora) -> Result<()> {
    let words = ["sh", "-c", "ulimit -l 65536; exec \"$@\"", "sh"];
    let drop = [
        "/usr/bin/setpriv",
        "--bounding-set",
        "-ipc_lock",
        "--inh-caps",
        "-ipc_lock",
    ];
    let under: Vec<String> = words
        .iter()
        .chain(&drop)
        .map(|word| (*word).to_owned())
        .collect();
    let ended = lab.remora(&format!("memlock-{backend}"), &remora.under(&under))?;
    ended.expect_status(3)?;
    let stderr = ended.stderr.to_lowercase();
    if !stderr.contains("memlock") && !stderr.contains("ulimit -l") {
        bail!(
            "{backend}: the limit of locked memory is not named: {}",
            ended.stderr
        );
    }
    Ok(())
}

/// What the guest's program said.
fn pages(console: &str) -> Vec<&str> {
    let lines = console.lines().map(str::trim_end);
    lines.filter(|line| line.starts_with("PAGES ")).collect()
}

/// Some page was not reached, the guest had faults for it, and later all were; the mirror counted the error by its number.
fn judge(refusal: &Refusal, console: &str, report: &Report) -> Result<()> {
    let said = pages(console);
    if said.last() != Some(&"PAGES done") {
        bail!("the guest's program did not come to its end");
    }
    let mut lines = said.iter().skip_while(|line| !line.contains('-'));
    let lacking = lines.next().is_some();
    let well_again = lines.any(|line| line.contains('+') && !line.contains('-'));
    if !lacking || !well_again || report.counter("faults")? == 0 {
        bail!("not first a page that is not reached, with a fault, and later all: {report:?}");
    }
    let mirror = report.passthrough()?;
    let refusals = mirror["refusals"].as_array().map(Vec::as_slice);
    let is_ours = |found: &Value| found["errno"] == refusal.errno;
    if !refusals.is_some_and(|found| found.len() == 1 && found.iter().all(is_ours)) {
        bail!("the mirror did not count this error and no other: {mirror}");
    }
    Ok(())
}
