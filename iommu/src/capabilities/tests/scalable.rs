// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Units with scalable mode as the raw values of CAP and ECAP, and what cannot be had.

use super::*;

fn base() -> LegacyOptions {
    LegacyOptions {
        fault_records: 1,
        ..LegacyOptions::default()
    }
}

fn options(stages: Stages) -> ScalableOptions {
    ScalableOptions {
        base: base(),
        stages,
        ..ScalableOptions::default()
    }
}

fn everything() -> ScalableOptions {
    ScalableOptions {
        nesting: true,
        dirty_tracking: true,
        pasid: Some(PasidBits::MAX),
        device_tlb: true,
        page_requests: true,
        ..options(Stages::Both)
    }
}

fn registers(options: &ScalableOptions) -> (u64, u64) {
    let caps = Capabilities::scalable(options).unwrap();
    (caps.cap().into_bits(), caps.ecap().into_bits())
}

/// One recording register, as in the table of ready-made values.
#[test]
fn profiles_render_the_known_values() {
    for (name, options, cap, ecap) in [
        (
            "first stage",
            options(Stages::First),
            0x01d2_008c_222f_0606u64,
            0x0003_8800_00f0_0fdbu64,
        ),
        (
            "second stage",
            options(Stages::Second),
            0x00d2_008c_222f_0606,
            0x0003_4800_00f0_0fdb,
        ),
        (
            "both stages",
            options(Stages::Both),
            0x01d2_008c_222f_0606,
            0x0003_c800_00f0_0fdb,
        ),
        (
            "nested and dirty",
            ScalableOptions {
                nesting: true,
                dirty_tracking: true,
                ..options(Stages::Both)
            },
            0x01d2_008c_222f_0606,
            0x0003_e800_04f0_0fdb,
        ),
        (
            "with PASIDs of 20 bits",
            ScalableOptions {
                nesting: true,
                dirty_tracking: true,
                pasid: Some(PasidBits::MAX),
                ..options(Stages::Both)
            },
            0x01d2_008c_222f_0606,
            0x0003_e998_04f0_0fdb,
        ),
        (
            "with page requests",
            everything(),
            0x01d2_008c_222f_0606,
            0x0003_ef98_24f0_0fdf,
        ),
    ] {
        assert_eq!(registers(&options), (cap, ecap), "{name}");
    }
}

#[test]
fn width_57_adds_five_levels_to_both_stages() {
    let wide = |stages| ScalableOptions {
        base: LegacyOptions {
            address_width: AddressWidth::Bits57,
            ..base()
        },
        ..options(stages)
    };
    assert_eq!(registers(&wide(Stages::Both)).0, 0x11d2_008c_2238_0e06);
    assert_eq!(registers(&wide(Stages::Second)).0, 0x00d2_008c_2238_0e06);
    let caps = Capabilities::scalable(&wide(Stages::Both)).unwrap();
    assert_eq!(caps.address_bits(), 57);
    assert_eq!(caps.second_stage_levels(3), Some(5));
    assert_eq!(caps.largest_aw(), 3);
    assert_eq!(caps.first_stage_levels(0), Some(4));
    assert_eq!(caps.first_stage_levels(1), Some(5));
    assert_eq!(caps.first_stage_levels(2), None);
    let narrow = Capabilities::scalable(&options(Stages::Both)).unwrap();
    assert_eq!(narrow.first_stage_levels(1), None);
}

#[test]
fn width_39_keeps_48_bit_tables_for_both_stages() {
    let (cap, _) = registers(&ScalableOptions {
        base: LegacyOptions {
            address_width: AddressWidth::Bits39,
            ..base()
        },
        ..options(Stages::Both)
    });
    assert_eq!((cap >> 16 & 0x3f, cap >> 8 & 0x1f), (38, 0x6));
}

/// What Linux looks for in ECAP before it uses a mode: bits that must be set, bits that must be clear.
#[test]
fn scenarios_find_the_bits_that_they_need() {
    let bits = |list: &[u32]| list.iter().fold(0u64, |mask, bit| mask | 1 << bit);
    let always = [0, 1, 3, 4, 6, 7];
    let dirty = ScalableOptions {
        dirty_tracking: true,
        ..options(Stages::Second)
    };
    let pasid = ScalableOptions {
        pasid: Some(PasidBits::MAX),
        ..options(Stages::Both)
    };
    let nested = ScalableOptions {
        nesting: true,
        ..pasid
    };
    for (name, options, set, clear) in [
        (
            "scalable-second-stage",
            options(Stages::Second),
            &[43, 46, 48][..],
            &[47][..],
        ),
        (
            "scalable-first-stage",
            options(Stages::First),
            &[43, 47, 48],
            &[],
        ),
        ("guest-pasid", pasid, &[40, 43, 48], &[]),
        ("guest-nested", nested, &[26, 43, 46, 47, 48], &[]),
        ("guest-pri", everything(), &[2, 29, 40, 42, 43, 48], &[]),
        ("dirty-tracking", dirty, &[43, 45, 46, 48], &[]),
    ] {
        let (_, ecap) = registers(&options);
        let set = bits(set) | bits(&always);
        assert_eq!(ecap & set, set, "{name}");
        assert_eq!(ecap & bits(clear), 0, "{name}");
        // Deprecated or refused by Linux: ECS, MTS, DIS, the old PASID bit.
        assert_eq!(ecap & bits(&[5, 24, 25, 27, 28, 32]), 0, "{name}");
    }
    assert_eq!(registers(&pasid).1 >> 35 & 0x1f, 19);
}

