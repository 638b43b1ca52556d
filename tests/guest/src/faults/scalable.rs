// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Refused requests of scalable mode, whose requests without PASID the kernel translates by the first stage.

use anyhow::Result;

use super::tables::{Change, entry, table};
use super::{Bench, NOWHERE, SCRATCH, read, write};
use crate::dmatest::driver::{BLOCKED, Command, PAGE_INVALID, TRANSLATION_REFUSED};

/// Bits of a context entry's first word.
const DEVICE_TLB: u64 = 1 << 2;
const PASIDS: u64 = 1 << 3;
const PAGE_REQUESTS: u64 = 1 << 4;
const DIRECTORY_SIZE: u64 = 0b111 << 9;

/// The first word of present PASID entries, without the pointer.
const FIRST_STAGE: u64 = 1 | 1 << 6;
const SECOND_STAGE: u64 = 1 | 2 << 6;
const NESTED: u64 = 1 | 3 << 6;
const BITS_39: u64 = 1 << 2;
const BITS_48: u64 = 2 << 2;

/// Bits of a PASID entry's third word.
const SUPERVISOR: u64 = 1;
const EXECUTE: u64 = 1 << 1;
const NO_EXECUTE_BITS: u64 = 1 << 5;

/// A domain that the kernel does not use, the second word of a PASID entry.
const DOMAIN: u64 = 0xf00;

/// Entries of the second stage.
const READ: u64 = 1;
const WRITE: u64 = 2;
const BOTH: u64 = READ | WRITE;

/// Entries of the first stage: present, writable, for users.
const PRESENT: u64 = 1;
const USER: u64 = 1 << 2;
const ALL: u64 = PRESENT | 1 << 1 | USER;
const NO_EXECUTE: u64 = 1 << 63;

const LARGE_PAGE: u64 = 1 << 7;

impl Bench {
    /// Address and value of the half of a bus's root entry that belongs to the function.
    fn root_half(&mut self, source: u16) -> Result<(u64, u64)> {
        let half = u64::from(source >> 7 & 1) * 8;
        let at = self.root + u64::from(source >> 8) * 16 + half;
        Ok((at, self.memory.read(at)?))
    }

    /// Address and first word of a function's context entry.
    fn context(&mut self, source: u16) -> Result<(u64, u64)> {
        let (_, root) = self.root_half(source)?;
        let at = (root & !0xfff) + u64::from(source & 0x7f) * 32;
        Ok((at, self.memory.read(at)?))
    }

    /// The PASID directory of the first device.
    fn directory(&mut self) -> Result<u64> {
        let (_, context) = self.context(self.devices[0].source)?;
        Ok(context & !0xfff)
    }

    /// Gives the first device an entry for a PASID below 64; the present bit is written last.
    fn entry(&mut self, pasid: u32, words: [u64; 3]) -> Result<[Change; 3]> {
        let directory = self.directory()?;
        let table = self.memory.read(directory)? & !0xfff;
        let at = table + u64::from(pasid) * 64;
        Ok([(at + 16, words[2]), (at + 8, words[1]), (at, words[0])])
    }

    /// Has the first device carry out `command` with a PASID below 64 whose entry is given.
    fn refused_by(
        &mut self,
        name: &str,
        pasid: u32,
        words: [u64; 3],
        command: &Command,
    ) -> Result<()> {
        let entry = self.entry(pasid, words)?;
        self.refused(name, 0, &entry, &command.pasid(Some(pasid)), BLOCKED)
    }
}

/// The kernel's own tables, in which nothing is mapped.
pub fn unmapped(bench: &mut Bench) -> Result<()> {
    let mut refused = |name, command| bench.refused(name, 0, &[], &command, BLOCKED);
    refused("read", read(0x1000_0040))?;
    refused("write", write(0x2_3456_7000))?;
    refused("atomic", Command::fetch_add(0x3000_0008, 1).pasid(Some(0)))?;
    refused("not-canonical", read(1 << 47))?;
    refused("no-pasid-entry", write(0x1000).pasid(Some(5)))?;
    refused("no-directory-entry", read(0x1000).pasid(Some(0xf_ffff)))
}

