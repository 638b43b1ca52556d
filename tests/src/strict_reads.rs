// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a virtual IOMMU costs a strict guest that reads L1's NVMe: under Remora and under QEMU, each with and without, the same
//! kernel, the same program, one after the other in the same L1.
//!
//! Only ratios mean anything: times are those of an emulated processor. What else the machine does makes them longer and never
//! shorter, so of several rounds the least times count.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::evidence::Report;
use crate::host_device::HostDevice;
use crate::images::Guest;
use crate::lab::{Ended, Lab};
use crate::remora::Remora;
use crate::session::in_l1;

/// Works of `guest-tools blktime`, and how often each is done.
const WORKS: [(&str, u32); 3] = [("small", 1000), ("contiguous", 100), ("scattered", 60)];

/// The first of them with two exits to the monitor besides.
const EXITS: (&str, u32) = ("exits", 1000);

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
    /// Nanoseconds of a small read under Remora without a unit.
    small_time: f64,
    /// The same with two exits to the monitor besides.
    exits_time: f64,
    /// What Remora with a unit counted for each read.
    pub per_read: Counted,
}

/// What Remora counts for passed-through devices.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Mappings that the host was given.
    pub runs: f64,
    /// Batches of invalidations, each of which is an exit to the monitor.
    pub batches: f64,
    /// Nanoseconds in calls of the host.
    pub host_time: f64,
}

impl Figures {
    /// Nanoseconds that a unit adds to a read: Remora's, QEMU's.
    fn extra(&self) -> [f64; 2] {
        let [remora, remora_strict, qemu, qemu_strict] = self.times;
        [remora_strict - remora, qemu_strict - qemu]
    }

    /// Remora's extra time as a part of QEMU's.
    pub fn ratio(&self) -> f64 {
        let [remora, qemu] = self.extra();
        remora / qemu
    }

    /// The time that the exits take by themselves, with nothing done about an invalidation, as a part of QEMU's extra time: no
    /// monitor with as many exits has a better ratio.
    pub fn exits_alone(&self) -> f64 {
        let [_, qemu] = self.extra();
        self.exits() / qemu
    }

    /// The same with the time in calls of the host, which is a mean.
    pub fn exits_and_host(&self) -> f64 {
        let [_, qemu] = self.extra();
        (self.exits() + self.per_read.host_time) / qemu
    }

    /// Nanoseconds that the exits of a read take.
    fn exits(&self) -> f64 {
        (self.exits_time - self.small_time) / 2.0 * self.per_read.batches
    }

    /// Takes the times of another round that are better.
    fn improve(&mut self, other: &Self) {
        for (time, other) in self.times.iter_mut().zip(other.times) {
            *time = time.min(other);
        }
        self.small_time = self.small_time.min(other.small_time);
        self.exits_time = self.exits_time.min(other.exits_time);
        self.per_read.host_time = self.per_read.host_time.min(other.per_read.host_time);
    }
}

impl Counted {
    fn read(report: &Report) -> Result<Self> {
        let counters = report.passthrough()?;
        let number = |value: &Value| {
            let value = value.as_f64();
            value.with_context(|| format!("a counter is missing: {counters}"))
        };
        Ok(Self {
            runs: number(&counters["calls"]["map"])?,
            batches: number(&counters["batches"])?,
            host_time: number(&counters["times"]["total_ns"])?,
        })
    }

    /// For each of so many reads since `before`.
    fn each(&self, before: &Self, reads: u32) -> Self {
        let each = |after, before| (after - before) / f64::from(reads);
        Self {
            runs: each(self.runs, before.runs),
            batches: each(self.batches, before.batches),
            host_time: each(self.host_time, before.host_time),
        }
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
    let before = Counted::read(&Report::read(lab, "nothing.json")?)?;
    let mut figures = round(lab, nvme, &before, 0)?;
    for number in 1..rounds {
        for (best, other) in figures.iter_mut().zip(round(lab, nvme, &before, number)?) {
            best.improve(&other);
        }
    }
    Ok(figures)
}

/// All kinds of reads, under each VMM with a unit and without. `before` is what booting takes.
fn round(lab: &mut Lab<'_>, nvme: &str, before: &Counted, round: u32) -> Result<Vec<Figures>> {
    let all = initrd(lab, "all", &WORKS)?;
    let and_exits = [&[EXITS][..], &WORKS].concat();
    let and_exits = initrd(lab, "and-exits", &and_exits)?;
    let job = |name: &str| format!("{name}-{round}");
    let plain = remora(lab, &job("remora"), nvme, &and_exits, &["--iommu", "off"])?;
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
        let after = Counted::read(&Report::read(lab, &result)?)?;
        let time = |ended: &Ended| nanoseconds(ended, name);
        figures.push(Figures {
            work: name,
            times: [
                time(&plain)?,
                time(&strict)?,
                time(&qemu_plain)?,
                time(&qemu_strict)?,
            ],
            small_time: nanoseconds(&plain, "small")?,
            exits_time: nanoseconds(&plain, EXITS.0)?,
            per_read: after.each(before, count + WARM),
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

/// The figures side by side, for people. Host calls are a mean, all other times are good ones.
pub fn table(figures: &[Figures]) -> String {
    let mut text = format!(
        "{:<10} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>9} {:>10} {:>8}\n",
        "read",
        "remora us",
        "strict us",
        "qemu us",
        "strict us",
        "ratio",
        "exits",
        "runs/read",
        "exits/read",
        "host us"
    );
    for figure in figures {
        let [remora, remora_strict, qemu, qemu_strict] = figure.times.map(|time| time / 1e3);
        let Counted {
            runs,
            batches,
            host_time,
        } = figure.per_read;
        text += &format!(
            "{:<10} {remora:>9.0} {remora_strict:>9.0} {qemu:>9.0} {qemu_strict:>9.0} {:>6.2} {:>6.2} {runs:>9.1} {batches:>10.1} \
             {:>8.0}\n",
            figure.work,
            figure.ratio(),
            figure.exits_alone(),
            host_time / 1e3
        );
    }
    text
}
