// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! First-stage tables that the program writes, over a parent that the kernel writes: DMA obeys both, and a change of the tables
//! counts once it was invalidated.
//!
//! A "GPA" is an address of the parent's space, as it would be if the program were a hypervisor.

use std::io::ErrorKind;

use anyhow::{Context, Result, bail};

use super::driver::{Command, NO_TRANSLATION};
use super::first_stage::{ACCESSED, DIRTY, READ_ONLY, READ_WRITE, Tables};
use super::refusals::{Mode, Why};
use super::setup::Setup;
use crate::iommufd::{ObjectId, Purpose};
use crate::memory::{Memory, PAGE, PAGE_BYTES};

/// GPAs of tables, of tables of a PASID, of data, and where nothing is.
const TABLES: u64 = 0x10_0000;
const OTHER_TABLES: u64 = 0x18_0000;
const DATA: u64 = 0x20_0000;
const EXTRA: u64 = 0x30_0000;
const HOLE: u64 = 0x40_0000;

/// Where the device sees the data. Its indices differ at every level.
const IOVA: u64 = 0x5555_4030_2000;
const PAGES: usize = 8;

const PASID: u32 = 0x321;

/// Fault reasons of both stages.
const FIRST_ABSENT: Why = Why::Reason(0x71);
const FIRST_TABLE_UNREADABLE: Why = Why::Reason(0x76);
const SECOND_ABSENT: Why = Why::Reason(0x79);

/// A device whose requests without PASID go through the tables.
struct Nested {
    setup: Setup,
    ioas: ObjectId,
    parent: ObjectId,
    hwpt: ObjectId,
    tables: Tables,
    data: Memory,
    /// How often the translation from before a change was used before the invalidation.
    stale: u32,
}

/// A table that the kernel fills and that others stand on.
const PARENT: Purpose = Purpose {
    parent: true,
    dirty: false,
    pasid: true,
    faults: None,
};

/// Runs `dmatest nested MODE`.
pub fn run(mode: Mode) -> Result<String> {
    let mut nested = Nested::new(mode)?;
    nested.pages_land_where_both_stages_say()?;
    nested.accessed_and_dirty_are_set()?;
    nested.what_either_stage_lacks_is_refused()?;
    nested.invalidation_takes_effect()?;
    nested.parent_changes_take_effect()?;
    nested.pasid_has_tables_of_its_own()?;
    nested.tables_move_to_another_parent()?;
    Ok(format!(
        "both stages obeyed, {} old translations used before their invalidation, {}",
        nested.stale, nested.setup.refusals
    ))
}

impl Nested {
    fn new(mode: Mode) -> Result<Self> {
        let setup = Setup::new(mode)?;
        let data = Memory::new(PAGES * PAGE)?;
        let tables = Tables::new(16, TABLES)?;
        let ioas = setup.ioas_with(&data, DATA)?;
        setup.iommufd.map(ioas, tables.memory(), TABLES, true)?;
        let parent = setup.hwpt(ioas, &PARENT)?;
        let read_only = setup.iommufd.map(ioas, &data, EXTRA, false);
        match read_only {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            other => bail!("a parent took a map for reading only: {other:?}"),
        }
        let hwpt = nested_hwpt(&setup, parent, &tables)?;
        setup.attach(None, hwpt)?;
        Ok(Self {
            setup,
            ioas,
            parent,
            hwpt,
            tables,
            data,
            stale: 0,
        })
    }

    fn fill(&mut self, iova: u64, pattern: u64) -> Result<()> {
        let fill = Command::fill(iova, 4096, pattern);
        self.setup.device.done(&fill).map(drop)
    }

    fn refused(&mut self, command: &Command, iova: u64, why: Why) -> Result<()> {
        self.setup.refused(command, iova, why)
    }

    /// Maps neighbours in reverse order, and one page under other tables all the way up.
    fn pages_land_where_both_stages_say(&mut self) -> Result<()> {
        let far = IOVA ^ (1 << 45 | 1 << 36 | 1 << 27);
        for page in 0..4 {
            let iova = IOVA + page * PAGE_BYTES;
            let gpa = DATA + (3 - page) * PAGE_BYTES;
            self.tables.map(iova, gpa, READ_WRITE)?;
        }
        self.tables.map(far, DATA + 4 * PAGE_BYTES, READ_WRITE)?;
        for page in 0..4 {
            self.fill(IOVA + page * PAGE_BYTES, 0x100 + page)?;
        }
        self.fill(far, 0x104)?;
        for (page, pattern) in [0x103, 0x102, 0x101, 0x100, 0x104].into_iter().enumerate() {
            self.data.check_page(page * PAGE, pattern)?;
        }
        let copy = Command::copy(IOVA, far, 4096);
        self.setup.device.done(&copy)?;
        self.data.check_page(4 * PAGE, 0x100)
    }