/// Root and context entries of a device behind a port; the last one is valid.
pub fn roots(bench: &mut Bench) -> Result<()> {
    let source = bench.below.source;
    let (root, word) = bench.root_half(source)?;
    let reads = read(0x5000);
    bench.refused_below("root-absent", &[(root, word & !1)], &reads)?;
    bench.refused_below("root-reserved", &[(root, word | 2)], &reads)?;
    bench.refused_below("context-unreadable", &[(root, NOWHERE | 1)], &reads)?;
    let (context, word) = bench.context(source)?;
    bench.refused_below("context-absent", &[(context, word & !1)], &reads)?;
    bench.refused_below("context-reserved", &[(context, word | 1 << 6)], &reads)?;
    let contradiction = [(context, word & !DEVICE_TLB | PAGE_REQUESTS)];
    bench.refused_below("context-contradicts", &contradiction, &reads)?;
    let no_directory = [(context, word & 0xfff | NOWHERE)];
    bench.refused_below("directory-unreadable", &no_directory, &reads)
}

/// Valid context entries that do not allow what is asked for. Each is another device's, because it is cached.
pub fn contexts(bench: &mut Bench) -> Result<()> {
    let mut contexts = Vec::new();
    for number in 0..bench.devices.len() {
        contexts.push(bench.context(bench.devices[number].source)?);
    }
    let change = |number: usize, clear: u64, set: u64| {
        let (at, word) = contexts[number];
        (at, word & !clear | set)
    };
    let reads = read(0x6000);
    let writes = write(0x6000);
    let no_pasids = [change(1, PASIDS, 0)];
    bench.refused(
        "pasids-disabled",
        1,
        &no_pasids,
        &reads.pasid(Some(9)),
        BLOCKED,
    )?;
    // The smallest directory has room for 13 bits.
    let small = [change(2, DIRECTORY_SIZE, 0)];
    let wide = writes.pasid(Some(0x2000));
    bench.refused("pasid-beyond-directory", 2, &small, &wide, BLOCKED)?;
    let no_tlb = [change(3, DEVICE_TLB | PAGE_REQUESTS, 0)];
    let translation = reads.translated();
    let status = TRANSLATION_REFUSED;
    bench.refused("translation-request", 3, &no_tlb, &translation, status)?;
    let no_pages = [change(4, PAGE_REQUESTS, DEVICE_TLB)];
    let pages = writes.asking_for_pages();
    bench.refused("page-request", 4, &no_pages, &pages, PAGE_INVALID)?;
    let (at, _) = contexts[5];
    let rid_pasid = [(at + 8, 0x2000), change(5, DIRECTORY_SIZE, 0)];
    bench.refused(
        "rid-pasid-beyond-directory",
        5,
        &rid_pasid,
        &writes,
        BLOCKED,
    )
}

/// Entries of the PASID directory and of PASID tables.
pub fn pasids(bench: &mut Bench) -> Result<()> {
    let directory = bench.directory()?;
    let (reads, writes) = (read(0x7000), write(0x7000));
    let reserved = [(directory + 8 * 2, SCRATCH | 1 << 2 | 1)];
    let pasid = reads.pasid(Some(0x80));
    bench.refused("directory-reserved", 0, &reserved, &pasid, BLOCKED)?;
    let no_table = [(directory + 8 * 3, NOWHERE | 1)];
    let pasid = writes.pasid(Some(0xc1));
    bench.refused("table-unreadable", 0, &no_table, &pasid, BLOCKED)?;
    let reserved = [SECOND_STAGE | BITS_48 | 1 << 10, DOMAIN, 0];
    bench.refused_by("entry-reserved", 0x11, reserved, &reads)?;
    bench.refused_by("entry-type", 0x12, [1 | 7 << 6, DOMAIN, 0], &writes)?;
    let plain = [FIRST_STAGE, DOMAIN, table(0)];
    bench.refused_by("execute-disabled", 0x13, plain, &reads.execute())?;
    bench.refused_by("supervisor-disabled", 0x13, plain, &writes.privileged())
}

