// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest that builds second-stage tables of four levels in raw words, a host, and the mirror between them.

use crate::backend::fake::{Call, FakeBackend, FakeOptions, Logged};
use crate::backend::{Backend, Endpoint, TableId};
use crate::mirror::{Budget, Mirror, Options, UnitId};
use crate::ram::{HostVa, RamMap, RamRegion};
use crate::run::{Rights, Run};
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::{Capabilities, LegacyOptions};
use iommu::follow::{
    Answer, Attachment, DeviceHandle, Domain, FollowEvent, Follower, Invalidated, Refusal, Unmet,
};
use iommu::ids::{DomainId, Pasid};
use iommu::testing::FakeMem;
use iommu::translate::paging::Stages;
use iommu::translate::rights::Rules;
use iommu::walk::second_stage::SecondStage;
use std::collections::BTreeMap;
use std::sync::Arc;
use vm_memory::GuestAddress;

pub const PAGE: u64 = 0x1000;
pub const LARGE: u64 = 0x20_0000;
pub const GIB: u64 = 1 << 30;

/// Bits of an entry: R, W, PS, and one that is reserved (62).
pub const R: u64 = 1;
pub const W: u64 = 2;
pub const RW: u64 = R | W;
pub const PS: u64 = 1 << 7;
pub const RESERVED: u64 = 1 << 62;

pub const A: DeviceHandle = DeviceHandle(1);
pub const B: DeviceHandle = DeviceHandle(2);

/// RAM below the hole and above 4 GiB, as a machine has it: not contiguous in the process.
const RAM: [(u64, u64, u64); 2] = [(0, GIB, 0x7000_0000_0000), (4 * GIB, GIB, 0x7e00_0000_0000)];

/// Where the guest allocates its tables.
const TABLES: u64 = 0x3000_0000;

/// Page number to what it reaches.
pub type Pages = BTreeMap<u64, (u64, Rights)>;

pub struct Rig {
    pub memory: Arc<FakeMem>,
    pub host: FakeBackend,
    pub mirror: Mirror,
    pub unit: Arc<dyn Follower>,
    pub capabilities: Capabilities,
    next_table: u64,
}

impl Rig {
    pub fn new(options: FakeOptions) -> Self {
        Self::with(options, Budget::for_ram(2 * GIB))
    }

    pub fn iommufd() -> Self {
        Self::new(FakeOptions::iommufd())
    }

    pub fn type1() -> Self {
        Self::new(FakeOptions::type1())
    }

    /// Both kinds of host.
    pub fn both() -> [Self; 2] {
        [Self::iommufd(), Self::type1()]
    }

    /// Type1 with another entry limit.
    pub fn type1_limited(entries: u32) -> Self {
        Self::new(FakeOptions {
            entry_limit: Some(entries),
            ..FakeOptions::type1()
        })
    }

    pub fn with(options: FakeOptions, budget: Budget) -> Self {
        Self::build(
            options,
            Options {
                budget,
                compaction: true,
            },
        )
    }

    pub fn build(host: FakeOptions, options: Options) -> Self {
        let memory = Arc::new(FakeMem::new(5 * GIB));
        let host = FakeBackend::new(host);
        host.open(A);
        host.open(B);
        let mirror = Mirror::new(Box::new(host.clone()), memory.clone(), ram(), options);
        let capabilities = Capabilities::legacy(&LegacyOptions {
            caching_mode: true,
            ..LegacyOptions::default()
        })
        .unwrap();
        let unit = mirror.follower(UnitId(0), capabilities);
        Self {
            memory,
            host,
            mirror,
            unit,
            capabilities,
            next_table: TABLES,
        }
    }

    /// A page of zeros for a table.
    pub fn table(&mut self) -> u64 {
        let table = self.next_table;
        self.next_table += PAGE;
        table
    }

