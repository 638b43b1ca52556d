// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Binds and unbinds PASIDs in random order, from all of the guest's processors at a time, with checked DMA in between:
//! `dmatest churn ROUNDS SEED`.
//!
//! Each processor has PASIDs of its own, address spaces of its own, which it replaces now and then, and spaces that it shares with
//! all others. Three times the program waits, so that somebody outside can look: before the first bind ("begin"), after the last
//! one with whatever is bound then and the kernel's tables printed ("rest"), and when nothing is bound any more ("end").

mod worker;

use std::sync::Mutex;
use std::thread;
use std::{fmt, fs};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::driver::{Command, DEVICE, Dmatest, VENDOR};
use super::refusals::Mode;
use super::setup::Setup;
use super::space::{FOR_PASIDS, IOVA};
use super::turns;
use crate::iommufd::{Iommufd, ObjectId};
use crate::memory::{Memory, PAGE, PAGE_BYTES};
use crate::pci::Function;
use crate::vfio::cdev::Cdev;
use worker::Worker;

/// PASIDs: many of two tables, and one of each of two others.
const PASIDS: [std::ops::RangeInclusive<u32>; 4] = [
    1..=40,
    0x8001..=0x8006,
    0x3_ffff..=0x3_ffff,
    0xf_ffff..=0xf_ffff,
];

/// Spaces that all processors use.
const SHARED: usize = 4;

/// Where this machine's kernel shows its tables.
const TABLES: &str = "/sys/kernel/debug/iommu/intel";

/// An address space with one page.
struct Space {
    ioas: ObjectId,
    hwpt: ObjectId,
    /// Offset of the page in the memory of all.
    offset: usize,
}

/// What all processors use.
struct Bench {
    iommufd: Iommufd,
    cdev: Cdev,
    device: Mutex<Dmatest>,
    memory: Memory,
    shared: Vec<Space>,
}

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    binds: u64,
    moves: u64,
    unbinds: u64,
    spaces: u64,
    checked: u64,
    refused: u64,
}

/// Runs `dmatest churn ROUNDS SEED`.
pub fn run(rounds: u64, seed: u64) -> Result<String> {
    let processors = thread::available_parallelism()?.get();
    if processors < 2 {
        bail!("there is one processor only");
    }
    println!("CHURN seed {seed}");
    let mut bench = Bench::new(processors)?;
    bench.warm_up()?;
    turns::wait_at("begin")?;

    for number in 0..SHARED {
        let space = bench.space(number * PAGE)?;
        bench.shared.push(space);
    }
    let workers = bench.churn(processors, rounds, seed)?;
    show(&bench, &workers)?;
    turns::wait_at("rest")?;

    let mut counts = Counts::default();
    for worker in workers {
        counts += worker.end(&bench)?;
    }
    for space in std::mem::take(&mut bench.shared) {
        bench.give_up(&space)?;
    }
    turns::wait_at("end")?;
    Ok(format!(
        "{rounds} binds and unbinds of {} PASIDs by {processors} processors, {counts}",
        pasids().count()
    ))
}

fn pasids() -> impl Iterator<Item = u32> {
    PASIDS.into_iter().flatten()
}

/// Prints what this machine's kernel has for the device: its PASID entries, and the tables of each PASID that is bound.
fn show(bench: &Bench, workers: &[Worker]) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let id = Function::find(VENDOR, DEVICE)?.id;
    let mut bound: Vec<u32> = workers.iter().flat_map(Worker::bound).collect();
    bound.sort_unstable();
    if bound.is_empty() {
        bail!("nothing is bound at the end, so that there is nothing to compare");
    }
    // Segments are left out there.
    let name = id.split_once(':').map_or(id.as_str(), |(_, name)| name);
    println!("ENTRIES of {id}");
    let entries = read(&format!("{TABLES}/dmar_translation_struct"))?;
    for line in entries.lines().filter(|line| line.starts_with(name)) {
        println!("{line}");
    }
    for pasid in &bound {
        let tables = read(&format!(
            "{TABLES}/{id}/{pasid:x}/domain_translation_struct"
        ))?;
        // Without the heading.
        for line in tables.lines().filter(|line| !line.starts_with("IOVA_PFN")) {
            println!("{line}");
        }
    }
    println!("TABLES end");
    println!(
        "{} PASIDs are bound, to {} shared spaces and others",
        bound.len(),
        bench.shared.len()
    );
    Ok(())
}

