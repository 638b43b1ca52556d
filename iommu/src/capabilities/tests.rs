// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CAP and ECAP against literal values, and the combinations that are refused.

use super::*;

mod scalable;

fn legacy() -> LegacyOptions {
    LegacyOptions::default()
}

/// (field, value of the register with only that field all ones, its mask), from the table of CAP.
#[test]
fn cap_fields_lie_where_the_specification_puts_them() {
    let fields: [(&str, Cap, u64); 23] = [
        ("ND", Cap::new().with_nd(7), 0x7),
        ("AFL", Cap::new().with_afl(true), 1 << 3),
        ("RWBF", Cap::new().with_rwbf(true), 1 << 4),
        ("PLMR", Cap::new().with_plmr(true), 1 << 5),
        ("PHMR", Cap::new().with_phmr(true), 1 << 6),
        ("CM", Cap::new().with_cm(true), 1 << 7),
        ("SAGAW", Cap::new().with_sagaw(0x1f), 0x1f00),
        ("MGAW", Cap::new().with_mgaw(0x3f), 0x3f_0000),
        ("ZLR", Cap::new().with_zlr(true), 1 << 22),
        ("FRO", Cap::new().with_fro(0x3ff), 0x3_ff00_0000),
        ("SSLPS", Cap::new().with_sslps(0xf), 0x3c_0000_0000),
        ("PSI", Cap::new().with_psi(true), 1 << 39),
        ("NFR", Cap::new().with_nfr(0xff), 0xff00_0000_0000),
        ("MAMV", Cap::new().with_mamv(0x3f), 0x3f_0000_0000_0000),
        ("DWD", Cap::new().with_dwd(true), 1 << 54),
        ("DRD", Cap::new().with_drd(true), 1 << 55),
        ("FS1GP", Cap::new().with_fs1gp(true), 1 << 56),
        ("PI", Cap::new().with_pi(true), 1 << 59),
        ("FS5LP", Cap::new().with_fs5lp(true), 1 << 60),
        ("ECMDS", Cap::new().with_ecmds(true), 1 << 61),
        ("ESIRTPS", Cap::new().with_esirtps(true), 1 << 62),
        ("ESRTPS", Cap::new().with_esrtps(true), 1 << 63),
        ("none", Cap::new(), 0),
    ];
    for (name, value, mask) in fields {
        assert_eq!(value.into_bits(), mask, "{name}");
    }
}

/// The same for ECAP.
#[test]
fn ecap_fields_lie_where_the_specification_puts_them() {
    let fields: [(&str, Ecap, u64); 34] = [
        ("C", Ecap::new().with_c(true), 1),
        ("QI", Ecap::new().with_qi(true), 1 << 1),
        ("DT", Ecap::new().with_dt(true), 1 << 2),
        ("IR", Ecap::new().with_ir(true), 1 << 3),
        ("EIM", Ecap::new().with_eim(true), 1 << 4),
        ("PT", Ecap::new().with_pt(true), 1 << 6),
        ("SC", Ecap::new().with_sc(true), 1 << 7),
        ("IRO", Ecap::new().with_iro(0x3ff), 0x3_ff00),
        ("MHMV", Ecap::new().with_mhmv(0xf), 0xf0_0000),
        ("MTS", Ecap::new().with_mts(true), 1 << 25),
        ("NEST", Ecap::new().with_nest(true), 1 << 26),
        ("PRS", Ecap::new().with_prs(true), 1 << 29),
        ("ERS", Ecap::new().with_ers(true), 1 << 30),
        ("SRS", Ecap::new().with_srs(true), 1 << 31),
        ("NWFS", Ecap::new().with_nwfs(true), 1 << 33),
        ("EAFS", Ecap::new().with_eafs(true), 1 << 34),
        ("PSS", Ecap::new().with_pss(0x1f), 0xf8_0000_0000),
        ("PASID", Ecap::new().with_pasid(true), 1 << 40),
        ("DIT", Ecap::new().with_dit(true), 1 << 41),
        ("PDS", Ecap::new().with_pds(true), 1 << 42),
        ("SMTS", Ecap::new().with_smts(true), 1 << 43),
        ("VCS", Ecap::new().with_vcs(true), 1 << 44),
        ("SSADS", Ecap::new().with_ssads(true), 1 << 45),
        ("SSTS", Ecap::new().with_ssts(true), 1 << 46),
        ("FSTS", Ecap::new().with_fsts(true), 1 << 47),
        ("SMPWC", Ecap::new().with_smpwc(true), 1 << 48),
        ("RPS", Ecap::new().with_rps(true), 1 << 49),
        ("ADMS", Ecap::new().with_adms(true), 1 << 52),
        ("RPRIVS", Ecap::new().with_rprivs(true), 1 << 53),
        ("none", Ecap::new(), 0),
        ("MHMV 1", Ecap::new().with_mhmv(1), 1 << 20),
        ("IRO 1", Ecap::new().with_iro(1), 1 << 8),
        ("PSS 1", Ecap::new().with_pss(1), 1 << 35),
        ("PSS 19", Ecap::new().with_pss(19), 19 << 35),
    ];
    for (name, value, mask) in fields {
        assert_eq!(value.into_bits(), mask, "{name}");
    }
}