    /// Where the entry for `iova` at `level` lies; tables on the way are made.
    pub fn entry(&mut self, root: u64, iova: u64, level: u32) -> u64 {
        let mut table = root;
        for at in (level + 1..=4).rev() {
            let place = table + (iova >> (12 + 9 * (at - 1)) & 511) * 8;
            let mut word = self.memory.word(place);
            if word & RW == 0 || word & PS != 0 {
                word = self.table() | RW;
                self.memory.set(place, word);
            }
            table = word & 0xf_ffff_ffff_f000;
        }
        table + (iova >> (12 + 9 * (level - 1)) & 511) * 8
    }

    /// Maps a 4 KiB page.
    pub fn map(&mut self, root: u64, iova: u64, gpa: u64, bits: u64) {
        let place = self.entry(root, iova, 1);
        self.memory.set(place, gpa | bits);
    }

    /// Maps `len` bytes in 4 KiB pages.
    pub fn map_pages(&mut self, root: u64, iova: u64, gpa: u64, len: u64) {
        for offset in (0..len).step_by(0x1000) {
            self.map(root, iova + offset, gpa + offset, RW);
        }
    }

    /// Maps a 2 MiB page in place of whatever is there.
    pub fn map_large(&mut self, root: u64, iova: u64, gpa: u64, bits: u64) {
        let place = self.entry(root, iova, 2);
        self.memory.set(place, gpa | bits | PS);
    }

    /// Clears the entry of `iova` at `level`.
    pub fn clear(&mut self, root: u64, iova: u64, level: u32) {
        let place = self.entry(root, iova, level);
        self.memory.set(place, 0);
    }

    /// What the tables say of a page, read word by word.
    pub fn naive(&self, root: u64, page: u64) -> Option<(u64, Rights)> {
        let mut table = root;
        let mut rights = RW;
        for level in (1..=4).rev() {
            let shift = 9 * (level - 1);
            let word = self.memory.word(table + (page >> shift & 511) * 8);
            rights &= word;
            let address = word & 0xf_ffff_ffff_f000;
            if rights & RW == 0 || word & RESERVED != 0 || address >= 1 << 48 {
                return None;
            }
            if level == 1 || word & PS != 0 {
                let below = page & ((1 << shift) - 1);
                let rights = match rights & RW {
                    R => Rights::Read,
                    W => Rights::Write,
                    _ => Rights::ReadWrite,
                };
                return Some(((address >> 12) + below, rights));
            }
            table = address;
        }
        None
    }

    /// What the host is to have of `pages`: what the tables say, but for the interrupt window and what is no RAM.
    pub fn expected(&self, root: u64, pages: impl IntoIterator<Item = u64>) -> Pages {
        let in_ram = |page: u64| {
            RAM.iter()
                .any(|(gpa, len, _)| (*gpa..gpa + len).contains(&(page << 12)))
        };
        pages
            .into_iter()
            .filter(|page| !(0xfee00..=0xfeeff).contains(page))
            .filter_map(|page| Some((page, self.naive(root, page)?)))
            .filter(|(_, (gpa, _))| in_ram(*gpa))
            .collect()
    }

    /// The second-stage tables at `root`, tagged `id`.
    pub fn domain(&self, id: u16, root: u64) -> Attachment {
        let stage = SecondStage::plain(GuestAddress(root), 4);
        Attachment::Domain(Domain::new(
            DomainId(id),
            Stages::Second(stage),
            Rules::default(),
            false,
            &self.capabilities,
        ))
    }

    /// Tells one event, which must be carried out whole.
    pub fn tell(&self, event: FollowEvent) {
        let answer = self.unit.apply(&[event]);
        assert_eq!(answer.results, [Ok(())], "{event:?}");
    }

    pub fn attach(&self, device: DeviceHandle, to: Attachment) {
        self.tell(attachment(device, to));
    }

    /// Attaches A to the tables at `root`, tagged 1, and takes what that cost out of the log.
    pub fn attached(&self, root: u64) {
        self.attach(A, self.domain(1, root));
        let _ = self.host.take_log();
    }

    /// Tells that A goes through the tables at `root`, tagged 1, which must be refused in part or whole.
    pub fn attach_refused(&self, root: u64) {
        let answer = self.unit.apply(&[attachment(A, self.domain(1, root))]);
        assert!(answer.results[0].is_err());
    }

