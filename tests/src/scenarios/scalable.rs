// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Scalable mode with one stage, the other, and five levels: a disk and a network card do checked I/O through it, and the
//! guest's kernel and the unit's counters say which tables that went through.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::evidence::{UNIT_TAKEN_OVER, registers};
use crate::lab::{Ended, Lab};
use crate::scenario::{Scenario, Verdict};
use crate::traffic::Traffic;

pub const SECOND_STAGE: Scenario = Scenario {
    name: "scalable-second-stage",
    about: "scalable mode with second-stage tables alone: disk and network, checked on both sides",
    limit: Duration::from_secs(300),
    run: |lab| run(lab, &[SECOND, NARROW_SECOND]),
};

pub const FIRST_STAGE: Scenario = Scenario {
    name: "scalable-first-stage",
    about: "scalable mode with first-stage tables alone: disk and network, checked on both sides",
    limit: Duration::from_secs(300),
    run: |lab| run(lab, &[FIRST, NARROW_FIRST]),
};

pub const FIVE_LEVEL: Scenario = Scenario {
    name: "five-level",
    about: "addresses of 57 bits: Linux builds five-level tables of either stage, a disk and a network card use them",
    limit: Duration::from_secs(300),
    run: |lab| run(lab, &[FIVE_FIRST, FIVE_SECOND]),
};

