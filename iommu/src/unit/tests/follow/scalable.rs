// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices in scalable mode: what their PASIDs go through. The directory is at 0x1_0000, PASID tables at 0x2_0000 and after.

use super::*;

pub(super) const DIRECTORY: u64 = 0x1_0000;

impl Bed {
    /// The scalable context of a device on bus 0: PASIDs allowed, 2^(7 + `size`) directory entries.
    pub(super) fn scalable_context(&self, source: u16, size: u64, rid_pasid: u64) {
        let at = 0x9000 + 32 * u64::from(source);
        self.set(at + 8, rid_pasid);
        self.set(at, DIRECTORY | size << 9 | 9);
    }

    /// Names the PASID table at `table` for the 64 PASIDs around `pasid`.
    pub(super) fn directory(&self, pasid: u64, table: u64) {
        self.set(DIRECTORY + pasid / 64 * 8, table | u64::from(table != 0));
    }

    /// An entry of the PASID table at `table`, the present bit last.
    pub(super) fn entry(&self, table: u64, pasid: u64, words: [u64; 3]) {
        let at = table + pasid % 64 * 64;
        self.set(at + 16, words[2]);
        self.set(at + 8, words[1]);
        self.set(at, words[0]);
    }
}

pub(super) fn bind(pasid: u32, to: Attachment) -> FollowEvent {
    let pasid = Pasid::new(pasid).unwrap();
    FollowEvent::Bind {
        device: D,
        pasid,
        to,
    }
}

pub(super) fn unbind(pasid: u32) -> FollowEvent {
    let pasid = Pasid::new(pasid).unwrap();
    FollowEvent::Unbind { device: D, pasid }
}

