// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is kept, and what each invalidation drops: the number of table reads shows whether a request hit.

use super::*;
use crate::address::IovaRange;
use crate::ids::DomainId;
use crate::invalidation::{FunctionMask, Invalidation};

/// Requests that the standard tables allow, each with a cache entry of its own.
const PAGES: [(SourceId, u64); 5] = [
    (DEVICE, 0x1000),
    (DEVICE, 0x2000),
    (DEVICE, 0x20_0000),
    (DEVICE, 0x4000_0000),
    (OTHER, 0x1000),
];

/// A bench where all of [`PAGES`] are cached, and the contexts of all three devices.
fn warm() -> Bench {
    let bench = Bench::standard();
    for (source, iova) in PAGES {
        bench.dma(source, iova, Access::Read).unwrap();
    }
    bench.dma(SIBLING, 0x1000, Access::Read).unwrap();
    assert_eq!(kept(&bench), [0, 1, 2, 3, 4]);
    bench
}

/// Which of [`PAGES`] a request finds without reading any table.
fn kept(bench: &Bench) -> Vec<usize> {
    (0..PAGES.len())
        .filter(|page| {
            let (source, iova) = PAGES[*page];
            bench.reads_of(|bench| {
                bench.dma(source, iova, Access::Read).unwrap();
            }) == 0
        })
        .collect()
}

fn kept_after(invalidation: Invalidation) -> Vec<usize> {
    let bench = warm();
    bench.translator.invalidate(&[invalidation]);
    kept(&bench)
}

fn pages(domain: u16, address: u64, order: u32) -> Invalidation {
    Invalidation::IotlbPages {
        domain: DomainId(domain),
        range: IovaRange::aligned_block(Iova(address), order),
        leaf_only: false,
    }
}

/// Which of the devices' contexts are still cached after `invalidation`; their pages are.
fn contexts_after(invalidation: Invalidation) -> Vec<SourceId> {
    let bench = warm();
    bench.translator.invalidate(&[invalidation]);
    [DEVICE, SIBLING, OTHER]
        .into_iter()
        .filter(|source| {
            let reads = bench.reads_of(|bench| {
                bench.dma(*source, 0x1000, Access::Read).unwrap();
            });
            assert!(reads == 0 || reads == 6, "pages must still be cached");
            reads == 0
        })
        .collect()
}

fn device(source: SourceId, mask: FunctionMask) -> Invalidation {
    Invalidation::ContextDevice {
        domain: DomainId(0),
        source,
        mask,
    }
}

#[test]
fn request_in_a_cached_page_reads_no_table() {
    let bench = warm();
    let reads = bench.reads_of(|bench| {
        assert_eq!(bench.read(0x1abc), Ok(0x9abc));
        assert_eq!(bench.read(0x3f_ffff), Ok(0x401f_ffff));
        assert_eq!(bench.read(0x7fff_ffff), Ok(0xbfff_ffff));
    });
    assert_eq!(reads, 0);
}

#[test]
fn devices_of_one_domain_share_its_pages() {
    let bench = Bench::standard();
    bench.read(0x1000).unwrap();
    let reads = bench.reads_of(|bench| {
        assert_eq!(bench.dma(SIBLING, 0x1000, Access::Read), Ok(0x9000));
    });
    assert_eq!(reads, 6, "root and context only");
}

#[test]
fn global_iotlb_invalidation_drops_every_page() {
    assert!(kept_after(Invalidation::IotlbGlobal).is_empty());
}

#[test]
fn domain_iotlb_invalidation_drops_the_domain_only() {
    assert_eq!(kept_after(Invalidation::IotlbDomain(DomainId(5))), [4]);
    assert_eq!(
        kept_after(Invalidation::IotlbDomain(DomainId(6))),
        [0, 1, 2, 3]
    );
    assert_eq!(
        kept_after(Invalidation::IotlbDomain(DomainId(0))),
        [0, 1, 2, 3, 4]
    );
}

