// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether the host's tables for a passed-through device hold what the guest's say, to the page: the guest's as the guest's own
//! kernel printed them, the host's as the host's kernel shows them, and between the two the pages of the process that is the
//! guest's RAM.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use vfio::pci_address::PciAddress;

use crate::check::same;
use crate::oracle::{self, Pages};

const PAGE: u64 = 4096;
/// What the guest prints before and after its tables.
const BEGIN: &str = "TABLES begin";
const END: &str = "TABLES end";
/// How the process says where it has guest RAM.
const RAM: &str = "guest RAM: ";

/// Runs `mirrored PID BDF CONSOLE LOG`.
pub fn run(process: &str, device: PciAddress, console: &str, log: &str) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let console = read(console)?;
    let (_, tables) = console
        .split_once(BEGIN)
        .context("the guest printed no tables")?;
    let (tables, _) = tables.split_once(END).context("the tables have no end")?;
    let guest = oracle::parse(tables)?;
    let memory = Memory::new(process, &read(log)?)?;
    let mut wanted = Pages::new();
    for (iova, (gpa, read, write)) in &guest.pages {
        wanted.insert(*iova, (memory.physical(*gpa)?, *read, *write));
    }
    let host = oracle::mapped(device)?;
    println!(
        "guest: {} pages in {} leaves; host: {} pages in {} leaves",
        guest.pages.len(),
        guest.leaves,
        host.pages.len(),
        host.leaves
    );
    println!("RUNS {}", runs(&guest.pages));
    same("the guest maps something", &wanted.is_empty(), &false)?;
    compare("tables", &wanted, &host.pages)?;
    println!("MIRRORED ok {} pages", wanted.len());
    Ok(())
}

/// Fails unless the host has what is wanted, and nothing else.
pub fn compare(what: &str, wanted: &Pages, host: &Pages) -> Result<()> {
    same(
        &format!("{what}: pages missing on the host"),
        &difference(wanted, host),
        &None,
    )?;
    same(
        &format!("{what}: pages too many on the host"),
        &difference(host, wanted),
        &None,
    )
}

/// How many contiguous pieces with equal rights there are.
fn runs(pages: &Pages) -> usize {
    let mut runs = 0;
    let mut next = None;
    for (iova, (gpa, read, write)) in pages {
        if next != Some((*iova, *gpa, *read, *write)) {
            runs += 1;
        }
        next = Some((iova + PAGE, gpa + PAGE, *read, *write));
    }
    runs
}

/// The first page of `these` that `those` do not have so.
fn difference(these: &Pages, those: &Pages) -> Option<(u64, (u64, bool, bool))> {
    let mut these = these.iter();
    let found = these.find(|(iova, page)| those.get(iova) != Some(page));
    found.map(|(iova, page)| (*iova, *page))
}

/// Another process' memory that is a guest's RAM.
pub struct Memory {
    pages: File,
    /// Guest-physical address to bytes and address in the process.
    regions: BTreeMap<u64, (u64, u64)>,
}

impl Memory {
    /// That of `process`, whose log says where it has its regions.
    pub fn new(process: &str, log: &str) -> Result<Self> {
        let path = format!("/proc/{process}/pagemap");
        let mut regions = BTreeMap::new();
        for line in log.lines().filter_map(|line| line.split_once(RAM)) {
            let numbers: Vec<u64> = line
                .1
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
                .collect();
            let &[bytes, gpa, address] = numbers.as_slice() else {
                bail!("three numbers are expected: {}", line.1);
            };
            regions.insert(gpa, (bytes, address));
        }
        Ok(Self {
            pages: File::open(&path).with_context(|| format!("opening {path}"))?,
            regions,
        })
    }

    /// Where this host has the page at `gpa`.
    pub fn physical(&self, gpa: u64) -> Result<u64> {
        let region = self.regions.range(..=gpa).next_back();
        let found = region.filter(|(start, (bytes, _))| gpa - **start < *bytes);
        let (start, (_, address)) = found.with_context(|| format!("no RAM at {gpa:#x}"))?;
        let page = (address + (gpa - start)) / PAGE;
        let mut entry = [0; 8];
        self.pages.read_exact_at(&mut entry, page * 8)?;
        let entry = u64::from_ne_bytes(entry);
        if entry >> 63 == 0 {
            bail!("the page at {gpa:#x} is not there");
        }
        Ok((entry & ((1 << 55) - 1)) * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_gaps_in_either_space_and_at_other_rights() {
        let page = |iova: u64, gpa: u64, write| (iova * PAGE, (gpa * PAGE, true, write));
        let pages = [
            page(1, 5, true),
            page(2, 6, true),
            page(3, 7, false),
            page(4, 9, false),
            page(6, 11, false),
        ];
        assert_eq!(runs(&pages.into_iter().collect()), 4);
        assert_eq!(runs(&Pages::new()), 0);
    }
}