/// A change to options.
type Change = fn(&mut ScalableOptions);

#[test]
fn each_option_sets_its_bit() {
    let (cap, ecap) = registers(&everything());
    let rows: [(&str, Change, u64, u64); 6] = [
        ("ERS", |o| o.execute_requests = true, 0, 1 << 30),
        (
            "SRS, RPRIVS",
            |o| o.supervisor_requests = true,
            0,
            1 << 31 | 1 << 53,
        ),
        ("EAFS", |o| o.extended_accessed = true, 0, 1 << 34),
        ("NWFS", |o| o.no_write_flag = true, 0, 1 << 33),
        ("ADMS", |o| o.abort_mode = true, 0, 1 << 52),
        ("PI", |o| o.posted_interrupts = true, 1 << 59, 0),
    ];
    for (name, change, cap_bits, ecap_bits) in rows {
        let mut options = everything();
        change(&mut options);
        assert_eq!(
            registers(&options),
            (cap | cap_bits, ecap | ecap_bits),
            "{name}"
        );
    }
}

#[test]
fn options_that_need_others_are_refused_by_name() {
    let rows: [(Stages, Change, &str, &str); 9] = [
        (Stages::First, |o| o.nesting = true, "NEST", "SSTS"),
        (Stages::Second, |o| o.nesting = true, "NEST", "FSTS"),
        (Stages::First, |o| o.dirty_tracking = true, "SSADS", "SSTS"),
        (Stages::Both, |o| o.page_requests = true, "PRS", "DT"),
        (Stages::Both, |o| o.execute_requests = true, "ERS", "PASID"),
        (
            Stages::Both,
            |o| o.supervisor_requests = true,
            "SRS",
            "PASID",
        ),
        (
            Stages::Both,
            |o| o.extended_accessed = true,
            "EAFS",
            "PASID",
        ),
        (Stages::Both, |o| o.no_write_flag = true, "NWFS", "DT"),
        (Stages::Both, without_remapping, "PI", "IR"),
    ];
    for (stages, change, name, needs) in rows {
        let mut options = options(stages);
        change(&mut options);
        assert_eq!(
            Capabilities::scalable(&options),
            Err(CapabilityError::Requires(name, needs))
        );
    }
}

fn without_remapping(options: &mut ScalableOptions) {
    options.posted_interrupts = true;
    options.base.interrupt_remapping = false;
    options.base.extended_interrupt_mode = false;
}

#[test]
fn both_stages_without_48_bit_tables_are_refused() {
    let caps = Capabilities::scalable(&options(Stages::Both)).unwrap();
    let cap = caps.cap().with_sagaw(0x2).with_mgaw(38);
    let error = Capabilities::new(cap, caps.ecap(), 48).unwrap_err();
    assert_eq!(error, CapabilityError::StagesWithoutCommonWidth(0x2));
    let second = Capabilities::scalable(&options(Stages::Second)).unwrap();
    assert!(Capabilities::new(cap.with_fs1gp(false), second.ecap(), 48).is_ok());
}

#[test]
fn scalable_mode_without_a_stage_is_refused() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    assert_eq!(
        Capabilities::new(base.cap(), base.ecap().with_smts(true), 48),
        Err(CapabilityError::NoStage)
    );
}

#[test]
fn pasid_width_out_of_range_is_refused() {
    for bits in [0, 21, 255] {
        assert_eq!(PasidBits::new(bits), Err(CapabilityError::PasidBits(bits)));
    }
    for (bits, pss) in [(1, 0), (16, 15), (20, 19)] {
        let caps = Capabilities::scalable(&ScalableOptions {
            pasid: Some(PasidBits::new(bits).unwrap()),
            ..options(Stages::Both)
        })
        .unwrap();
        assert_eq!(caps.ecap().into_bits() >> 35 & 0x1f, pss);
        assert_eq!(caps.pasid_bits(), u32::from(bits));
    }
    let caps = Capabilities::scalable(&everything()).unwrap();
    assert_eq!(
        Capabilities::new(caps.cap(), caps.ecap().with_pss(20), 48),
        Err(CapabilityError::Field {
            field: "PSS",
            value: 20
        })
    );
    let without = Capabilities::scalable(&options(Stages::Both)).unwrap();
    assert_eq!(without.pasid_bits(), 0);
}

#[test]
fn mgaw_of_57_bits_needs_five_level_tables() {
    let base = Capabilities::legacy(&legacy()).unwrap();
    assert_eq!(
        Capabilities::new(base.cap().with_mgaw(56), base.ecap(), 48),
        Err(CapabilityError::WidthWithoutTable {
            bits: 57,
            sagaw: 0x6
        })
    );
    let cap = base.cap().with_mgaw(56).with_sagaw(0xe);
    assert!(Capabilities::new(cap, base.ecap(), 48).is_ok());
}
