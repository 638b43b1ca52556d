// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! L1's unit, QEMU's, is in scalable mode and has second-stage tables only: no nesting, no first stage, no PASIDs. So a guest with L1's
//! NVMe is offered scalable mode with second-stage tables for requests without PASID, and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::vfio_nvme;
use crate::evidence::registers;
use crate::host_device::HostDevice;
use crate::lab::Lab;
use crate::remora::Remora;
use crate::scenario::{Scenario, Verdict};

pub const SCENARIO: Scenario = Scenario {
    name: "pasid-qemu-unit",
    about: "a host's unit in scalable mode without nesting and PASIDs: the guest has second-stage tables for its NVMe, nothing else",
    limit: Duration::from_secs(600),
    run,
};

/// Bits of ECAP.
const DEVICE_TLBS: u32 = 2;
const NESTING: u32 = 26;
const PAGE_REQUESTS: u32 = 29;
const SUPERVISOR_REQUESTS: u32 = 31;
const PASIDS: u32 = 40;
const SCALABLE_MODE: u32 = 43;
const DIRTY_BITS: u32 = 45;
const SECOND_STAGE: u32 = 46;
const FIRST_STAGE: u32 = 47;
/// Of CAP.
const CACHING_MODE: u32 = 7;

/// What L1's unit lacks, so that the guest's does.
const LACKING: [u32; 6] = [
    DEVICE_TLBS,
    NESTING,
    PAGE_REQUESTS,
    PASIDS,
    DIRTY_BITS,
    FIRST_STAGE,
];

/// PGTT: second stage only.
const SECOND_STAGE_ONLY: u64 = 2;

/// What the host cannot do, and the words of the answer.
const REFUSED: [(&str, &str); 4] = [
    ("mode=scalable,stages=first", "stages=first cannot be had"),
    ("mode=scalable,stages=both", "stages=both cannot be had"),
    ("mode=scalable,nesting=on", "nesting=on cannot be had"),
    ("mode=scalable,pasid-bits=1", "PASIDs of 0 bits"),
];

fn run(lab: &mut Lab<'_>) -> Result<Verdict> {
    let unit = lab.sh(
        "unit",
        "cd /sys/class/iommu/dmar0/intel-iommu && echo \"ecap $(cat ecap)\"",
    )?;
    unit.expect_status(0)?;
    let words = unit.stdout.split_whitespace().last().unwrap_or_default();
    let ecap = u64::from_str_radix(words, 16).context("L1's ECAP")?;
    expect(ecap, &[SCALABLE_MODE, SECOND_STAGE], &LACKING).context("L1's unit")?;

    let console = vfio_nvme::run(lab, "iommufd", "mode=scalable", look)?;
    let (cap, ecap) = registers(&console, 0)?;
    expect(ecap, &[SCALABLE_MODE, SECOND_STAGE], &LACKING).context("the guest's unit")?;
    expect(ecap, &[], &[SUPERVISOR_REQUESTS]).context("the guest's unit")?;
    expect(cap, &[CACHING_MODE], &[]).context("the guest's unit")?;

    let address = HostDevice::Edu.take(lab)?;
    for (number, (iommu, answer)) in REFUSED.into_iter().enumerate() {
        let remora =
            Remora::boot(&lab.kernel().bzimage).args(&["--iommu", iommu, "--vfio", &address]);
        let ended = lab.remora(&format!("refused-{number}"), &remora)?;
        ended.expect_status(3)?.expect_error(answer)?;
    }
    HostDevice::Edu.give_back(lab)?;
    Ok(Verdict::Pass)
}

/// L1's kernel has an entry of a PASID table for requests without PASID, and no other.
fn look(lab: &mut Lab<'_>, address: &str) -> Result<()> {
    let entries = lab.sh(
        "entries",
        "cat /sys/kernel/debug/iommu/intel/dmar_translation_struct",
    )?;
    entries.expect_status(0)?;
    let short = address.trim_start_matches("0000:");
    let lines = entries.stdout.lines();
    let found: Vec<(&str, &str)> = lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [device, _, _, pasid, entry] if device == short => Some((pasid, entry)),
                _ => None,
            }
        })
        .collect();
    let [("0", entry)] = found[..] else {
        bail!("PASID entries of {address} in L1: {found:?}");
    };
    let low = entry.rsplit("0x").next().unwrap_or_default();
    let low = u64::from_str_radix(low, 16).context("the lowest word")?;
    match low >> 6 & 7 {
        SECOND_STAGE_ONLY => Ok(()),
        other => bail!("L1's entry for {address} is of type {other}: {entry}"),
    }
}

fn expect(register: u64, set: &[u32], clear: &[u32]) -> Result<()> {
    for (bits, value) in [(set, 1), (clear, 0)] {
        if let Some(bit) = bits.iter().find(|bit| register >> **bit & 1 != value) {
            bail!("bit {bit} of {register:#x} is not {value}");
        }
    }
    Ok(())
}
