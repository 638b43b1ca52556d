// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host's IOMMU really holds for a device, as the kernel's debugfs prints its page tables
//! (drivers/iommu/intel/debugfs.c): one line a leaf, the page number and the entries of each level from the top.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use vfio::pci_address::PciAddress;
use vfio::run::Run;

use crate::check;
use crate::ram::Memory;

const PAGE: u64 = 4096;
/// Levels of the tables as they are printed.
const LEVELS: usize = 5;
/// Bits of an entry that hold an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Each mapped page of 4 KiB: where it leads, whether it can be read, whether it can be written.
pub type Pages = BTreeMap<u64, (u64, bool, bool)>;

/// What is mapped for a device.
#[derive(Debug, Default)]
pub struct Mapped {
    /// Page by page.
    pub pages: Pages,
    /// How many leaves there are, of whatever size.
    pub leaves: usize,
}

/// Reads the host's tables.
pub fn mapped(device: PciAddress) -> Result<Mapped> {
    let path = format!("/sys/kernel/debug/iommu/intel/{device}/domain_translation_struct");
    parse(&fs::read_to_string(&path).with_context(|| format!("reading {path}"))?)
}

/// What a kernel printed of its tables, among other lines.
pub fn parse(text: &str) -> Result<Mapped> {
    let mut mapped = Mapped::default();
    for line in text.lines().filter(|line| line.contains('|')) {
        let numbers: Option<Vec<u64>> = line
            .split(|c: char| c.is_whitespace() || c == '|')
            .filter(|word| !word.is_empty())
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .collect();
        // The heading has the bars too, but no numbers.
        let Some(numbers) = numbers else { continue };
        let (page, entries) = numbers.split_first().context("an empty line")?;
        // Five columns at most, the last of which is the level of 4 KiB pages; below a large leaf there are none.
        let leaf = *entries.last().context("a page without entries")?;
        let below = LEVELS
            .checked_sub(entries.len())
            .context("too many levels")?;
        let pages = 1 << (9 * below);
        for index in 0..pages {
            let iova = (page + index) * PAGE;
            let target = (leaf & ADDRESS) + index * PAGE;
            let rights = (target, leaf & 1 != 0, leaf & 2 != 0);
            mapped.pages.insert(iova, rights);
        }
        mapped.leaves += 1;
    }
    Ok(mapped)
}

/// What `runs` map, by where the process has its pages.
pub fn expected(memory: &Memory, runs: &[Run]) -> Result<Pages> {
    let mut pages = Pages::new();
    for run in runs {
        for page in 0..run.len() / PAGE {
            let physical = memory.physical(run.gpa.0 + page * PAGE)?;
            let rights = (physical, run.rights.read(), run.rights.write());
            pages.insert(run.iova.start().0 + page * PAGE, rights);
        }
    }
    Ok(pages)
}

/// Fails unless the host holds exactly `runs` for the device; what it holds.
pub fn holds(what: &str, device: PciAddress, memory: &Memory, runs: &[Run]) -> Result<Mapped> {
    let mapped = mapped(device)?;
    let expected = expected(memory, runs)?;
    println!(
        "{what}: {} pages in {} leaves",
        mapped.pages.len(),
        mapped.leaves
    );
    let wrong = |(iova, page): (&u64, &(u64, bool, bool))| {
        (expected.get(iova) != Some(page)).then_some((*iova, *page))
    };
    check::same(
        &format!("{what}: pages that should not be so"),
        &mapped.pages.iter().filter_map(wrong).next(),
        &None,
    )?;
    check::same(
        &format!("{what}: pages"),
        &mapped.pages.len(),
        &expected.len(),
    )?;
    Ok(mapped)
}
