// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a virtual IOMMU costs a strict guest that reads L1's NVMe: under Remora and under QEMU, each with and without, the same
//! kernel, the same program, one after the other in the same L1.
//!
//! Only ratios mean anything: times are those of an emulated processor. What else the machine does makes them longer and never
//! shorter, so of several rounds the least times count.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::evidence::Report;
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::session::in_l1;

/// Works of `guest-tools blktime`, and how often each is done.
const WORKS: [(&str, u32); 3] = [("small", 1000), ("contiguous", 100), ("scattered", 60)];

/// Reads of each kind that `blktime` does not count.
const WARM: u32 = 10;

/// Every guest's kernel command line.
const CMDLINE: &str = "console=ttyS0";

/// By this the kernel of a guest says that it unmaps and invalidates before it goes on.
const STRICT: &str = "DMAR: IOMMU batching disallowed due to virtualization";

/// One kind of read.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Its name: small, contiguous, scattered.
    pub work: &'static str,
    /// Nanoseconds of a read: Remora without and with a unit, QEMU without and with.
    pub times: [f64; 4],
    /// Under Remora with a unit: mappings that the host was given for a read.
    pub runs_per_read: f64,
}

impl Figures {
    /// How much longer a read takes with a unit, as a part of the time without: Remora, QEMU.
    pub fn extra(&self) -> [f64; 2] {
        let [remora, remora_strict, qemu, qemu_strict] = self.times;
        [
            (remora_strict - remora) / remora,
            (qemu_strict - qemu) / qemu,
        ]
    }

    /// Remora's extra time as a part of QEMU's.
    pub fn ratio(&self) -> f64 {
        let [remora, qemu] = self.extra();
        remora / qemu
    }
}

/// Measures all kinds of reads in so many rounds.
pub fn measure(lab: &mut Lab<'_>, rounds: u32) -> Result<Vec<Figures>> {
    let nvme = HostDevice::Nvme.take(lab)?;
    let measured = with_device(lab, &nvme, rounds);
    HostDevice::Nvme.give_back(lab)?;
    measured
}

fn with_device(lab: &mut Lab<'_>, nvme: &str, rounds: u32) -> Result<Vec<Figures>> {
    // What booting costs is not counted among the reads.
    let nothing = initrd(lab, "nothing", &[])?;
    let result = ["--result", "nothing.json"];
    remora(lab, "remora-nothing", nvme, &nothing, &result)?;
    let before = mappings(&Report::read(lab, "nothing.json")?)?;
    let mut figures = round(lab, nvme, before, 0)?;
    for number in 1..rounds {
        for (best, other) in figures.iter_mut().zip(round(lab, nvme, before, number)?) {
            for (time, other) in best.times.iter_mut().zip(other.times) {
                *time = time.min(other);
            }
        }
    }
    Ok(figures)
}

/// All kinds of reads, under each VMM with a unit and without. The host was given `before` mappings for what booting takes.
fn round(lab: &mut Lab<'_>, nvme: &str, before: f64, round: u32) -> Result<Vec<Figures>> {
    let all = initrd(lab, "all", &WORKS)?;
    let job = |name: &str| format!("{name}-{round}");
    let plain = remora(lab, &job("remora"), nvme, &all, &["--iommu", "off"])?;
    let qemu_plain = qemu(lab, &job("qemu"), nvme, &all, "")?;
    let unit = "-device intel-iommu,intremap=on,caching-mode=on";
    let qemu_strict = qemu(lab, &job("qemu-strict"), nvme, &all, unit)?;
    let mut figures = Vec::new();
    for work in WORKS {
        let (name, count) = work;
        let initrd = initrd(lab, name, &[work])?;
        let result = format!("{name}-{round}.json");
        let job = job(&format!("remora-strict-{name}"));
        let strict = remora(lab, &job, nvme, &initrd, &["--result", &result])?;
        strict.expect(STRICT)?;
        let after = mappings(&Report::read(lab, &result)?)?;
        let time = |ended: &Ended| nanoseconds(ended, name);
        figures.push(Figures {
            work: name,
            times: [
                time(&plain)?,
                time(&strict)?,
                time(&qemu_plain)?,
                time(&qemu_strict)?,
            ],
            runs_per_read: (after - before) / f64::from(count + WARM),
        });
    }
    qemu_strict.expect(STRICT)?;
    Ok(figures)
}

