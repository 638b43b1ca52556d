// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is kept in scalable mode, and what each invalidation drops: the number of words read shows what was found.

use super::*;
use crate::address::IovaRange;
use crate::ids::DomainId;
use crate::invalidation::{
    DeviceSpaces, DeviceTlbInvalidation, FunctionMask, Invalidation, Invalidation as I,
};

/// Words read for a directory entry and a PASID entry.
const PASID_READS: u64 = 1 + 2 * 8;
/// Words read for a root and a context entry.
const CONTEXT_READS: u64 = 1 + 2 * 4;

/// Requests with a cache entry each: PASID and address.
const PAGES: [(u32, u64); 7] = [
    (SECOND, 0x1000),
    (SECOND, 0x20_0000),
    (FIRST, 0x1000),
    (FIRST, 0x20_0000),
    (NESTED, 0x1000),
    // A piece of 4 KiB of a page of 2 MiB.
    (NESTED, 0x20_1000),
    (OPEN, 0x1000),
];

fn warm() -> Bench {
    let bench = Bench::scalable();
    for (pasid, iova) in PAGES {
        bench.with_pasid(pasid, iova, Access::Read).unwrap();
    }
    bench.dma(OTHER, 0x1000, Access::Read).unwrap();
    assert_eq!(kept(&bench), [0, 1, 2, 3, 4, 5, 6]);
    bench
}

/// Which of [`PAGES`] a request finds without a walk.
fn kept(bench: &Bench) -> Vec<usize> {
    (0..PAGES.len())
        .filter(|page| {
            let (pasid, iova) = PAGES[*page];
            bench.reads_of(|bench| {
                bench.with_pasid(pasid, iova, Access::Read).unwrap();
            }) == 0
        })
        .collect()
}

fn kept_after(invalidation: Invalidation) -> Vec<usize> {
    let bench = warm();
    bench.translator.invalidate(&[invalidation]);
    kept(&bench)
}

/// The words that requests of each PASID and of [`OTHER`] read for entries after `invalidation`, while all pages are kept.
fn entry_reads_after(invalidation: Invalidation) -> [u64; 4] {
    let bench = warm();
    bench.translator.invalidate(&[invalidation]);
    let mut reads = [SECOND, FIRST, NESTED, 0].map(|_| 0);
    for (slot, pasid) in [SECOND, FIRST, NESTED].into_iter().enumerate() {
        reads[slot] = bench.reads_of(|bench| {
            bench.with_pasid(pasid, 0x1000, Access::Read).unwrap();
        });
    }
    reads[3] = bench.reads_of(|bench| {
        bench.dma(OTHER, 0x1000, Access::Read).unwrap();
    });
    reads
}

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

fn second_stage_pages(domain: u16, address: u64, order: u32) -> Invalidation {
    I::IotlbPages {
        domain: DomainId(domain),
        range: IovaRange::aligned_block(Iova(address), order),
        leaf_only: false,
    }
}

fn pasid_pages(domain: u16, value: u32, address: u64, order: u32) -> Invalidation {
    I::PasidIotlbPages {
        domain: DomainId(domain),
        pasid: pasid(value),
        range: IovaRange::aligned_block(Iova(address), order),
        leaf_only: false,
    }
}

#[test]
fn global_and_domain_invalidations_drop_pages_of_every_type() {
    assert!(kept_after(I::IotlbGlobal).is_empty());
    assert_eq!(
        kept_after(I::IotlbDomain(DomainId(5))),
        [2, 3, 4, 5, 6],
        "second stage"
    );
    assert_eq!(kept_after(I::IotlbDomain(DomainId(6))), [0, 1, 4, 5, 6]);
    assert_eq!(kept_after(I::IotlbDomain(DomainId(7))), [0, 1, 2, 3, 6]);
}