/// What is offered, and what must come of it.
struct Mode {
    name: &'static str,
    iommu: &'static str,
    /// Added to the kernel's command line.
    cmdline: &'static str,
    cap: &'static [Field],
    ecap: &'static [Field],
    /// PGTT of every PASID entry.
    pgtt: u64,
    /// The only walks that there may be.
    walks: &'static str,
    /// Levels of the tables.
    levels: u32,
    /// Bits of the addresses that the devices were given.
    address_bits: u32,
    /// What the kernel invalidates at the end of each mapping or, in its lazy mode, now and then.
    invalidations: (&'static str, u64),
}

/// Highest bit, lowest bit, value.
type Field = (u32, u32, u64);

/// PGTT: first stage only.
const FIRST_STAGE_ONLY: u64 = 1;
/// PGTT: second stage only.
const SECOND_STAGE_ONLY: u64 = 2;
/// The least walks: one for each extent on the disk.
const LEAST_WALKS: u64 = 512;

const SECOND: Mode = Mode {
    name: "second-stage",
    iommu: "mode=scalable,stages=second",
    cmdline: "",
    cap: &[(12, 8, 0x6), (21, 16, 47), (60, 60, 0)],
    ecap: &[(43, 43, 1), (46, 46, 1), (47, 47, 0), (48, 48, 1)],
    pgtt: SECOND_STAGE_ONLY,
    walks: "second_stage_walks",
    levels: 4,
    address_bits: 32,
    invalidations: ("iotlb_invalidations", 10),
};

/// With 39 bits, the window of 64-bit BARs takes everything from 64 GiB on, and no device is given addresses there.
const BELOW_WINDOW_BITS: u32 = 36;

/// As little as can be had, strict: each mapping is invalidated for itself, and so is each that is new, in caching mode.
const NARROW_SECOND: Mode = Mode {
    name: "narrow-second-stage",
    iommu: "mode=scalable,stages=second,aw=39,caching-mode=on,pasid-bits=0,dirty=off",
    cmdline: "iommu.strict=1 iommu.forcedac=1",
    cap: &[(7, 7, 1), (12, 8, 0x6), (21, 16, 38)],
    ecap: &[(40, 40, 0), (43, 43, 1), (45, 45, 0), (47, 46, 1)],
    address_bits: BELOW_WINDOW_BITS,
    invalidations: ("page_invalidations", 2 * LEAST_WALKS),
    ..SECOND
};

const FIRST: Mode = Mode {
    name: "first-stage",
    iommu: "mode=scalable,stages=first",
    cmdline: "",
    cap: &[(12, 8, 0x6), (21, 16, 47), (60, 60, 0)],
    ecap: &[(43, 43, 1), (46, 46, 0), (47, 47, 1), (48, 48, 1)],
    pgtt: FIRST_STAGE_ONLY,
    walks: "first_stage_walks",
    levels: 4,
    address_bits: 32,
    invalidations: ("pasid_iotlb_invalidations", 10),
};

const NARROW_FIRST: Mode = Mode {
    name: "narrow-first-stage",
    iommu: "mode=scalable,aw=39,caching-mode=on,nesting=off",
    cmdline: "iommu.strict=1 iommu.forcedac=1",
    cap: &[(7, 7, 1), (12, 8, 0x6), (21, 16, 38)],
    ecap: &[(26, 26, 0), (43, 43, 1), (47, 46, 3)],
    address_bits: BELOW_WINDOW_BITS,
    invalidations: ("pasid_iotlb_invalidations", 2 * LEAST_WALKS),
    ..FIRST
};

/// `iommu.forcedac=1`: addresses are given out from the top and not from below 4 GiB.
const FIVE_FIRST: Mode = Mode {
    name: "five-level-first-stage",
    iommu: "mode=scalable,aw=57",
    cmdline: "iommu.forcedac=1",
    cap: &[(12, 8, 0xe), (21, 16, 56), (60, 60, 1)],
    ecap: &[(43, 43, 1), (46, 46, 1), (47, 47, 1), (48, 48, 1)],
    levels: 5,
    address_bits: 56,
    ..FIRST
};

const FIVE_SECOND: Mode = Mode {
    name: "five-level-second-stage",
    iommu: "mode=scalable,aw=57,stages=second",
    cap: &[(12, 8, 0xe), (21, 16, 56), (60, 60, 0)],
    pgtt: SECOND_STAGE_ONLY,
    walks: "second_stage_walks",
    ecap: SECOND.ecap,
    address_bits: 57,
    invalidations: SECOND.invalidations,
    ..FIVE_FIRST
};

/// The tables as the kernel sees them: the PASID entries of every device, and the mappings of the disk and of the card.
const SCRIPT: &str = r#"
cd /sys/kernel/debug/iommu/intel
sed -n 's/^\(00:.*\)/pasid-entry \1/p' dmar_translation_struct
for device in /sys/block/vda/device /sys/class/net/eth0/device; do
    bdf=$(basename $(dirname $(readlink -f $device)))
    echo "domain-type $(cat /sys/bus/pci/devices/$bdf/iommu_group/type)"
    sed -n 's/^0x\([0-9a-f]*\) |.*/mapped \1/p' $bdf/domain_translation_struct | sed -n '1p;$p'
done
"#;

fn run(lab: &mut Lab<'_>, modes: &[Mode]) -> Result<Verdict> {
    for mode in modes {
        check(lab, mode).with_context(|| format!("--iommu {}", mode.iommu))?;
    }
    Ok(Verdict::Pass)
}

fn check(lab: &mut Lab<'_>, mode: &Mode) -> Result<()> {
    let traffic = Traffic {
        name: mode.name,
        cmdline: mode.cmdline,
        args: &["--iommu", mode.iommu],
        disk_port: "",
        net_port: "",
        script: SCRIPT,
        taken_over: UNIT_TAKEN_OVER,
    };
    let (console, report) = traffic.run(lab)?;
    check_registers(&console, mode)?;
    check_entries(&console, mode)?;
    check_addresses(&console, mode)?;
    let (name, least) = mode.invalidations;
    report
        .expect_at_least("pasid_misses", 2)?
        .expect_at_least(name, least)?;
    for kind in ["first_stage_walks", "second_stage_walks", "nested_walks"] {
        let count = report.counter(kind)?;
        let is_right = if kind == mode.walks {
            count >= LEAST_WALKS
        } else {
            count == 0
        };
        if !is_right {
            bail!("the unit counted {count} {kind}: {report:?}");
        }
    }
    let walks = report.counter(mode.walks)?;
    let expected = if mode.levels == 5 { walks } else { 0 };
    if report.counter("five_level_walks")? != expected {
        bail!("{expected} of the walks were to have five levels: {report:?}");
    }
    Ok(())
}

fn check_registers(console: &Ended, mode: &Mode) -> Result<()> {
    let (cap, ecap) = registers(console, 0)?;
    let fields = mode.cap.iter().map(|field| ("CAP", cap, field));
    for (name, register, (high, low, value)) in
        fields.chain(mode.ecap.iter().map(|field| ("ECAP", ecap, field)))
    {
        let seen = register >> low & ((1 << (high - low + 1)) - 1);
        if seen != *value {
            bail!("{name} bits {high}:{low} are {seen:#x}, not {value:#x}: {register:#x}");
        }
    }
    Ok(())
}

/// The kernel wrote PASID entries of the right kind for the host bridge, the disk and the card: present (bit 0 of the first
/// word), PGTT (bits 8:6 of it), FSPM (bits 3:2 of the third).
fn check_entries(console: &Ended, mode: &Mode) -> Result<()> {
    let mut count = 0;
    for line in lines_after(console, "pasid-entry ") {
        let entry = line.split_whitespace().next_back().unwrap_or_default();
        let words: Vec<u64> = entry
            .split(':')
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16))
            .collect::<Result<_, _>>()?;
        let [third, _, first] = words[..] else {
            bail!("no PASID entry: {line}");
        };
        let five_levels = u64::from(mode.levels == 5 && mode.pgtt == FIRST_STAGE_ONLY);
        if (first & 1, first >> 6 & 7, third >> 2 & 3) != (1, mode.pgtt, five_levels) {
            bail!("the kernel wrote an entry of another kind: {line}");
        }
        count += 1;
    }
    if count != 3 {
        bail!("the kernel shows {count} PASID entries, not those of 3 devices");
    }
    Ok(())
}

/// Addresses are given out from the top of what the tables' width (half of it with first-stage tables) and the window of the
/// BARs leave, where the kernel was told so, and below 4 GiB otherwise.
fn check_addresses(console: &Ended, mode: &Mode) -> Result<()> {
    let mut count = 0;
    for line in lines_after(console, "mapped ") {
        let address = u64::from_str_radix(line.trim(), 16)? << 12;
        let bits = 64 - address.leading_zeros();
        if bits != mode.address_bits {
            bail!("{address:#x} has {bits} bits, not {}", mode.address_bits);
        }
        count += 1;
    }
    let domains = lines_after(console, "domain-type DMA").count();
    if (count, domains) != (4, 2) {
        bail!("the kernel shows {count} mappings in {domains} domains, not 4 in 2");
    }
    Ok(())
}

fn lines_after<'a>(console: &'a Ended, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = console.stdout.lines();
    lines.filter_map(move |line| line.strip_prefix(prefix))
}