/// CAP and ECAP of a legacy unit, coherent and with snoop control, with eight fault recording registers.
#[test]
fn legacy_defaults_render_the_known_values() {
    let caps = Capabilities::legacy(&legacy()).unwrap();
    assert_eq!(caps.cap().into_bits(), 0x00d2_078c_222f_0606);
    assert_eq!(caps.ecap().into_bits(), 0x00f0_0fdb);
}

#[test]
fn caching_mode_sets_bit_7() {
    let caps = Capabilities::legacy(&LegacyOptions {
        caching_mode: true,
        ..legacy()
    })
    .unwrap();
    assert_eq!(caps.cap().into_bits() & 0x80, 0x80);
}

#[test]
fn width_39_narrows_mgaw_and_keeps_both_tables() {
    let caps = Capabilities::legacy(&LegacyOptions {
        address_width: AddressWidth::Bits39,
        ..legacy()
    })
    .unwrap();
    assert_eq!(caps.cap().into_bits() >> 16 & 0x3f, 38);
    assert_eq!(caps.cap().into_bits() >> 8 & 0x1f, 0x6);
    assert_eq!(caps.address_bits(), 39);
    assert_eq!(caps.second_stage_levels(1), Some(3));
    assert_eq!(caps.second_stage_levels(2), Some(4));
    assert_eq!(caps.second_stage_levels(3), None);
    assert_eq!(caps.second_stage_levels(0), None);
    assert_eq!(caps.second_stage_levels(7), None);
}

#[test]
fn registers_stay_in_the_first_page() {
    let caps = Capabilities::legacy(&LegacyOptions {
        fault_records: MAX_FAULT_RECORDS,
        ..legacy()
    })
    .unwrap();
    assert_eq!(caps.fault_record_offset(), 0x220);
    assert_eq!(caps.iotlb_offset(), 0xf0);
    assert!(0x220 + 16 * u32::from(caps.fault_records()) <= 0x1000);
}

#[test]
fn fault_records_out_of_range_are_refused() {
    for records in [0, MAX_FAULT_RECORDS + 1, u16::MAX] {
        let options = LegacyOptions {
            fault_records: records,
            ..legacy()
        };
        assert_eq!(
            Capabilities::legacy(&options),
            Err(CapabilityError::FaultRecords(records))
        );
    }
}

#[test]
fn host_address_width_out_of_range_is_refused() {
    for width in [0, 31, 53, 64, 255] {
        let options = LegacyOptions {
            host_address_width: width,
            ..legacy()
        };
        assert_eq!(
            Capabilities::legacy(&options),
            Err(CapabilityError::HostAddressWidth(width))
        );
    }
}

#[test]
fn extended_interrupt_mode_without_remapping_is_refused() {
    let options = LegacyOptions {
        interrupt_remapping: false,
        ..legacy()
    };
    let error = Capabilities::legacy(&options).unwrap_err();
    assert_eq!(error, CapabilityError::Requires("EIM", "IR"));
    assert_eq!(error.to_string(), "EIM needs IR, which is not offered");
}

