// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Refused requests of legacy mode, also on a unit that could do more.

use anyhow::Result;

use super::tables::{entry, table};
use super::{Bench, NOWHERE, read, write};
use crate::dmatest::driver::{BLOCKED, Command, PAGE_INVALID, TRANSLATION_REFUSED};

/// Entries of the second stage.
const READ: u64 = 1;
const WRITE: u64 = 2;
const BOTH: u64 = READ | WRITE;
const LARGE_PAGE: u64 = 1 << 7;

/// Bits of a context entry's first word.
const TRANSLATION_TYPE: u64 = 0b11 << 2;

impl Bench {
    /// Address and first word of the root entry of a bus.
    fn legacy_root(&mut self, source: u16) -> Result<(u64, u64)> {
        let at = self.root + u64::from(source >> 8) * 16;
        Ok((at, self.memory.read(at)?))
    }

    /// Address and first word of the context entry of a function.
    fn legacy_context(&mut self, source: u16) -> Result<(u64, u64)> {
        let (_, root) = self.legacy_root(source)?;
        let at = (root & !0xfff) + u64::from(source & 0xff) * 16;
        Ok((at, self.memory.read(at)?))
    }
}

/// Root and context entries of a device behind a port.
pub fn roots(bench: &mut Bench) -> Result<()> {
    let source = bench.below.source;
    let (root, word) = bench.legacy_root(source)?;
    let reads = read(0x5000);
    bench.refused_below("root-absent", &[(root, word & !1)], &reads)?;
    bench.refused_below("root-reserved", &[(root, word | 2)], &reads)?;
    bench.refused_below("context-unreadable", &[(root, NOWHERE | 1)], &reads)?;
    let (context, word) = bench.legacy_context(source)?;
    bench.refused_below("context-absent", &[(context, word & !1)], &reads)?;
    bench.refused_below("context-reserved", &[(context, word | 1 << 4)], &reads)?;
    let unknown = [(context, word | TRANSLATION_TYPE)];
    bench.refused_below("context-type", &unknown, &reads)
}

/// Paging structures of four levels.
pub fn tables(bench: &mut Bench) -> Result<()> {
    let (context, _) = bench.legacy_context(bench.devices[0].source)?;
    // 48 bits, domain 0xf00.
    let own = [(context + 8, 2 | 0xf00 << 8), (context, table(0) | 1)];
    let structures = [
        entry(0, 0, table(1) | BOTH),
        entry(0, 1, NOWHERE | BOTH),
        entry(0, 2, table(1) | LARGE_PAGE | BOTH),
        entry(1, 0, table(2) | BOTH),
        entry(2, 0, table(3) | BOTH),
        entry(3, 1, table(8) | READ),
        entry(3, 4, 0xfee0_1000 | BOTH),
    ];
    bench.memory.change(&structures)?;
    let mut refused = |name, command| bench.refused(name, 0, &own, &command, BLOCKED);
    refused("absent", read(0))?;
    refused("read-only", write(0x1000))?;
    refused("interrupt-range", Command::fetch_add(0x4000, 1))?;
    refused("table-unreadable", read(1 << 39))?;
    refused("table-reserved", write(2 << 39))?;
    refused("beyond-width", read(1 << 48))
}

/// Requests that legacy mode does not know, or this context not.
pub fn requests(bench: &mut Bench) -> Result<()> {
    let writes = write(0x7000);
    bench.refused("pasid", 1, &[], &writes.pasid(Some(0x123)), BLOCKED)?;
    let pages = writes.asking_for_pages();
    bench.refused("page-request", 2, &[], &pages, PAGE_INVALID)?;
    let (context, word) = bench.legacy_context(bench.devices[3].source)?;
    let no_device_tlb = [(context, word & !TRANSLATION_TYPE)];
    let translation = read(0x8000).translated();
    let status = TRANSLATION_REFUSED;
    bench.refused(
        "translation-request",
        3,
        &no_device_tlb,
        &translation,
        status,
    )
}
