// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether the host's PASID table of a passed-through device holds what the guest's says, entry by entry: the guest's as the guest's
//! own kernel printed it, the host's as the host's kernel shows it (drivers/iommu/intel/debugfs.c).
//!
//! A first-stage entry of the guest must be a nested one of the host's with the very same table, and all of them go through one table
//! more. A second-stage entry must lead to a table that holds, page by page, what the guest's holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use vfio::pci_address::PciAddress;

use crate::check::same;
use crate::mirrored::{self, Memory};
use crate::oracle::{self, Pages};

/// How the guest names its device, and where what it prints ends.
const BEGIN: &str = "ENTRIES of ";
const END: &str = "TABLES end";
/// How the tables of one PASID begin.
const TABLES: &str = " with pasid ";
const DEBUGFS: &str = "/sys/kernel/debug/iommu/intel";

/// PGTT of an entry.
const FIRST_STAGE: u64 = 1;
const SECOND_STAGE: u64 = 2;
const NESTED: u64 = 3;

/// An entry of a PASID table: its words, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry([u64; 3]);

impl Entry {
    const fn kind(self) -> u64 {
        self.0[0] >> 6 & 7
    }

    /// Where the second-stage table is.
    const fn second_stage(self) -> u64 {
        self.0[0] & !0xfff
    }

    /// The first-stage table and what its walk is told.
    const fn first_stage(self) -> u64 {
        self.0[2]
    }
}

type Entries = BTreeMap<u32, Entry>;

/// Runs `bindings PID BDF CONSOLE LOG`.
pub fn run(process: &str, device: PciAddress, console: &str, log: &str) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let console = read(console)?;
    let (_, told) = console
        .split_once(BEGIN)
        .context("the guest printed no entries")?;
    let (told, _) = told.split_once(END).context("the tables have no end")?;
    let (name, told) = told.split_once('\n').context("no name of a device")?;
    let guest = entries(told, name.trim())?;
    let host = read(&format!("{DEBUGFS}/dmar_translation_struct"))?;
    let host = entries(&host, &device.to_string())?;
    let pasids = |entries: &Entries| entries.keys().copied().collect::<Vec<_>>();
    same("the guest binds something", &guest.is_empty(), &false)?;
    same("bound PASIDs", &pasids(&host), &pasids(&guest))?;

    let memory = Memory::new(process, &read(log)?)?;
    let mut parents = BTreeSet::new();
    for ((pasid, says), is) in guest.iter().zip(host.values()) {
        let pasid = *pasid;
        match says.kind() {
            FIRST_STAGE => {
                if (is.kind(), is.first_stage()) != (NESTED, says.first_stage()) {
                    bail!("PASID {pasid:#x}: {is:x?} on the host for {says:x?}");
                }
                parents.insert(is.second_stage());
            }
            SECOND_STAGE if is.kind() == SECOND_STAGE => {
                let wanted = translated(&tables(told, pasid)?, &memory)?;
                let what = format!("PASID {pasid:#x}");
                mirrored::compare(&what, &wanted, &of_host(device, pasid)?)?;
            }
            _ => bail!("PASID {pasid:#x}: {is:x?} on the host for {says:x?}"),
        }
    }
    same(
        "one table at most is below the guest's",
        &(parents.len() <= 1),
        &true,
    )?;
    println!("BINDINGS ok {} PASIDs", guest.len());
    Ok(())
}

/// The present entries of the device at `address`, segment included, in what a kernel printed.
fn entries(text: &str, address: &str) -> Result<Entries> {
    let (_, address) = address.split_once(':').context("no PCI address")?;
    let mut entries = Entries::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _, _, pasid, entry] = words[..] else {
            continue;
        };
        if name != address {
            continue;
        }
        let mut high_first = entry
            .split(':')
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16));
        let mut next = || high_first.next().context("three words are expected");
        let (third, second, first) = (next()??, next()??, next()??);
        entries.insert(pasid.parse()?, Entry([first, second, third]));
    }
    Ok(entries)
}

/// What the guest printed of the tables of a PASID.
fn tables(told: &str, pasid: u32) -> Result<Pages> {
    let start = format!("{TABLES}{pasid:x} ");
    let (_, text) = told
        .split_once(&start)
        .with_context(|| format!("the guest printed no tables of PASID {pasid:#x}"))?;
    let text = text.split(TABLES).next().unwrap_or_default();
    Ok(oracle::parse(text)?.pages)
}

/// The same where guest memory is in this host's.
fn translated(pages: &Pages, memory: &Memory) -> Result<Pages> {
    let page = |(iova, (gpa, read, write)): (&u64, &(u64, bool, bool))| {
        Ok((*iova, (memory.physical(*gpa)?, *read, *write)))
    };
    pages.iter().map(page).collect()
}

fn of_host(device: PciAddress, pasid: u32) -> Result<Pages> {
    let path = format!("{DEBUGFS}/{device}/{pasid:x}/domain_translation_struct");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(oracle::parse(&text)?.pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "IOMMU dmar0: Root Table Address: 0x1000\n\
        B.D.F\tRoot_entry\t\t\t\tContext_entry\t\t\t\tPASID\tPASID_table_entry\n\
        00:02.0\t0x0:0x5001\t0x0:0x7009\t0     \t0x0:0x1:0x89\n\
        00:03.0\t0x0:0x5001\t0x0:0x6009\t5     \t0x0000000000030000:0x0000000000000002:0x00000000000000c1\n\
        00:03.0\t0x0:0x5001\t0x0:0x6009\t1048575\t0x0:0x3:0x8089\r\n";

    #[test]
    fn entries_are_those_of_the_device_with_the_lowest_word_first() {
        let found = entries(TEXT, "0000:00:03.0").unwrap();
        let wanted = [
            (5, Entry([0xc1, 2, 0x3_0000])),
            (1_048_575, Entry([0x8089, 3, 0])),
        ];
        assert_eq!(found, wanted.into_iter().collect());
        let kinds: Vec<u64> = found.values().map(|entry| entry.kind()).collect();
        assert_eq!(kinds, [NESTED, SECOND_STAGE]);
        assert_eq!(wanted[1].1.second_stage(), 0x8000);
    }

    #[test]
    fn tables_are_those_between_two_names() {
        let text = "Device 0000:00:03.0 with pasid 5 @0x1000\n\
            0x0000000042420 |\t0x0\t0x1003\t0x2003\t0x3003\t0x4003\n\
            Device 0000:00:03.0 with pasid 51 @0x1000\n\
            0x0000000000001 |\t0x0\t0x1003\t0x2003\t0x3003\t0x5001\n";
        let pages = tables(text, 5).unwrap();
        assert_eq!(pages, [(0x4242_0000, (0x4000, true, true))].into());
        assert!(tables(text, 1).is_err());
    }
}