    /// Where a device's requests really go.
    pub fn table_of(&self, device: DeviceHandle) -> Option<TableId> {
        self.host.reaches(Endpoint {
            device,
            pasid: None,
        })
    }

    /// What a device really reaches, mapping by mapping.
    pub fn reached(&self, device: DeviceHandle) -> Vec<Run> {
        let table = self.table_of(device);
        table.map_or_else(Vec::new, |table| self.host.mappings(table).unwrap())
    }

    /// What a device really reaches, page by page.
    pub fn pages(&self, device: DeviceHandle) -> Pages {
        pages_of(&self.reached(device))
    }

    /// The calls since the log was taken last that change mappings.
    pub fn mapping_calls(&self) -> Vec<Logged> {
        let mut log = self.host.take_log();
        log.retain(|logged| {
            matches!(
                logged.call,
                Call::Map(..) | Call::Unmap(..) | Call::CutOut(..) | Call::UnmapAll(_)
            )
        });
        log
    }

    /// Whether the device's table is backed as the host was told: the mirror's ledger is the host's content.
    pub fn assert_ledger_is_true(&self) {
        for status in self.mirror.tables() {
            let ledger = pages_of(&self.mirror.ledger(status.table));
            let held = pages_of(&self.host.mappings(status.table).unwrap());
            assert_eq!(ledger, held, "table {:?}", status.table);
        }
    }

    /// A table for the host's devices only, as if another unit's.
    pub fn identity(&self) -> Option<TableId> {
        self.host.identity_table()
    }
}

/// Where the guest's RAM is.
pub fn ram() -> RamMap {
    let regions = RAM.map(|(gpa, len, host)| RamRegion {
        gpa: GuestAddress(gpa),
        len,
        host: HostVa(host),
    });
    RamMap::new(regions.to_vec()).unwrap()
}

pub fn pages_of(runs: &[Run]) -> Pages {
    let mut pages = Pages::new();
    for run in runs {
        for n in 0..run.len() / PAGE {
            let page = (run.iova.start().0 / PAGE) + n;
            let before = pages.insert(page, (run.gpa.0 / PAGE + n, run.rights));
            assert_eq!(before, None, "mappings overlap");
        }
    }
    pages
}

pub fn range(start: u64, len: u64) -> IovaRange {
    IovaRange::from_len(Iova(start), len).unwrap()
}

/// A device goes by something else.
pub const fn attachment(device: DeviceHandle, to: Attachment) -> FollowEvent {
    FollowEvent::Attach { device, to }
}

/// Pages of one domain were invalidated.
pub fn pages_invalidated(id: u16, start: u64, len: u64) -> FollowEvent {
    FollowEvent::Invalidated(Invalidated {
        domain: Some(DomainId(id)),
        pasid: None,
        range: range(start, len),
        leaf_only: true,
    })
}

/// One domain was invalidated.
pub fn domain_invalidated(id: u16) -> FollowEvent {
    FollowEvent::Invalidated(Invalidated {
        domain: Some(DomainId(id)),
        ..Invalidated::ALL
    })
}

pub fn bind(device: DeviceHandle, pasid: u32, to: Attachment) -> FollowEvent {
    FollowEvent::Bind {
        device,
        pasid: Pasid::new(pasid).unwrap(),
        to,
    }
}

/// What the only event of a batch lacks.
pub fn refused(answer: &Answer) -> Vec<Unmet> {
    match answer.results.as_slice() {
        [Err(Refusal { unmet })] => unmet.clone(),
        other => panic!("not one refusal: {other:?}"),
    }
}

pub fn run(start: u64, len: u64, gpa: u64, rights: Rights) -> Run {
    Run {
        iova: range(start, len),
        gpa: GuestAddress(gpa),
        rights,
    }
}

pub fn rw(start: u64, len: u64, gpa: u64) -> Run {
    run(start, len, gpa, Rights::ReadWrite)
}

/// The first page of A that is not as the guest says.
pub fn unsynced(first: u64) -> Unmet {
    Unmet::Unsynced {
        device: A,
        pasid: None,
        first: Iova(first),
    }
}