/// Kind, PASID, and where it leads.
pub(super) type Short = (&'static str, u32, Option<(u16, u64)>);

pub(super) fn short(event: &FollowEvent) -> Short {
    let (kind, pasid) = match event {
        FollowEvent::Attach { .. } => ("attach", 0),
        FollowEvent::Bind { pasid, .. } => ("bind", pasid.get()),
        FollowEvent::Rebind { pasid, .. } => ("rebind", pasid.get()),
        FollowEvent::Unbind { pasid, .. } => ("unbind", pasid.get()),
        _ => ("other", 0),
    };
    (kind, pasid, leads_to(event))
}

pub(super) fn shorts(events: &[FollowEvent]) -> Vec<Short> {
    events.iter().map(short).collect()
}

/// Second stage of four levels.
pub(super) const fn second(table: u64, domain: u64) -> [u64; 3] {
    [table | 0x89, domain, 0]
}

/// RID_PASID 3 and three other PASIDs, with translation enabled.
pub(super) fn bed() -> Bed {
    let bed = Bed::scalable();
    bed.scalable_context(DEVICE, 7, 3);
    bed.directory(0, 0x2_0000);
    bed.directory(0xf_ffff, 0x2_1000);
    bed.entry(0x2_0000, 3, second(0x3_0000, 5));
    bed.entry(0x2_0000, 0, second(0x3_1000, 6));
    bed.entry(0x2_0000, 63, [0x101, 7, 0]);
    bed.entry(0x2_1000, 0xf_ffff, second(0x3_0000, 5));
    bed.enable();
    bed
}

#[test]
fn late_device_is_told_of_all_its_pasids() {
    let bed = bed();
    let told = bed.follow(D, DEVICE);
    assert_eq!(
        shorts(&told),
        [
            ("attach", 0, Some((5, 0x3_0000))),
            ("bind", 0, Some((6, 0x3_1000))),
            ("bind", 63, None),
            ("bind", 0xf_ffff, Some((5, 0x3_0000))),
        ]
    );
    assert_eq!(told[2], bind(63, Attachment::Identity));
    let walks = bed.bench.unit.counters().follow.pasid_walks;
    // 2^14 directory entries of 8 bytes, all but two of which are absent.
    assert_eq!((walks.directory_pages, walks.tables), (32, 2));
    assert_eq!(walks.skipped, (1 << 14) - 2);
}

#[test]
fn every_translation_type_is_told_as_it_is() {
    let bed = bed();
    // First stage, five levels need FL5LP; WPE and SRE are rules.
    bed.entry(0x2_0000, 10, [0x41, 11, 0x3_2011]);
    bed.entry(0x2_0000, 11, [0x3_3000 | 0xc9, 12, 0x7_7000]);
    let told = bed.follow(D, DEVICE);
    let domain = |pasid: u32| {
        let found = told.iter().find_map(|event| match event {
            FollowEvent::Bind {
                pasid: at,
                to: Attachment::Domain(domain),
                ..
            } if at.get() == pasid => Some(*domain),
            _ => None,
        });
        found.unwrap()
    };
    let first = domain(10);
    assert_eq!((first.id, first.tables.width), (DomainId(11), 48));
    assert!(first.tables.rules.supervisor() && first.tables.rules.write_protect());
    assert!(matches!(first.tables.stages, Stages::First(stage) if stage.table.0 == 0x3_2000));
    let nested = domain(11);
    assert!(matches!(nested.tables.stages, Stages::Nested(first, second)
            if first.table.0 == 0x7_7000 && second.table.0 == 0x3_3000));
    let second = domain(0);
    assert!(matches!(second.tables.stages, Stages::Second(stage) if stage.levels == 4));
    assert_eq!(second.tables.rules, crate::translate::rights::Rules::new());
}

#[test]
fn pasid_selective_invalidation_tells_of_one() {
    let bed = bed();
    bed.follow(D, DEVICE);
    let one = |domain: u64, pasid: u64| (0x17 | domain << 16 | pasid << 32, 0);
    bed.entry(0x2_0000, 0, second(0x3_2000, 6));
    bed.entry(0x2_0000, 1, second(0x3_3000, 8));
    bed.entry(0x2_0000, 63, [0, 0, 0]);
    assert_eq!(bed.submit(&[one(6, 2)]), [], "nothing there");
    assert_eq!(bed.submit(&[one(9, 0)]), [], "another domain");
    let told = bed.submit(&[one(6, 0)]);
    assert_eq!(shorts(&told), [("rebind", 0, Some((6, 0x3_2000)))]);
    let told = bed.submit(&[one(8, 1)]);
    assert_eq!(shorts(&told), [("bind", 1, Some((8, 0x3_3000)))]);
    assert_eq!(bed.submit(&[one(7, 63)]), [unbind(63)]);
    assert_eq!(bed.submit(&[one(6, 0), one(8, 1), one(7, 63)]), []);
    // Domain 0 stands for an entry that was not present.
    bed.entry(0x2_0000, 2, second(0x3_0000, 5));
    let told = bed.submit(&[one(0, 2)]);
    assert_eq!(shorts(&told), [("bind", 2, Some((5, 0x3_0000)))]);
    let walks = bed.bench.unit.counters().follow.pasid_walks;
    assert_eq!(walks.tables, 2, "only the first look at the device walked");
}

#[test]
fn domain_selective_invalidation_passes_over_other_domains() {
    let bed = bed();
    bed.follow(D, DEVICE);
    bed.entry(0x2_0000, 0, second(0x3_2000, 9));
    bed.entry(0x2_0000, 5, second(0x3_2000, 9));
    bed.entry(0x2_0000, 63, [0, 0, 0]);
    bed.entry(0x2_1000, 0xf_ffff, second(0x3_0000, 10));
    assert_eq!(bed.submit(&[(0x000c_0007, 0)]), []);
    let told = bed.submit(&[(0x0009_0007, 0)]);
    assert_eq!(
        shorts(&told),
        [
            ("rebind", 0, Some((9, 0x3_2000))),
            ("bind", 5, Some((9, 0x3_2000))),
        ]
    );
    assert_eq!(bed.submit(&[(0x0007_0007, 0)]), [unbind(63)]);
    let told = bed.submit(&[(0x0005_0007, 0)]);
    assert_eq!(shorts(&told), [("rebind", 0xf_ffff, Some((10, 0x3_0000)))]);
}

#[test]
fn global_invalidation_tells_only_what_differs() {
    let bed = bed();
    bed.follow(D, DEVICE);
    assert_eq!(bed.submit(&[(0x37, 0)]), []);
    bed.entry(0x2_0000, 0, [0; 3]);
    bed.entry(0x2_0000, 1, second(0x3_1000, 6));
    bed.entry(0x2_0000, 63, second(0x3_1000, 6));
    let told = bed.submit(&[(0x37, 0)]);
    assert_eq!(
        shorts(&told),
        [
            ("unbind", 0, None),
            ("bind", 1, Some((6, 0x3_1000))),
            ("rebind", 63, Some((6, 0x3_1000))),
        ]
    );
    assert_eq!(bed.submit(&[(0x37, 0)]), []);
}

#[test]
fn entry_of_rid_pasid_is_the_devices_own() {
    let bed = bed();
    bed.follow(D, DEVICE);
    bed.entry(0x2_0000, 3, second(0x3_4000, 9));
    assert_eq!(bed.submit(&[(0x000a_0007, 0)]), []);
    let told = bed.submit(&[(0x17 | 5 << 16 | 3 << 32, 0)]);
    assert_eq!(shorts(&told), [("attach", 0, Some((9, 0x3_4000)))]);
    bed.entry(0x2_0000, 3, [0; 3]);
    assert_eq!(
        bed.submit(&[(0x0009_0007, 0)]),
        [attach(D, Attachment::Blocked)]
    );
    // Another number, by the context.
    bed.scalable_context(DEVICE, 7, 0xf_ffff);
    bed.entry(0x2_0000, 3, second(0x3_4000, 9));
    let told = bed.submit(&[(0x10_0000_0031, 0)]);
    assert_eq!(
        shorts(&told),
        [
            ("unbind", 0xf_ffff, None),
            ("attach", 0, Some((5, 0x3_0000))),
            ("bind", 3, Some((9, 0x3_4000))),
        ]
    );
}

/// SRE = 0, and requests without PASID have supervisor privilege.
#[test]
fn supervisor_without_pasid_is_blocked_where_the_entry_forbids_it() {
    let bed = bed();
    bed.scalable_context(DEVICE, 7, 0x10_0003);
    assert_eq!(bed.follow(D, DEVICE)[0], attach(D, Attachment::Blocked));
    bed.entry(0x2_0000, 3, [0x41, 5, 0x3_0001]);
    let told = bed.submit(&[(0x37, 0)]);
    let FollowEvent::Attach {
        to: Attachment::Domain(domain),
        ..
    } = told[0]
    else {
        panic!("{told:?}");
    };
    assert!(domain.tables.privileged);
}

#[test]
fn context_is_read_when_an_invalidation_names_it_and_only_then() {
    let bed = bed();
    bed.follow(D, DEVICE);
    // PASIDE = 0.
    bed.set(0x9000 + 32 * 0x10, DIRECTORY | 7 << 9 | 1);
    assert_eq!(bed.submit(&[(0x37, 0)]), []);
    let told = bed.submit(&[(0x11, 0)]);
    assert_eq!(told, [unbind(0), unbind(63), unbind(0xf_ffff)]);
    bed.set(0x9000 + 32 * 0x10, DIRECTORY | 9);
    assert_eq!(bed.submit(&[(0x37, 0)]), []);
    // The directory of 128 entries ends before the last PASID. Contexts name no domain: any is looked at.
    let told = bed.submit(&[(0x0001_0021, 0)]);
    assert_eq!(
        shorts(&told),
        [("bind", 0, Some((6, 0x3_1000))), ("bind", 63, None)]
    );
}

#[test]
fn entry_that_is_not_valid_binds_nothing() {
    let bed = bed();
    bed.follow(D, DEVICE);
    // A reserved bit, and a type that is none.
    bed.entry(0x2_0000, 0, [0x3_1000 | 0x489, 6, 0]);
    bed.entry(0x2_0000, 63, [0x141, 7, 0]);
    assert_eq!(bed.submit(&[(0x37, 0)]), [unbind(0), unbind(63)]);
    assert_eq!(bed.bench.unit.counters().follow.pasid_walks.invalid, 2);
    assert_eq!(bed.faults(), [], "nothing was requested");
}

#[test]
fn disabling_unbinds_everything_and_enabling_binds_it_again() {
    let bed = bed();
    let first = bed.follow(D, DEVICE);
    bed.bench.w32(0x18, 0x0400_0000);
    let identity = attach(D, Attachment::Identity);
    assert_eq!(
        bed.told(),
        [unbind(0), unbind(63), unbind(0xf_ffff), identity]
    );
    assert_eq!(bed.submit(&[(0x37, 0), (0x11, 0)]), [], "nothing counts");
    assert_eq!(bed.enable(), first);
}

#[test]
fn mode_change_replays_and_abort_blocks() {
    let bed = bed();
    bed.follow(D, DEVICE);
    bed.bench.w64(0x20, 0x8c00);
    bed.bench.w32(0x18, 0xc400_0000);
    let blocked = attach(D, Attachment::Blocked);
    assert_eq!(
        bed.told(),
        [unbind(0), unbind(63), unbind(0xf_ffff), blocked]
    );
    // Legacy mode: the context table at 0x9000 holds an entry for 00:02.0 at another place.
    bed.context(DEVICE, 0x3_0001, 0x502);
    bed.bench.w64(0x20, 0x8000);
    bed.set(0x8008, 0);
    bed.bench.w32(0x18, 0xc400_0000);
    let told = bed.told();
    assert_eq!(short(&told[0]), ("attach", 0, Some((5, 0x3_0000))));
    bed.bench.w64(0x20, 0x8400);
    bed.bench.w32(0x18, 0xc400_0000);
    assert_eq!(
        bed.told().len(),
        3 + 1,
        "three PASIDs, and tables may differ"
    );
}

#[test]
fn pasid_based_invalidation_of_tables_names_the_pasid() {
    let bed = bed();
    bed.follow(D, DEVICE);
    assert_eq!(
        bed.submit(&[(0x26 | 6 << 16 | 9 << 32, 0)]),
        [invalidated(6, Some(9), ALL, false)]
    );
    assert_eq!(
        bed.submit(&[(0x36 | 6 << 16 | 9 << 32, 0x4041)]),
        [invalidated(6, Some(9), (0x4000, 0x5fff), true)]
    );
    assert_eq!(bed.submit(&[(0x26 | 7 << 16 | 63 << 32, 0)]), []);
}