    fn accessed_and_dirty_are_set(&mut self) -> Result<()> {
        let iova = IOVA + 5 * PAGE_BYTES;
        self.tables.map(iova, DATA + 5 * PAGE_BYTES, READ_WRITE)?;
        self.setup.device.done(&Command::checksum(iova, 64))?;
        let read = self.tables.leaf(iova)?;
        self.fill(iova, 0x200)?;
        let written = self.tables.leaf(iova)?;
        let bits = |entry| entry & (ACCESSED | DIRTY);
        if (bits(read), bits(written)) != (ACCESSED, ACCESSED | DIRTY) {
            bail!("the leaf is {read:#x} after a read, {written:#x} after a write");
        }
        Ok(())
    }

    fn what_either_stage_lacks_is_refused(&mut self) -> Result<()> {
        let iova = IOVA + 6 * PAGE_BYTES;
        let gpa = DATA + 6 * PAGE_BYTES;
        let write = Command::fill(iova, 8, 1);
        self.refused(&write, iova, FIRST_ABSENT)
            .context("a page that the first stage lacks")?;

        self.tables.map(iova, gpa, READ_ONLY)?;
        self.invalidate(iova, 1, true)?;
        self.data.set_word(6 * PAGE, 0x6006)?;
        self.setup.device.done(&Command::copy(iova, IOVA, 8))?;
        self.data.check_word(3 * PAGE, 0x6006)?;
        self.refused(&write, iova, Why::ReadOnly)
            .context("a write to a page that the first stage has for reading")?;
        self.data.check_word(6 * PAGE, 0x6006)?;

        self.tables.map(iova, HOLE, READ_WRITE)?;
        self.invalidate(iova, 1, true)?;
        self.refused(&write, iova, SECOND_ABSENT)
            .context("a page that the parent lacks")?;

        let iova = IOVA ^ 1 << 30;
        self.tables.set(iova, 2, HOLE | READ_WRITE)?;
        self.refused(&Command::checksum(iova, 8), iova, FIRST_TABLE_UNREADABLE)
            .context("a table that the parent lacks")
    }

    /// Changes a leaf with each form of invalidation, for requests that the unit translates and for such that the device
    /// translates itself; then clears it.
    fn invalidation_takes_effect(&mut self) -> Result<()> {
        let fill = |pattern| Command::fill(IOVA, 4096, pattern);
        self.changes_of_a_leaf(0x300, &fill)?;
        let fill = |pattern| fill(pattern).translated();
        self.changes_of_a_leaf(0x380, &fill)
            .context("with translations of the device's own")?;
        self.tables.unmap(IOVA)?;
        self.invalidate(IOVA, 1, true)?;
        let write = Command::fill(IOVA, 8, 1);
        self.refused(&write, IOVA, FIRST_ABSENT)
            .context("a page that was taken out of the first stage")?;
        let answer = self.setup.device.run(&write.translated())?;
        if answer.status != NO_TRANSLATION {
            bail!("the device still has a translation: {answer:x?}");
        }
        Ok(())
    }

    /// Points the leaf for [`IOVA`] from one page to another and back, with each form of invalidation.
    fn changes_of_a_leaf(&mut self, base: u64, fill: &dyn Fn(u64) -> Command) -> Result<()> {
        let iova = IOVA;
        let gpa = |page: usize| DATA + (page * PAGE) as u64;
        let forms = [
            (iova, 1, true),
            (iova, 1, false),
            (iova, 8, true),
            (0, u64::MAX, false),
        ];
        self.tables.map(iova, gpa(0), READ_WRITE)?;
        self.invalidate(iova, 1, true)?;
        for (round, (start, pages, leaf)) in forms.into_iter().enumerate() {
            let (old, new) = (round % 2, (round + 1) % 2);
            let pattern = base + 4 * round as u64;
            self.setup.device.done(&fill(pattern))?;
            self.data.check_page(old * PAGE, pattern)?;

            self.tables.map(iova, gpa(new), READ_WRITE)?;
            self.setup.device.done(&fill(pattern + 1))?;
            if self.data.word(old * PAGE)? == pattern + 1 {
                self.stale += 1;
            }
            self.invalidate(start, pages, leaf)?;
            self.data.set_word(old * PAGE, pattern + 2)?;
            self.setup.device.done(&fill(pattern + 3))?;
            self.data.check_page(new * PAGE, pattern + 3)?;
            self.data.check_word(old * PAGE, pattern + 2)?;
        }
        Ok(())
    }