#[test]
fn page_invalidation_drops_the_page_only() {
    assert_eq!(kept_after(pages(5, 0x1000, 0)), [1, 2, 3, 4]);
    assert_eq!(kept_after(pages(5, 0x2000, 0)), [0, 2, 3, 4]);
    assert_eq!(kept_after(pages(6, 0x1000, 0)), [0, 1, 2, 3]);
    assert_eq!(kept_after(pages(5, 0x3000, 0)), [0, 1, 2, 3, 4]);
    assert_eq!(kept_after(pages(7, 0x1000, 0)), [0, 1, 2, 3, 4]);
}

/// A range smaller than the cached page drops the page.
#[test]
fn page_invalidation_drops_large_pages_that_contain_it() {
    assert_eq!(kept_after(pages(5, 0x3f_f000, 0)), [0, 1, 3, 4]);
    assert_eq!(kept_after(pages(5, 0x7fff_f000, 0)), [0, 1, 2, 4]);
}

#[test]
fn page_range_drops_every_page_in_it() {
    assert_eq!(kept_after(pages(5, 0, 2)), [2, 3, 4], "16 KiB");
    assert_eq!(kept_after(pages(5, 0, 18)), [3, 4], "1 GiB");
    assert_eq!(kept_after(pages(5, 0, 52)), [4], "everything");
}

#[test]
fn context_invalidation_keeps_pages() {
    let all = [DEVICE, SIBLING, OTHER];
    assert!(contexts_after(Invalidation::ContextGlobal).is_empty());
    let domain = |id| contexts_after(Invalidation::ContextDomain(DomainId(id)));
    assert_eq!(domain(5), [OTHER]);
    assert_eq!(domain(6), [DEVICE, SIBLING]);
    assert_eq!(domain(7), all);
}

#[test]
fn device_context_invalidation_drops_the_functions_it_names() {
    assert_eq!(
        contexts_after(device(DEVICE, FunctionMask::Exact)),
        [SIBLING, OTHER]
    );
    assert_eq!(
        contexts_after(device(DEVICE, FunctionMask::Bit2)),
        [OTHER],
        "00:01.0 and 00:01.4"
    );
    assert_eq!(
        contexts_after(device(SourceId(0x000a), FunctionMask::Bit2)),
        [DEVICE, SIBLING, OTHER],
        "00:01.2 and 00:01.6"
    );
    assert_eq!(
        contexts_after(device(SourceId(0x000a), FunctionMask::Bits21)),
        [OTHER]
    );
    assert_eq!(
        contexts_after(device(SourceId(0x000b), FunctionMask::Bits21)),
        [DEVICE, SIBLING, OTHER]
    );
    assert_eq!(
        contexts_after(device(SourceId(0x000b), FunctionMask::Bits210)),
        [OTHER]
    );
}

#[test]
fn iotlb_invalidation_keeps_contexts() {
    let bench = warm();
    bench.translator.invalidate(&[Invalidation::IotlbGlobal]);
    let reads = bench.reads_of(|bench| {
        bench.read(0x1000).unwrap();
    });
    assert_eq!(reads, 4, "the walk only");
}

#[test]
fn batch_drops_what_each_of_its_invalidations_names() {
    let bench = warm();
    bench
        .translator
        .invalidate(&[pages(5, 0x1000, 0), pages(6, 0x1000, 0)]);
    assert_eq!(kept(&bench), [1, 2, 3]);
}

#[test]
fn pass_through_is_cached_and_ends_with_its_context() {
    let bench = Bench::standard();
    bench.memory.set(0x2080, 0x9);
    assert_eq!(bench.read(0x1000), Ok(0x1000));
    bench.memory.set(0x2080, 0x3001);
    assert_eq!(
        bench.reads_of(|b| assert_eq!(b.read(0x1000), Ok(0x1000))),
        0
    );
    bench
        .translator
        .invalidate(&[device(DEVICE, FunctionMask::Exact)]);
    assert_eq!(bench.read(0x1000), Ok(0x9000));
}