/// A guest that does these works.
fn initrd(lab: &Lab<'_>, name: &str, works: &[(&str, u32)]) -> Result<PathBuf> {
    let works = works
        .iter()
        .map(|(work, count)| format!("guest-tools blktime /dev/nvme0n1 {work} {count}\n"));
    let script = format!(
        "set -e\necho 4 >/proc/sys/vm/nr_hugepages\n{}echo \"all done\"\n",
        works.collect::<String>()
    );
    let guest = Guest::script(&script).file("bin/guest-tools", &lab.binaries().guest_tools.clone());
    lab.initrd(name, &guest)
}

fn remora(
    lab: &mut Lab<'_>,
    name: &str,
    nvme: &str,
    initrd: &Path,
    args: &[&str],
) -> Result<Ended> {
    let remora = Remora::boot(&lab.kernel().bzimage)
        .initrd(initrd)
        .cmdline(CMDLINE)
        .args(&["--memory", "512M", "--vfio", nvme])
        .args(args);
    let ended = lab.remora(name, &remora)?;
    ended.expect_status(0)?.expect("all done")?;
    Ok(ended)
}

fn qemu(lab: &mut Lab<'_>, name: &str, nvme: &str, initrd: &Path, unit: &str) -> Result<Ended> {
    let qemu = format!(
        "qemu-system-x86_64 -accel kvm -machine q35,kernel-irqchip=split -cpu host,-xsave -m 512M \
         -nodefaults -display none -no-reboot -serial stdio {unit} -device vfio-pci,host={nvme} \
         -kernel {} -initrd {} -append '{CMDLINE}'",
        in_l1(&lab.kernel().bzimage),
        in_l1(initrd),
    );
    let ended = lab.sh(name, &qemu)?;
    ended.expect_status(0)?.expect("all done")?;
    Ok(ended)
}

/// What `guest-tools blktime` said of a work.
fn nanoseconds(ended: &Ended, work: &str) -> Result<f64> {
    let start = format!("BLKTIME {work} ");
    let mut lines = ended.stdout.lines();
    let time = lines.find_map(|line| line.trim_end().strip_prefix(&start)?.parse().ok());
    time.with_context(|| format!("'{start}' is missing: {}", ended.stdout))
}

/// How many mappings the host was given.
fn mappings(report: &Report) -> Result<f64> {
    let mapped = report.passthrough()?["calls"]["map"].as_u64();
    let mapped = mapped.context("no count of mappings")?;
    Ok(f64::from(u32::try_from(mapped)?))
}

/// The figures side by side, for people.
pub fn table(figures: &[Figures]) -> String {
    let mut text = format!(
        "{:<12} {:>11} {:>11} {:>7} {:>11} {:>11} {:>7} {:>6} {:>10}\n",
        "read",
        "remora us",
        "strict us",
        "extra",
        "qemu us",
        "strict us",
        "extra",
        "ratio",
        "runs/read"
    );
    for figure in figures {
        let [remora, remora_strict, qemu, qemu_strict] = figure.times.map(|time| time / 1e3);
        let [extra, qemu_extra] = figure.extra();
        text += &format!(
            "{:<12} {remora:>11.0} {remora_strict:>11.0} {extra:>7.2} {qemu:>11.0} {qemu_strict:>11.0} {qemu_extra:>7.2} {:>6.2} {:>10.1}\n",
            figure.work,
            figure.ratio(),
            figure.runs_per_read
        );
    }
    text
}