    /// The kernel invalidates by itself what it changes in the parent.
    fn parent_changes_take_effect(&mut self) -> Result<()> {
        let (extra, other) = (Memory::new(PAGE)?, Memory::new(PAGE)?);
        let iova = IOVA + 7 * PAGE_BYTES;
        self.tables.map(iova, EXTRA, READ_WRITE)?;
        self.setup.iommufd.map(self.ioas, &extra, EXTRA, true)?;
        self.fill(iova, 0x400)?;
        extra.check_page(0, 0x400)?;
        self.setup.iommufd.unmap(self.ioas, EXTRA, PAGE_BYTES)?;
        let write = Command::fill(iova, 8, 1);
        self.refused(&write, iova, SECOND_ABSENT)
            .context("a page that was taken out of the parent")?;
        self.setup.iommufd.map(self.ioas, &other, EXTRA, true)?;
        self.fill(iova, 0x401)?;
        other.check_page(0, 0x401)?;
        extra.check_page(0, 0x400)
    }

    /// One address, through the tables of requests without PASID and through those of a PASID.
    fn pasid_has_tables_of_its_own(&mut self) -> Result<()> {
        let mut tables = Tables::new(8, OTHER_TABLES)?;
        let iommufd = &self.setup.iommufd;
        iommufd.map(self.ioas, tables.memory(), OTHER_TABLES, true)?;
        let hwpt = nested_hwpt(&self.setup, self.parent, &tables)?;
        self.setup.attach(Some(PASID), hwpt)?;
        let iova = IOVA + PAGE_BYTES;
        tables.map(iova, DATA + 6 * PAGE_BYTES, READ_WRITE)?;
        self.fill(iova, 0x500)?;
        let fill = |pattern| Command::fill(iova, 4096, pattern).pasid(Some(PASID));
        self.setup.device.done(&fill(0x501))?;
        self.data.check_page(2 * PAGE, 0x500)?;
        self.data.check_page(6 * PAGE, 0x501)?;

        tables.map(iova, DATA + 7 * PAGE_BYTES, READ_WRITE)?;
        let invalidate = self.setup.iommufd.invalidate(hwpt, iova, 1, true);
        invalidate.context("invalidating a PASID's page")?;
        self.setup.device.done(&fill(0x502))?;
        self.data.check_page(7 * PAGE, 0x502)?;
        self.data.check_page(6 * PAGE, 0x501)
    }

    /// The same tables, at the same place of a parent that has other memory for data.
    fn tables_move_to_another_parent(&mut self) -> Result<()> {
        let other = Memory::new(PAGES * PAGE)?;
        let ioas = self.setup.ioas_with(&other, DATA)?;
        let iommufd = &self.setup.iommufd;
        iommufd.map(ioas, self.tables.memory(), TABLES, true)?;
        let parent = self.setup.hwpt(ioas, &PARENT)?;
        let hwpt = nested_hwpt(&self.setup, parent, &self.tables)?;
        let iova = IOVA + PAGE_BYTES;
        self.fill(iova, 0x600)?;
        self.setup.attach(None, hwpt)?;
        let before = std::mem::replace(&mut self.hwpt, hwpt);
        let destroy = self.setup.iommufd.destroy(before);
        destroy.context("destroying the nested HWPT before")?;
        self.fill(iova, 0x601)?;
        other.check_page(2 * PAGE, 0x601)?;
        self.data.check_page(2 * PAGE, 0x600)?;

        self.setup.iommufd.unmap(ioas, DATA, other.bytes())?;
        let write = Command::fill(iova, 8, 1);
        self.refused(&write, iova, SECOND_ABSENT)
            .context("a page that was taken out of the other parent")?;
        let fill = Command::fill(iova, 4096, 0x602).pasid(Some(PASID));
        self.setup.device.done(&fill)?;
        self.data.check_page(7 * PAGE, 0x602)
    }

    fn invalidate(&self, iova: u64, pages: u64, leaf: bool) -> Result<()> {
        let invalidate = self.setup.iommufd.invalidate(self.hwpt, iova, pages, leaf);
        invalidate.with_context(|| format!("invalidating {pages} pages at {iova:#x}"))
    }
}

fn nested_hwpt(setup: &Setup, parent: ObjectId, tables: &Tables) -> Result<ObjectId> {
    let purpose = Purpose {
        pasid: true,
        ..Purpose::default()
    };
    let (iommufd, device) = (&setup.iommufd, setup.cdev.id);
    let hwpt = iommufd.nested(device, parent, tables.top(), &purpose);
    hwpt.context("making a nested HWPT")
}