#[test]
fn new_root_pointer_drops_everything() {
    let bench = warm();
    bench.memory.set(0x4_0000, 0x4_1001);
    bench.memory.set(0x4_1080, 0x1_3001);
    bench.memory.set(0x4_1088, 0x0601);
    bench.translator.set_translation(Some(RootPointer {
        table: GuestAddress(0x4_0000),
        mode: TableMode::Legacy,
    }));
    assert_eq!(bench.read(0x1000), Ok(0x1_9000));
    assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Err((0x2, true)));
}

/// Neither faults nor entries that are not present are kept, with caching mode or without.
#[test]
fn faults_are_not_kept() {
    for caching_mode in [false, true] {
        let options = LegacyOptions {
            caching_mode,
            ..LegacyOptions::default()
        };
        let bench = Bench::with(Capabilities::legacy(&options).unwrap());
        assert_eq!(bench.read(0x4000), Err((0x6, true)));
        bench.memory.set(0x6020, 0xc003);
        assert_eq!(bench.read(0x4000), Ok(0xc000));
        let context = bench.memory.word(0x2100);
        bench.memory.set(0x2100, 0);
        assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Err((0x2, true)));
        bench.memory.set(0x2100, context);
        assert_eq!(bench.dma(OTHER, 0x1000, Access::Read), Ok(0x1_9000));
    }
}

/// A right that was added needs no invalidation; one that was taken away does.
#[test]
fn missing_right_of_a_cached_page_is_looked_up_again() {
    let bench = warm();
    bench.memory.set(0x6010, 0xa003);
    assert_eq!(bench.dma(DEVICE, 0x2000, Access::Write), Ok(0xa000));
    bench.memory.set(0x6010, 0xa001);
    assert_eq!(bench.dma(DEVICE, 0x2000, Access::Write), Ok(0xa000));
    bench.translator.invalidate(&[pages(5, 0x2000, 0)]);
    assert_eq!(bench.dma(DEVICE, 0x2000, Access::Write), Err((0x5, true)));
}

/// A device that walks over more pages than fit neither fails nor grows the cache.
#[test]
fn cache_is_bounded() {
    let sizes = CacheSizes {
        contexts: 4,
        pages: 16,
        ..CacheSizes::NONE
    };
    let bench = Bench::bare(legacy(), sizes);
    write_tables(&bench.memory);
    for page in 0..512 {
        bench
            .memory
            .set(0x1_5000 + page * 8, 0x100_0003 + page * 0x1000);
    }
    for page in 0..512 {
        let outcome = bench.dma(OTHER, page << 12, Access::Read);
        assert_eq!(outcome, Ok(0x100_0000 + page * 0x1000));
    }
    bench.translator.invalidate(&[Invalidation::IotlbGlobal]);
    assert_eq!(bench.translator.counters().dropped, 16);
}

#[test]
fn counters_tell_hits_from_misses() {
    let bench = Bench::standard();
    for _ in 0..3 {
        bench.read(0x1000).unwrap();
    }
    bench.read(0x4000).unwrap_err();
    bench.read(0xfee0_0000).unwrap_err();
    bench
        .translator
        .invalidate(&[Invalidation::IotlbDomain(DomainId(5))]);
    bench.translator.set_translation(None);
    bench.read(0x1000).unwrap();
    let expected = TranslatorCounters {
        translations: 6,
        unchanged: 1,
        blocked: 2,
        context_hits: 3,
        context_misses: 1,
        pasid_misses: 0,
        page_hits: 2,
        page_misses: 1,
        first_stage_walks: 0,
        second_stage_walks: 1,
        nested_walks: 0,
        five_level_walks: 0,
        entry_hits: 0,
        entry_misses: 0,
        // Root and context, a walk, and one of the blocked request, which is done afresh before it is blocked.
        table_reads: 2 + 4 + 2 * 4,
        // The page, then the context.
        dropped: 2,
    };
    assert_eq!(bench.translator.counters(), expected);
}
