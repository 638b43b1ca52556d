// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Literal leaves in, literal leaves out.

use super::*;

fn leaf(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> Leaf {
    Leaf {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Leaf::default()
    }
}

/// An Intel host with everything set in the leaves that are edited.
fn intel() -> Vec<Leaf> {
    vec![
        leaf(0, 0, [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        leaf(1, 0, [0x0009_06ea, 0xff10_0800, 0x7f1f_ffff, 0xffff_ffff]),
        // L1 data, L2, L3.
        leaf(4, 0, [0xfc00_4121, 0, 0, 0]),
        leaf(4, 1, [0xfc00_4143, 0, 0, 0]),
        leaf(4, 2, [0xfc03_c163, 0, 0, 0]),
        leaf(7, 0, [1, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]),
        leaf(7, 1, [0xffff_ffff, 0, 0, 0xffff_ffff]),
        leaf(0xb, 0, [5, 6, 7, 8]),
        leaf(0xd, 0, [7, 0x340, 0x340, 0]),
        leaf(0xd, 1, [0xf, 0, 0, 0]),
        leaf(0x4000_0001, 0, [0x0100_fefb, 0, 0, 0]),
        leaf(0x8000_0008, 0, [0x0000_3027, 0, 0, 0]),
    ]
}

fn edited(host: &[Leaf], removed: &[&str], apic_id: u32, cpus: u32) -> Vec<Leaf> {
    let removed: Vec<Feature> = removed
        .iter()
        .map(|name| Feature::parse(name).unwrap())
        .collect();
    let topology = Topology { apic_id, cpus };
    guest(host, &removed, true, topology)
        .unwrap()
        .as_slice()
        .to_vec()
}

fn get(leaves: &[Leaf], function: u32, index: u32) -> [u32; 4] {
    let leaf = find(leaves, function, index).unwrap();
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

#[test]
fn leaf_1_has_id_count_and_the_bits_of_a_guest_without_pit() {
    let leaves = edited(&intel(), &[], 3, 4);
    let [_, ebx, ecx, edx] = get(&leaves, 1, 0);
    assert_eq!(ebx, 0x0304_0800);
    assert_eq!(ecx, 0xff3f_ffff);
    assert_eq!(edx & 1 << 28, 1 << 28);
    assert_eq!(get(&leaves, 6, 0)[0], 4);
    assert_eq!(get(&leaves, 0x4000_0001, 0)[0], 0x0100_7efb);
}

#[test]
fn leaf_1_of_a_single_processor_has_no_htt() {
    assert_eq!(get(&edited(&intel(), &[], 0, 1), 1, 0)[3], 0xefff_ffff);
}

#[test]
fn leaf_1_of_many_processors_keeps_the_low_byte_and_saturates_the_count() {
    assert_eq!(
        get(&edited(&intel(), &[], 0x11f, 288), 1, 0)[1],
        0x1fff_0800
    );
}

#[test]
fn tsc_deadline_is_offered_only_where_kvm_has_it() {
    let mut host = intel();
    host[1].ecx &= !(1 << 24);
    let topology = Topology {
        apic_id: 0,
        cpus: 1,
    };
    let leaves = guest(&host, &[], false, topology).unwrap();
    assert_eq!(get(leaves.as_slice(), 1, 0)[2] & (1 << 24), 0);
}

#[test]
fn caches_of_the_first_levels_are_private_and_the_last_is_shared() {
    let leaves = edited(&intel(), &[], 0, 6);
    assert_eq!(get(&leaves, 4, 0)[0], 0x1c00_0121);
    assert_eq!(get(&leaves, 4, 1)[0], 0x1c00_0143);
    assert_eq!(get(&leaves, 4, 2)[0], 0x1c01_c163);
}

#[test]
fn extended_topology_has_threads_cores_and_an_end() {
    let leaves = edited(&intel(), &[], 287, 288);
    for function in [0xb, 0x1f] {
        assert_eq!(get(&leaves, function, 0), [0, 1, 0x100, 287]);
        assert_eq!(get(&leaves, function, 1), [9, 288, 0x201, 287]);
        assert_eq!(get(&leaves, function, 2), [0, 0, 2, 287]);
    }
}

#[test]
fn extended_topology_of_an_old_host_raises_the_highest_leaf() {
    let host = [leaf(0, 0, [0x5, 0x756e_6547, 0, 0]), leaf(1, 0, [0; 4])];
    let leaves = edited(&host, &[], 1, 2);
    assert_eq!(get(&leaves, 0, 0)[0], 0xb);
    assert_eq!(get(&leaves, 0xb, 1), [1, 2, 0x201, 1]);
    assert!(find(&leaves, 0x1f, 0).is_none());
}

#[test]
fn amd_topology_counts_cores_and_names_the_id() {
    let host = [
        leaf(0, 0, [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        leaf(1, 0, [0; 4]),
        leaf(0x8000_0001, 0, [0; 4]),
        leaf(0x8000_0008, 0, [0x3028, 0, 0x7fff, 0]),
        leaf(0x8000_001d, 3, [0x0003_c163, 0, 0, 0]),
        leaf(0x8000_001e, 0, [9, 0x105, 0x300, 7]),
    ];
    let leaves = edited(&host, &[], 5, 6);
    assert_eq!(get(&leaves, 0x8000_0008, 0)[2], 0x3f05);
    assert_eq!(get(&leaves, 0x8000_0001, 0)[2], 2);
    assert_eq!(get(&leaves, 0x8000_001d, 3)[0], 0x0001_c163);
    assert_eq!(get(&leaves, 0x8000_001e, 0), [5, 5, 0, 0]);
}

#[test]
fn intel_leaf_0x80000008_has_no_core_count() {
    assert_eq!(
        get(&edited(&intel(), &[], 1, 4), 0x8000_0008, 0),
        [0x3027, 0, 0, 0]
    );
}

#[test]
fn xsave_removed_takes_everything_with_it() {
    let leaves = edited(&intel(), &["xsave"], 0, 1);
    let [_, _, ecx, _] = get(&leaves, 1, 0);
    // XSAVE, OSXSAVE, AVX, F16C, FMA.
    assert_eq!(ecx & 0x3c00_1000, 0);
    assert_eq!(ecx & (1 << 30), 1 << 30, "rdrand stays");
    let [_, ebx, ecx, edx] = get(&leaves, 7, 0);
    // AVX2, MPX and all of AVX-512; then PKU, CET, VAES and the rest; then AMX.
    assert_eq!(ebx & 0xdc23_4020, 0);
    assert_eq!(ecx & 0x0000_5eda, 0);
    assert_eq!(edx & 0x03d0_010c, 0);
    assert_eq!(get(&leaves, 7, 1)[0] & 0x00a0_0037, 0);
    assert!(find(&leaves, 0xd, 0).is_none());
    assert!(find(&leaves, 0xd, 1).is_none());
}

#[test]
fn feature_removed_alone_leaves_the_others() {
    let leaves = edited(&intel(), &["avx512f"], 0, 1);
    let [_, ebx, _, _] = get(&leaves, 7, 0);
    assert_eq!(ebx, !0xdc23_0004);
    assert_eq!(get(&leaves, 1, 0)[2] & (1 << 28), 1 << 28, "avx stays");
    assert!(find(&leaves, 0xd, 0).is_some());
}

#[test]
fn phys_bits_takes_the_guest_width_where_it_is_smaller() {
    assert_eq!(phys_bits(&intel()), 39);
    assert_eq!(
        phys_bits(&[leaf(0x8000_0008, 0, [0x0030_3934, 0, 0, 0])]),
        48
    );
    assert_eq!(phys_bits(&[]), 36);
}
