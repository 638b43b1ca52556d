// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The fake host keeps the kernel's rules.

use super::*;
use crate::backend::Backend;
use crate::run::Rights;
use iommu::ids::Pasid;
use vm_memory::GuestAddress;

const DEVICE: DeviceHandle = DeviceHandle(1);
const ENDPOINT: Endpoint = Endpoint {
    device: DEVICE,
    pasid: None,
};

fn range(start: u64, len: u64) -> IovaRange {
    IovaRange::from_len(Iova(start), len).unwrap()
}

fn run(start: u64, len: u64) -> Run {
    Run {
        iova: range(start, len),
        gpa: GuestAddress(0x10_0000 + start),
        rights: Rights::ReadWrite,
    }
}

fn map(backend: &mut FakeBackend, table: TableId, start: u64, len: u64) -> Result<(), HostError> {
    backend.map(table, &run(start, len), HostVa(0x7f00_0000))
}

fn type1(entry_limit: u32) -> (FakeBackend, TableId) {
    let backend = FakeBackend::new(FakeOptions {
        entry_limit: Some(entry_limit),
        ..FakeOptions::type1()
    });
    backend.open(DEVICE);
    let table = backend.fixed_table(DEVICE).unwrap();
    (backend, table)
}

fn iommufd() -> (FakeBackend, TableId) {
    let mut backend = FakeBackend::new(FakeOptions::iommufd());
    backend.open(DEVICE);
    let table = backend.create_table(Role::Plain).unwrap();
    (backend, table)
}

#[test]
fn map_over_a_mapping_is_refused() {
    for (mut backend, table) in [type1(9), iommufd()] {
        map(&mut backend, table, 0x1000, 0x2000).unwrap();
        assert_eq!(
            map(&mut backend, table, 0x2000, 0x1000),
            Err(HostError::Overlap)
        );
    }
}

#[test]
fn map_beyond_the_entry_limit_is_refused_until_one_goes() {
    let (mut backend, table) = type1(2);
    map(&mut backend, table, 0x1000, 0x1000).unwrap();
    map(&mut backend, table, 0x3000, 0x1000).unwrap();
    assert_eq!(
        map(&mut backend, table, 0x5000, 0x1000),
        Err(HostError::EntryLimit)
    );
    assert_eq!(backend.unmap(table, range(0x1000, 0x1000)), Ok(0x1000));
    assert_eq!(backend.entries_left(table), Ok(Some(1)));
    map(&mut backend, table, 0x5000, 0x1000).unwrap();
}

#[test]
fn map_outside_the_usable_ranges_is_refused() {
    let (mut backend, table) = iommufd();
    assert_eq!(
        map(&mut backend, table, 0xfedf_f000, 0x2000),
        Err(HostError::Invalid)
    );
    assert_eq!(
        map(&mut backend, table, 1 << 47, 0x1000),
        Err(HostError::Invalid)
    );
}

#[test]
fn unmap_that_would_cut_changes_nothing() {
    let (mut backend, table) = type1(9);
    map(&mut backend, table, 0x1000, 0x3000).unwrap();
    assert_eq!(
        backend.unmap(table, range(0x1000, 0x1000)),
        Err(HostError::Invalid)
    );
    assert_eq!(
        backend.cut_out(table, range(0x1000, 0x1000)),
        Err(HostError::Unsupported)
    );
    assert_eq!(backend.mappings(table).unwrap(), [run(0x1000, 0x3000)]);

    let (mut backend, table) = iommufd();
    map(&mut backend, table, 0x1000, 0x3000).unwrap();
    assert_eq!(backend.unmap(table, range(0x1000, 0x1000)), Ok(0));
    assert_eq!(backend.mappings(table).unwrap(), [run(0x1000, 0x3000)]);
}

#[test]
fn unmap_on_iommufd_removes_whole_mappings_before_the_one_that_it_would_cut_and_tells_nothing() {
    let (mut backend, table) = iommufd();
    map(&mut backend, table, 0x1000, 0x1000).unwrap();
    map(&mut backend, table, 0x2000, 0x2000).unwrap();
    map(&mut backend, table, 0x9000, 0x1000).unwrap();
    assert_eq!(backend.unmap(table, range(0x1000, 0x2000)), Ok(0));
    let left = [run(0x2000, 0x2000), run(0x9000, 0x1000)];
    assert_eq!(backend.mappings(table).unwrap(), left);
    assert_eq!(backend.unmap(table, range(0x3000, 0x7000)), Ok(0));
    assert_eq!(backend.mappings(table).unwrap(), left);
}

#[test]
fn cut_out_leaves_two_mappings_that_unmap_separately() {
    let (mut backend, table) = iommufd();
    map(&mut backend, table, 0x20_0000, 0x20_0000).unwrap();
    assert_eq!(backend.cut_out(table, range(0x24_0000, 0x3000)), Ok(0x3000));
    assert_eq!(
        backend.mappings(table).unwrap(),
        [run(0x20_0000, 0x4_0000), run(0x24_3000, 0x1b_d000)]
    );
    assert_eq!(
        backend.unmap(table, range(0x20_0000, 0x4_0000)),
        Ok(0x4_0000)
    );
    assert_eq!(
        backend.unmap(table, range(0x24_3000, 0x1b_d000)),
        Ok(0x1b_d000)
    );
}

