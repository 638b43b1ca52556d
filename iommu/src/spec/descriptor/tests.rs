// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each field alone, all ones, against the mask of the specification's descriptor table; and the reserved bits, which are
//! all others but the type.

use super::*;

/// Bits 3:0 and 11:9.
const TYPE: u128 = 0xe0f;

fn check(fields: &[(&str, u128, u128)], reserved: u128) {
    let mut covered = TYPE;
    for &(name, value, mask) in fields {
        assert_eq!(value, mask, "{name}");
        covered |= mask;
    }
    assert_eq!(reserved, !covered, "reserved bits");
}

#[test]
fn header_joins_both_parts_of_the_type() {
    assert_eq!(DescriptorHeader::from_bits(0x5).kind(), 5);
    assert_eq!(DescriptorHeader::from_bits(0x205).kind(), 0x15);
    assert_eq!(DescriptorHeader::from_bits(0xe0f).kind(), 0x7f);
    assert_eq!(DescriptorHeader::from_bits(!TYPE).kind(), 0);
}

#[test]
fn context_descriptor_has_its_fields() {
    let d = ContextDescriptor::new();
    check(
        &[
            ("G", d.with_granularity(3).into(), 0x30),
            ("DID", d.with_did(0xffff).into(), 0xffff_0000),
            ("SID", d.with_sid(0xffff).into(), 0xffff << 32),
            ("FM", d.with_fm(3).into(), 3 << 48),
        ],
        ContextDescriptor::RESERVED,
    );
}

#[test]
fn iotlb_descriptor_has_its_fields() {
    let d = IotlbDescriptor::new();
    check(
        &[
            ("G", d.with_granularity(3).into(), 0x30),
            ("DW", d.with_dw(true).into(), 0x40),
            ("DR", d.with_dr(true).into(), 0x80),
            ("DID", d.with_did(0xffff).into(), 0xffff_0000),
            ("AM", d.with_am(0x3f).into(), 0x3f << 64),
            ("IH", d.with_ih(true).into(), 0x40 << 64),
            (
                "ADDR",
                d.with_page((1 << 52) - 1).into(),
                0xffff_ffff_ffff_f000 << 64,
            ),
        ],
        IotlbDescriptor::RESERVED,
    );
}

#[test]
fn interrupt_descriptor_has_its_fields() {
    let d = InterruptDescriptor::new();
    check(
        &[
            ("G", d.with_index_selective(true).into(), 0x10),
            ("IM", d.with_im(0x1f).into(), 0xf800_0000),
            ("IIDX", d.with_iidx(0xffff).into(), 0xffff << 32),
        ],
        InterruptDescriptor::RESERVED,
    );
}

#[test]
fn wait_descriptor_has_its_fields() {
    let d = WaitDescriptor::new();
    check(
        &[
            ("IF", d.with_interrupt(true).into(), 0x10),
            ("SW", d.with_status_write(true).into(), 0x20),
            ("FN", d.with_fence(true).into(), 0x40),
            ("PD", d.with_drain(true).into(), 0x80),
            (
                "status data",
                d.with_status(u32::MAX).into(),
                0xffff_ffff << 32,
            ),
            (
                "status address",
                d.with_address((1 << 62) - 1).into(),
                0xffff_ffff_ffff_fffc << 64,
            ),
        ],
        WaitDescriptor::RESERVED,
    );
}

const PAGES: u64 = (1 << 52) - 1;
const ADDRESS: u128 = 0xffff_ffff_ffff_f000 << 64;

#[test]
fn device_tlb_descriptor_has_its_fields() {
    let d = DeviceTlbDescriptor::new();
    check(
        &[
            ("PFSID 3:0", d.with_pfsid_low(0xf).into(), 0xf000),
            ("MIP", d.with_mip(0x1f).into(), 0x1f_0000),
            ("SID", d.with_sid(0xffff).into(), 0xffff << 32),
            ("PFSID 15:4", d.with_pfsid_high(0xfff).into(), 0xfff << 52),
            ("S", d.with_size(true).into(), 1 << 64),
            ("ADDR", d.with_page(PAGES).into(), ADDRESS),
        ],
        DeviceTlbDescriptor::RESERVED,
    );
    let pfsid = d.with_pfsid_low(0xf).with_pfsid_high(0xfff);
    assert_eq!(u128::from(pfsid), DeviceTlbDescriptor::PFSID);
}

#[test]
fn pasid_device_tlb_descriptor_has_its_fields() {
    let d = PasidDeviceTlbDescriptor::new();
    check(
        &[
            ("MIP", d.with_mip(0x1f).into(), 0x1f0),
            ("PFSID 3:0", d.with_pfsid_low(0xf).into(), 0xf000),
            ("SID", d.with_sid(0xffff).into(), 0xffff_0000),
            ("PASID", d.with_pasid(0xf_ffff).into(), 0xf_ffff << 32),
            ("PFSID 15:4", d.with_pfsid_high(0xfff).into(), 0xfff << 52),
            ("G", d.with_global(true).into(), 1 << 64),
            ("S", d.with_size(true).into(), 1 << 75),
            ("ADDR", d.with_page(PAGES).into(), ADDRESS),
        ],
        PasidDeviceTlbDescriptor::RESERVED,
    );
    let pfsid = d.with_pfsid_low(0xf).with_pfsid_high(0xfff);
    assert_eq!(u128::from(pfsid), PasidDeviceTlbDescriptor::PFSID);
}

#[test]
fn pasid_iotlb_descriptor_has_its_fields() {
    let d = PasidIotlbDescriptor::new();
    check(
        &[
            ("G", d.with_granularity(3).into(), 0x30),
            ("DID", d.with_did(0xffff).into(), 0xffff_0000),
            ("PASID", d.with_pasid(0xf_ffff).into(), 0xf_ffff << 32),
            ("AM", d.with_am(0x3f).into(), 0x3f << 64),
            ("IH", d.with_ih(true).into(), 0x40 << 64),
            ("ADDR", d.with_page(PAGES).into(), ADDRESS),
        ],
        PasidIotlbDescriptor::RESERVED,
    );
}

#[test]
fn pasid_cache_descriptor_has_its_fields() {
    let d = PasidCacheDescriptor::new();
    check(
        &[
            ("G", d.with_granularity(3).into(), 0x30),
            ("DID", d.with_did(0xffff).into(), 0xffff_0000),
            ("PASID", d.with_pasid(0xf_ffff).into(), 0xf_ffff << 32),
        ],
        PasidCacheDescriptor::RESERVED,
    );
}

#[test]
fn page_response_descriptor_has_its_fields() {
    let d = PageResponseDescriptor::new();
    check(
        &[
            ("PP", d.with_pasid_present(true).into(), 0x10),
            ("RC", d.with_code(0xf).into(), 0xf000),
            ("RID", d.with_rid(0xffff).into(), 0xffff_0000),
            ("PASID", d.with_pasid(0xf_ffff).into(), 0xf_ffff << 32),
            ("ignored", d.with_ignored(true).into(), 4 << 64),
            ("PRGI", d.with_prgi(0x1ff).into(), 0xff8 << 64),
        ],
        PageResponseDescriptor::RESERVED,
    );
}