impl Bench {
    fn new(processors: usize) -> Result<Self> {
        let setup = Setup::new(Mode::Passed)?;
        let pages = SHARED + processors * worker::SPACES;
        Ok(Self {
            iommufd: setup.iommufd,
            cdev: setup.cdev,
            device: Mutex::new(setup.device),
            memory: Memory::new(pages * PAGE)?,
            shared: Vec::new(),
        })
    }

    /// Binds each PASID once and unbinds it, so that kernels have made the PASID tables that they never give up.
    fn warm_up(&self) -> Result<()> {
        let space = self.space(0)?;
        for pasid in pasids() {
            self.bind(pasid, &space)?;
            self.unbind(pasid)?;
        }
        self.give_up(&space)
    }

    fn space(&self, offset: usize) -> Result<Space> {
        let ioas = self.iommufd.ioas()?;
        let part = offset as u64..offset as u64 + PAGE_BYTES;
        let mapped = self.iommufd.map_part(ioas, &self.memory, part, IOVA, true);
        mapped.context("mapping a page")?;
        let hwpt = self.iommufd.hwpt(self.cdev.id, ioas, &FOR_PASIDS);
        let hwpt = hwpt.context("making a HWPT")?;
        Ok(Space { ioas, hwpt, offset })
    }

    fn give_up(&self, space: &Space) -> Result<()> {
        for id in [space.hwpt, space.ioas] {
            self.iommufd.destroy(id).context("giving up a space")?;
        }
        Ok(())
    }

    fn bind(&self, pasid: u32, space: &Space) -> Result<()> {
        let bound = self.cdev.attach(Some(pasid), space.hwpt);
        bound.with_context(|| format!("binding PASID {pasid:#x}"))
    }

    fn unbind(&self, pasid: u32) -> Result<()> {
        let unbound = self.cdev.detach(Some(pasid));
        unbound.with_context(|| format!("unbinding PASID {pasid:#x}"))
    }

    /// Has all processors do their part of `rounds`.
    fn churn(&self, processors: usize, rounds: u64, seed: u64) -> Result<Vec<Worker>> {
        let parts = processors as u64;
        let work = |number: usize| -> Result<Worker> {
            let mut processor = CpuSet::new();
            processor.set(number);
            sched_setaffinity(None, &processor).context("choosing a processor")?;
            let own = pasids().skip(number).step_by(processors).collect();
            let mut worker = Worker::new(self, number, own, seed)?;
            let part = rounds / parts + u64::from((number as u64) < rounds % parts);
            for round in 0..part {
                let done = worker.round(self, round);
                done.with_context(|| format!("in round {round} of processor {number}"))?;
            }
            Ok(worker)
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..processors)
                .map(|number| scope.spawn(move || work(number)))
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(worker) => worker,
                Err(_) => Err(anyhow!("a thread panicked")),
            });
            joined.collect()
        })
    }

    /// Has the device write with this PASID: to the page of `space`, or nowhere if there is none.
    fn check(
        &self,
        pasid: u32,
        space: Option<&Space>,
        value: u64,
        counts: &mut Counts,
    ) -> Result<()> {
        // Others write to shared pages too, each while it has the device.
        let mut device = self
            .device
            .lock()
            .map_err(|_| anyhow!("a thread panicked"))?;
        let write = Command::fill(IOVA, 64, value).pasid(Some(pasid));
        let Some(space) = space else {
            counts.refused += 1;
            return device.blocked(&write);
        };
        counts.checked += 1;
        device.done(&write)?;
        let found = self.memory.check_word(space.offset + 56, value);
        found.with_context(|| format!("the page of PASID {pasid:#x}"))
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.binds += more.binds;
        self.moves += more.moves;
        self.unbinds += more.unbinds;
        self.spaces += more.spaces;
        self.checked += more.checked;
        self.refused += more.refused;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            binds,
            moves,
            unbinds,
            spaces,
            checked,
            refused,
        } = self;
        write!(
            f,
            "{binds} binds, {moves} moves, {unbinds} unbinds, {spaces} spaces renewed, {checked} writes checked, {refused} refused"
        )
    }
}