#[test]
fn capability_without_what_it_needs_is_refused() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    let (cap, ecap) = (base.cap(), base.ecap());
    let cases = [
        (cap, ecap.with_qi(false), "IR", "QI"),
        (cap, Ecap::new().with_mhmv(1), "MHMV", "IR"),
        (cap.with_pi(true), Ecap::new(), "PI", "IR"),
        (cap, Ecap::new().with_dt(true), "DT", "QI"),
        (cap, Ecap::new().with_smts(true), "SMTS", "QI"),
        (cap, ecap.with_nwfs(true), "NWFS", "DT"),
        (cap, ecap.with_dit(true), "DIT", "DT"),
        (cap, ecap.with_prs(true), "PRS", "DT"),
        (cap, ecap.with_pds(true), "PDS", "PRS"),
        (cap, ecap.with_pss(19), "PSS", "PASID"),
        (cap, ecap.with_vcs(true), "VCS", "PASID"),
        (cap, ecap.with_eafs(true), "EAFS", "PASID"),
        (cap, ecap.with_rprivs(true), "RPRIVS", "SRS"),
        (cap, ecap.with_ers(true), "ERS", "PASID"),
        (cap, ecap.with_srs(true), "SRS", "PASID"),
        (cap, ecap.with_pasid(true), "PASID", "SMTS"),
        (cap, ecap.with_fsts(true), "FSTS", "SMTS"),
        (cap, ecap.with_ssts(true), "SSTS", "SMTS"),
        (cap, ecap.with_ssads(true), "SSADS", "SMTS"),
        (cap, ecap.with_smpwc(true), "SMPWC", "SMTS"),
        (cap, ecap.with_rps(true), "RPS", "SMTS"),
        (
            cap,
            ecap.with_smts(true).with_fsts(true).with_ssads(true),
            "SSADS",
            "SSTS",
        ),
        (cap, ecap.with_nest(true), "NEST", "FSTS"),
        (cap.with_fs1gp(true), ecap, "FS1GP", "FSTS"),
        (cap.with_fs5lp(true), ecap, "FS5LP", "FSTS"),
    ];
    for (cap, ecap, name, needs) in cases {
        assert_eq!(
            Capabilities::new(cap, ecap, 48),
            Err(CapabilityError::Requires(name, needs))
        );
    }
}

#[test]
fn capability_that_nothing_carries_out_is_refused() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    for (cap, ecap, name) in [
        (base.cap().with_afl(true), base.ecap(), "AFL"),
        (base.cap().with_rwbf(true), base.ecap(), "RWBF"),
        (base.cap().with_plmr(true), base.ecap(), "PLMR"),
        (base.cap().with_phmr(true), base.ecap(), "PHMR"),
        (base.cap().with_ecmds(true), base.ecap(), "ECMDS"),
        (base.cap(), base.ecap().with_mts(true), "MTS"),
        (
            base.cap(),
            base.ecap()
                .with_smts(true)
                .with_ssts(true)
                .with_pasid(true)
                .with_vcs(true),
            "VCS",
        ),
    ] {
        let expected = CapabilityError::Field {
            field: name,
            value: 1,
        };
        assert_eq!(Capabilities::new(cap, ecap, 48), Err(expected), "{name}");
    }
}

#[test]
fn field_with_a_reserved_value_is_refused() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    for (cap, field, value) in [
        (base.cap().with_nd(7), "ND", 7),
        (base.cap().with_sagaw(0), "SAGAW", 0),
        (base.cap().with_sagaw(0x16), "SAGAW", 0x16),
        (base.cap().with_sslps(4), "SSLPS", 4),
        (base.cap().with_mamv(53), "MAMV", 53),
        (base.cap().with_fro(0x20), "FRO", 0x20),
    ] {
        assert_eq!(
            Capabilities::new(cap, base.ecap(), 48),
            Err(CapabilityError::Field { field, value })
        );
    }
    assert_eq!(
        Capabilities::new(base.cap(), base.ecap().with_iro(0x10), 48),
        Err(CapabilityError::Field {
            field: "IRO",
            value: 0x10
        })
    );
}

#[test]
fn address_width_beyond_every_table_is_refused() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    assert_eq!(
        Capabilities::new(base.cap().with_sagaw(0x2), base.ecap(), 48),
        Err(CapabilityError::WidthWithoutTable {
            bits: 48,
            sagaw: 0x2
        })
    );
}

#[test]
fn domain_ids_beyond_nd_are_unknown() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    assert!(base.is_domain_id(DomainId(0xffff)));
    let few = Capabilities::new(base.cap().with_nd(2), base.ecap(), 48).unwrap();
    assert!(few.is_domain_id(DomainId(0xff)));
    assert!(!few.is_domain_id(DomainId(0x100)));
}