/// The range of a second stage says nothing of the addresses that devices use in front of a first one.
#[test]
fn page_invalidation_drops_the_pages_of_pasids_whole() {
    assert_eq!(
        kept_after(second_stage_pages(5, 0x1000, 0)),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!(
        kept_after(second_stage_pages(7, 0x70_0000, 0)),
        [0, 1, 2, 3, 6]
    );
    assert_eq!(
        kept_after(second_stage_pages(6, 0x70_0000, 0)),
        [0, 1, 4, 5, 6]
    );
    assert_eq!(kept_after(second_stage_pages(1, 0, 52)).len(), 7);
}

#[test]
fn pages_that_come_after_such_an_invalidation_are_dropped_by_the_next() {
    let bench = warm();
    for _ in 0..2 {
        bench.translator.invalidate(&[second_stage_pages(7, 0, 0)]);
        assert_eq!(kept(&bench), [0, 1, 2, 3, 6]);
        assert_eq!(kept(&bench).len(), 7);
    }
    bench.translator.invalidate(&[I::IotlbDomain(DomainId(7))]);
    assert_eq!(kept(&bench), [0, 1, 2, 3, 6]);
    bench.translator.invalidate(&[second_stage_pages(7, 0, 0)]);
    assert_eq!(kept(&bench), [0, 1, 2, 3, 6]);
}

#[test]
fn pasid_invalidation_drops_the_pasid_only() {
    let all = |domain, value| {
        kept_after(I::PasidIotlbAll {
            domain: DomainId(domain),
            pasid: pasid(value),
        })
    };
    assert_eq!(all(6, FIRST), [0, 1, 4, 5, 6]);
    assert_eq!(all(7, NESTED), [0, 1, 2, 3, 6]);
    assert_eq!(all(6, NESTED).len(), 7, "another PASID");
    assert_eq!(all(7, FIRST).len(), 7, "another domain");
    assert_eq!(all(5, SECOND).len(), 7, "the second stage has none");
}

#[test]
fn pasid_page_invalidation_drops_the_range_only() {
    assert_eq!(
        kept_after(pasid_pages(6, FIRST, 0x1000, 0)),
        [0, 1, 3, 4, 5, 6]
    );
    assert_eq!(
        kept_after(pasid_pages(6, FIRST, 0, 18)),
        [0, 1, 4, 5, 6],
        "1 GiB"
    );
    assert_eq!(
        kept_after(pasid_pages(6, FIRST, 0, 51)),
        [0, 1, 4, 5, 6],
        "half of everything"
    );
    assert_eq!(kept_after(pasid_pages(6, FIRST, 1 << 63, 51)).len(), 7);
    assert_eq!(kept_after(pasid_pages(6, NESTED, 0x1000, 0)).len(), 7);
    assert_eq!(kept_after(pasid_pages(5, SECOND, 0, 51)).len(), 7);
}

#[test]
fn pasid_page_invalidation_drops_large_pages_that_contain_it() {
    let left = kept_after(pasid_pages(6, FIRST, 0x3f_f000, 0));
    assert_eq!(left, [0, 1, 2, 4, 5, 6]);
}

/// Software names the first-stage page by any of its addresses.
#[test]
fn pasid_page_invalidation_drops_every_piece_of_a_page() {
    let left = kept_after(pasid_pages(7, NESTED, 0x3f_f000, 0));
    assert_eq!(left, [0, 1, 2, 3, 4, 6]);
}

#[test]
fn pasid_cache_invalidation_drops_what_it_names() {
    let one = |domain, value| {
        entry_reads_after(I::PasidCacheOne {
            domain: DomainId(domain),
            pasid: pasid(value),
        })
    };
    assert_eq!(
        one(6, FIRST),
        [0, PASID_READS, 0, PASID_READS],
        "RID_PASID of the other device too"
    );
    assert_eq!(one(5, FIRST), [0; 4]);
    assert_eq!(one(7, NESTED), [0, 0, PASID_READS, 0]);
    assert_eq!(
        entry_reads_after(I::PasidCacheDomain(DomainId(5))),
        [PASID_READS, 0, 0, 0]
    );
    assert_eq!(entry_reads_after(I::PasidCacheGlobal), [PASID_READS; 4]);
}

/// Contexts of scalable mode name no domain: an invalidation of one drops all.
#[test]
fn context_invalidation_drops_the_pasids_of_the_device() {
    let device = |mask, source| {
        entry_reads_after(I::ContextDevice {
            domain: DomainId(0),
            source,
            mask,
        })
    };
    let both = CONTEXT_READS + PASID_READS;
    assert_eq!(
        device(FunctionMask::Exact, DEVICE),
        [both, PASID_READS, PASID_READS, 0]
    );
    assert_eq!(device(FunctionMask::Exact, OTHER), [0, 0, 0, both]);
    assert_eq!(
        device(FunctionMask::Bits210, SIBLING),
        [both, PASID_READS, PASID_READS, 0]
    );
    let every = [both, PASID_READS, PASID_READS, both];
    assert_eq!(entry_reads_after(I::ContextGlobal), every);
    assert_eq!(entry_reads_after(I::ContextDomain(DomainId(77))), every);
}

#[test]
fn device_tlb_invalidation_drops_nothing_of_the_unit() {
    let invalidation = I::DeviceTlb(DeviceTlbInvalidation {
        source: DEVICE,
        spaces: DeviceSpaces::AllPasids,
        range: IovaRange::ALL,
    });
    assert_eq!(kept_after(invalidation).len(), 7);
    assert_eq!(entry_reads_after(invalidation), [0; 4]);
}

/// The entry moves to other tables, as software does it: entry, PASID cache, IOTLB.
#[test]
fn changed_pasid_entry_counts_from_its_invalidation_on() {
    let bench = warm();
    bench.memory.set(0x5050, 0x12_0000);
    for (gpa, word) in [
        (0x12_0000, 0x12_1027),
        (0x12_1000, 0x12_2027),
        (0x12_2000, 0x12_3027),
        (0x12_3008, 0xe067),
    ] {
        bench.memory.set(gpa, word);
    }
    assert_eq!(bench.with_pasid(FIRST, 0x1000, Access::Read), Ok(0x9000));
    bench.translator.invalidate(&[
        I::PasidCacheOne {
            domain: DomainId(6),
            pasid: pasid(FIRST),
        },
        I::PasidIotlbAll {
            domain: DomainId(6),
            pasid: pasid(FIRST),
        },
    ]);
    assert_eq!(bench.with_pasid(FIRST, 0x1000, Access::Read), Ok(0xe000));
    assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Ok(0xe000));
}