/// First-stage tables of four levels.
pub fn first(bench: &mut Bench) -> Result<()> {
    let structures = [
        entry(0, 0, table(1) | ALL),
        entry(0, 1, NOWHERE | ALL),
        entry(0, 2, table(1) | LARGE_PAGE | ALL),
        entry(1, 0, table(2) | ALL),
        entry(2, 0, table(3) | ALL),
        entry(3, 1, table(8) | PRESENT | USER),
        entry(3, 2, table(8) | ALL & !USER),
        entry(3, 3, table(8) | NO_EXECUTE | ALL),
        entry(3, 4, 0xfee0_1000 | ALL),
    ];
    bench.memory.change(&structures)?;
    let plain = [FIRST_STAGE, DOMAIN, table(0)];
    let mut refused = |name, command| bench.refused_by(name, 0x20, plain, &command);
    refused("first-table-unreadable", read(1 << 39))?;
    refused("first-reserved", write(2 << 39))?;
    refused("first-read-only", write(0x1000))?;
    refused("first-supervisor-page", read(0x2000))?;
    refused("first-interrupt-range", Command::fetch_add(0x4000, 1))?;
    let executes = [FIRST_STAGE, DOMAIN, table(0) | EXECUTE | NO_EXECUTE_BITS];
    let fetch = read(0x3000).execute();
    bench.refused_by("first-no-execute", 0x21, executes, &fetch)?;
    let nowhere = [FIRST_STAGE, DOMAIN, NOWHERE | SUPERVISOR];
    let writes = write(0x1000).privileged();
    bench.refused_by("first-top-unreadable", 0x22, nowhere, &writes)
}

/// Second-stage tables of four levels.
pub fn second(bench: &mut Bench) -> Result<()> {
    let structures = [
        entry(16, 0, table(17) | BOTH),
        entry(16, 1, NOWHERE | BOTH),
        entry(16, 2, table(17) | LARGE_PAGE | BOTH),
        entry(17, 0, table(18) | BOTH),
        entry(18, 0, table(19) | BOTH),
        entry(19, 1, table(8) | READ),
        entry(19, 2, table(8) | WRITE),
    ];
    bench.memory.change(&structures)?;
    let plain = [SECOND_STAGE | BITS_48 | table(16), DOMAIN + 1, 0];
    let mut refused = |name, command| bench.refused_by(name, 0x30, plain, &command);
    refused("second-absent", read(0x5000))?;
    refused("second-table-unreadable", write(1 << 39))?;
    refused("second-reserved", read(2 << 39))?;
    refused("second-read-only", Command::fetch_add(0x1000, 1))?;
    refused("second-write-only", read(0x2000))?;
    refused("second-beyond-width", write(1 << 48))?;
    let nowhere = [SECOND_STAGE | BITS_48 | NOWHERE, DOMAIN + 2, 0];
    bench.refused_by("second-top-unreadable", 0x31, nowhere, &read(0x1000))
}

/// First-stage tables over a second stage of three levels, which has the scratch memory where it is, with these rights.
pub fn nested(bench: &mut Bench) -> Result<()> {
    let page = |number: u64, rights: u64| entry(34, number, table(number) | rights);
    let structures = [
        entry(32, 0, table(33) | BOTH),
        entry(33, SCRATCH >> 21, table(34) | BOTH),
        page(40, BOTH),
        page(41, WRITE),
        page(42, READ),
        entry(40, 0, table(41) | ALL),
        entry(40, 1, table(40) | LARGE_PAGE | ALL),
        entry(40, 2, table(43) | ALL),
        // Whose every level is the table itself, and the page of which lies beyond the second stage.
        entry(43, 0, table(43) | ALL),
        entry(43, 1, 1 << 39 | ALL),
        entry(43, 2, 0x1000 | ALL),
        page(43, BOTH),
        entry(42, 0, table(43) | ALL),
    ];
    bench.memory.change(&structures)?;
    let over = |first_stage: u64| [NESTED | BITS_39 | table(32), DOMAIN + 3, first_stage];
    let reads = read(0);
    bench.refused_by("nested-top-beyond-width", 0x32, over(1 << 39), &reads)?;
    bench.refused_by("nested-top-unreadable", 0x33, over(table(41)), &reads)?;
    let plain = over(table(40));
    let mut refused = |name, command| bench.refused_by(name, 0x34, plain, &command);
    refused("nested-table-unreadable", write(0))?;
    refused("nested-output-beyond-width", read(2 << 39 | 0x1000))?;
    refused("nested-output-absent", write(2 << 39 | 0x2000))?;
    let read_only = over(table(42));
    bench.refused_by("nested-table-read-only", 0x35, read_only, &reads)
}
