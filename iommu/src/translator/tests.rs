// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Tables are raw words from the specification, never made with the types under test.

mod caching;
mod dma_faults;
mod fault_matrix;
mod interrupts;
mod posted;
mod properties;
mod races;
mod scalable;
mod walks;

use super::*;
use crate::address::Iova;
use crate::capabilities::LegacyOptions;
use crate::request::Access;
use crate::testing::FakeMem;
use vm_memory::GuestAddress;

/// 00:01.0, which the standard tables translate in domain 5.
const DEVICE: SourceId = SourceId(0x0008);
/// 00:02.0, in domain 6.
const OTHER: SourceId = SourceId(0x0010);
/// 00:01.4, in domain 5 too.
const SIBLING: SourceId = SourceId(0x000c);

/// The default but for the tables, which let walks begin in the middle.
const WITHOUT_TABLES: CacheSizes = CacheSizes {
    contexts: 512,
    pasids: 1024,
    pages: 8192,
    tables: 0,
    interrupts: 1024,
};

/// A translator over fake memory.
struct Bench {
    memory: Arc<FakeMem>,
    translator: Translator,
}

impl Bench {
    /// No tables yet; translation enabled at root table 0x1000.
    fn bare(capabilities: Capabilities, sizes: CacheSizes) -> Self {
        let memory = Arc::new(FakeMem::new(1 << 46));
        let translator =
            Translator::with_cache_sizes(Arc::new(capabilities), Arc::clone(&memory) as _, sizes);
        translator.set_translation(Some(RootPointer {
            table: GuestAddress(0x1000),
            mode: TableMode::Legacy,
        }));
        Self { memory, translator }
    }

    /// The standard tables with these capabilities.
    fn with(capabilities: Capabilities) -> Self {
        let bench = Self::bare(capabilities, WITHOUT_TABLES);
        write_tables(&bench.memory);
        bench
    }

    fn standard() -> Self {
        Self::with(legacy())
    }

    /// The outcome of an untranslated request: the guest-physical address, or code and whether it is recorded.
    fn dma(&self, source: SourceId, iova: u64, access: Access) -> Result<u64, (u8, bool)> {
        self.request(&Request::untranslated(source, Iova(iova), access))
    }

    fn request(&self, request: &Request) -> Result<u64, (u8, bool)> {
        self.translator
            .translate(request)
            .map(|translation| translation.gpa.0)
            .map_err(|fault| {
                assert_eq!(fault.subject, FaultSubject::Dma(*request));
                (fault.reason.code(), fault.record)
            })
    }

    fn read(&self, iova: u64) -> Result<u64, (u8, bool)> {
        self.dma(DEVICE, iova, Access::Read)
    }

    /// How many table entries' words `action` reads.
    fn reads_of(&self, action: impl FnOnce(&Self)) -> u64 {
        let before = self.memory.reads();
        action(self);
        self.memory.reads() - before
    }
}

/// 48-bit IOVAs, tables of 3 and 4 levels, all page sizes, snoop control, 48-bit host addresses.
fn legacy() -> Capabilities {
    Capabilities::legacy(&LegacyOptions::default()).unwrap()
}

/// The standard tables: four levels, domain 5, with IOVA 0x1000 → 0x9000 (read-write), 0x2000 → 0xa000 (read),
/// 0x3000 → 0xb000 (write), 2 MiB at 0x20_0000 → 0x4000_0000, 1 GiB at 0x4000_0000 → 0x8000_0000. Domain 6 of [`OTHER`] has
/// three levels and maps 0x1000 → 0x19000.
fn write_tables(memory: &FakeMem) {
    let words = [
        // Root entry of bus 0; context entries of 00:01.0, 00:01.4 and 00:02.0.
        (0x1000, 0x2001),
        (0x2080, 0x3001),
        (0x2088, 0x0502),
        (0x20c0, 0x3001),
        (0x20c8, 0x0502),
        (0x2100, 0x1_3001),
        (0x2108, 0x0601),
        // Domain 5: levels 4 to 1.
        (0x3000, 0x4003),
        (0x4000, 0x5003),
        (0x4008, 0x8000_0083),
        (0x5000, 0x6003),
        (0x5008, 0x4000_0083),
        (0x6008, 0x9003),
        (0x6010, 0xa001),
        (0x6018, 0xb002),
        // Domain 6: levels 3 to 1.
        (0x1_3000, 0x1_4003),
        (0x1_4000, 0x1_5003),
        (0x1_5008, 0x1_9003),
    ];
    for (gpa, word) in words {
        memory.set(gpa, word);
    }
}