/// Whoever has the right to more than another user of the same page finds it in the cache with its own rights.
#[test]
fn cached_page_is_judged_by_the_privilege_of_each_request() {
    let bench = Bench::scalable();
    let supervisor = |access| Request {
        privileged: true,
        ..with_pasid(OPEN, 0x3000, access)
    };
    assert_eq!(bench.request(&supervisor(Access::Write)), Ok(0xb000));
    assert_eq!(
        bench.with_pasid(OPEN, 0x3000, Access::Read),
        Err((0x81, true))
    );
    let reads = bench.reads_of(|bench| {
        assert_eq!(bench.request(&supervisor(Access::Read)), Ok(0xb000));
    });
    assert_eq!(reads, 0);
}

const WITH_TABLES: CacheSizes = CacheSizes {
    tables: 64,
    ..WITHOUT_TABLES
};

/// Walks after the first one in the same 2 MiB begin at the lowest table.
#[test]
fn cached_table_saves_the_levels_above_it() {
    for (pasid, cost) in [(FIRST, 1), (SECOND, 1)] {
        let bench = Bench::scalable_with(full(), WITH_TABLES);
        bench.with_pasid(pasid, 0x1000, Access::Read).unwrap();
        let reads = bench.reads_of(|bench| {
            bench.with_pasid(pasid, 0x2000, Access::Read).unwrap();
        });
        assert_eq!(reads, cost, "{pasid}");
        bench.with_pasid(pasid, 0x20_0000, Access::Read).unwrap();
        bench.translator.invalidate(&[I::IotlbGlobal]);
        let reads = bench.reads_of(|bench| {
            bench.with_pasid(pasid, 0x2000, Access::Read).unwrap();
        });
        assert_eq!(reads, 4, "{pasid}");
    }
}

#[test]
fn cached_table_keeps_the_rights_of_the_levels_above_it() {
    let bench = Bench::scalable_with(full(), WITH_TABLES);
    bench.memory.set(0x2_0000, 0x2_1025);
    bench.with_pasid(FIRST, 0x2000, Access::Read).unwrap();
    assert_eq!(
        bench.with_pasid(FIRST, 0x1000, Access::Write),
        Err((0x85, true))
    );
    bench.memory.set(0x1_0000, 0x1_1001);
    bench.read(0x2000).unwrap();
    assert_eq!(bench.dma(DEVICE, 0x1000, Access::Write), Err((0x85, true)));
}

/// A hint that only leaves changed keeps tables; without it they go with the pages.
#[test]
fn cached_table_is_dropped_unless_only_leaves_changed() {
    for (leaf_only, cost) in [(true, 1), (false, 4)] {
        let bench = Bench::scalable_with(full(), WITH_TABLES);
        bench.with_pasid(FIRST, 0x1000, Access::Read).unwrap();
        bench.read(0x1000).unwrap();
        let range = IovaRange::aligned_block(Iova(0x1000), 0);
        bench.translator.invalidate(&[
            I::PasidIotlbPages {
                domain: DomainId(6),
                pasid: pasid(FIRST),
                range,
                leaf_only,
            },
            I::IotlbPages {
                domain: DomainId(5),
                range,
                leaf_only,
            },
        ]);
        let first = bench.reads_of(|bench| {
            bench.with_pasid(FIRST, 0x1000, Access::Read).unwrap();
        });
        let second = bench.reads_of(|bench| {
            bench.read(0x1000).unwrap();
        });
        assert_eq!((first, second), (cost, cost));
    }
}

/// A fault that was found through a cached table is looked up again from the top.
#[test]
fn cached_table_never_makes_a_fault() {
    let bench = Bench::scalable_with(full(), WITH_TABLES);
    bench.with_pasid(FIRST, 0x1000, Access::Read).unwrap();
    bench.memory.set(0x2_2000, 0x12_3027);
    bench.memory.set(0x12_3028, 0xd067);
    assert_eq!(bench.with_pasid(FIRST, 0x5000, Access::Read), Ok(0xd000));
}