#[test]
fn unmap_covers_several_mappings_and_holes() {
    for (mut backend, table) in [type1(9), iommufd()] {
        map(&mut backend, table, 0x1000, 0x1000).unwrap();
        map(&mut backend, table, 0x2000, 0x1000).unwrap();
        map(&mut backend, table, 0x8000, 0x1000).unwrap();
        assert_eq!(backend.unmap(table, range(0, 0x10_0000)), Ok(0x3000));
        assert_eq!(backend.unmap(table, range(0, 0x10_0000)), Ok(0));
    }
}

#[test]
fn attach_that_fails_blocks_and_attaching_the_remembered_table_does_nothing() {
    let (mut backend, old) = iommufd();
    let new = backend.create_table(Role::Plain).unwrap();
    backend.attach(ENDPOINT, old).unwrap();
    backend.inject(Injection::once(CallKind::Attach, HostError::Invalid));
    assert_eq!(backend.attach(ENDPOINT, new), Err(HostError::Invalid));
    assert_eq!(backend.reaches(ENDPOINT), None);
    assert_eq!(backend.attach(ENDPOINT, old), Ok(()));
    assert_eq!(backend.reaches(ENDPOINT), None);
    assert_eq!(backend.destroy_table(old), Err(HostError::Busy));
    backend.detach(ENDPOINT).unwrap();
    backend.attach(ENDPOINT, old).unwrap();
    assert_eq!(backend.reaches(ENDPOINT), Some(old));
}

#[test]
fn attach_on_type1_is_refused() {
    let (mut backend, table) = type1(9);
    assert_eq!(backend.attach(ENDPOINT, table), Err(HostError::Unsupported));
    assert_eq!(backend.reaches(ENDPOINT), Some(table));
}

#[test]
fn injection_strikes_after_as_many_as_it_says_and_where_it_says() {
    let (mut backend, table) = iommufd();
    let injection = Injection {
        after: 1,
        times: 1,
        ..Injection::always(CallKind::Map, HostError::Io)
    };
    backend.inject(injection.within(range(0x4000, 0x1000)));
    map(&mut backend, table, 0x1000, 0x1000).unwrap();
    map(&mut backend, table, 0x4000, 0x1000).unwrap();
    assert_eq!(backend.unmap(table, range(0x4000, 0x1000)), Ok(0x1000));
    assert_eq!(map(&mut backend, table, 0x4000, 0x1000), Err(HostError::Io));
    map(&mut backend, table, 0x4000, 0x1000).unwrap();
    let failed: Vec<_> = backend
        .take_log()
        .into_iter()
        .filter(|logged| logged.result.is_err())
        .collect();
    assert_eq!(failed.len(), 1);
}

#[test]
fn pasid_is_attached_beside_the_device() {
    let (mut backend, table) = iommufd();
    let other = backend.create_table(Role::Plain).unwrap();
    let pasid = Endpoint {
        pasid: Pasid::new(5),
        ..ENDPOINT
    };
    backend.attach(ENDPOINT, table).unwrap();
    backend.attach(pasid, other).unwrap();
    assert_eq!(backend.reaches(ENDPOINT), Some(table));
    assert_eq!(backend.reaches(pasid), Some(other));
}

#[test]
fn first_stage_table_stands_only_on_what_was_made_for_that_and_keeps_it() {
    let mut backend = FakeBackend::new(FakeOptions::nesting());
    backend.open(DEVICE);
    let table = NestedTable {
        table: GuestAddress(0x1000),
        width: 48,
        supervisor: false,
        write_protect: false,
        extended_accessed: false,
        page_requests: false,
    };
    let plain = backend.create_table(Role::Plain).unwrap();
    assert_eq!(backend.create_nested(plain, table), Err(HostError::Invalid));
    let parent = backend.create_table(Role::Parent).unwrap();
    let nested = backend.create_nested(parent, table).unwrap();
    assert_eq!(
        backend.create_nested(nested, table),
        Err(HostError::Invalid)
    );
    assert_eq!(backend.destroy_table(parent), Err(HostError::Busy));
    backend.attach(ENDPOINT, nested).unwrap();
    assert_eq!(backend.ground(ENDPOINT), Some(parent));
    backend.detach(ENDPOINT).unwrap();
    backend.destroy_table(nested).unwrap();
    backend.destroy_table(parent).unwrap();
}

#[test]
fn table_to_stand_on_takes_nothing_for_reading_only() {
    let mut backend = FakeBackend::new(FakeOptions::nesting());
    let (plain, parent) = (
        backend.create_table(Role::Plain).unwrap(),
        backend.create_table(Role::Parent).unwrap(),
    );
    let read_only = Run {
        rights: Rights::Read,
        ..run(0x1000, 0x1000)
    };
    let at = HostVa(0x7f00_0000);
    assert_eq!(backend.map(plain, &read_only, at), Ok(()));
    assert_eq!(backend.map(parent, &read_only, at), Err(HostError::Invalid));
    let write_only = Run {
        rights: Rights::Write,
        ..read_only
    };
    assert_eq!(backend.map(parent, &write_only, at), Ok(()));
}
