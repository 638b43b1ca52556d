// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each field alone, all ones, against the mask that the specification's register table gives. CAP and ECAP stand with the
//! capabilities.

use super::*;

fn check<T: Into<u128> + Copy>(fields: &[(&str, T, u128)]) {
    for &(name, value, mask) in fields {
        assert_eq!(value.into(), mask, "{name}");
    }
}

fn bits(value: impl Into<u64>) -> u128 {
    u128::from(value.into())
}

#[test]
fn command_and_status_bits_agree() {
    let gcmd = GlobalCommand::new();
    let gsts = GlobalStatus::new();
    let rows: [(&str, GlobalCommand, GlobalStatus, u32); 9] = [
        ("CFI", gcmd.with_cfi(true), gsts.with_cfis(true), 1 << 23),
        (
            "SIRTP",
            gcmd.with_sirtp(true),
            gsts.with_irtps(true),
            1 << 24,
        ),
        ("IRE", gcmd.with_ire(true), gsts.with_ires(true), 1 << 25),
        ("QIE", gcmd.with_qie(true), gsts.with_qies(true), 1 << 26),
        ("WBF", gcmd.with_wbf(true), gsts.with_wbfs(true), 1 << 27),
        ("EAFL", gcmd.with_eafl(true), gsts.with_afls(true), 1 << 28),
        ("SFL", gcmd.with_sfl(true), gsts.with_fls(true), 1 << 29),
        ("SRTP", gcmd.with_srtp(true), gsts.with_rtps(true), 1 << 30),
        ("TE", gcmd.with_te(true), gsts.with_tes(true), 1 << 31),
    ];
    for (name, command, status, mask) in rows {
        assert_eq!(command.into_bits(), mask, "GCMD.{name}");
        assert_eq!(status.into_bits(), mask, "GSTS of {name}");
    }
}

#[test]
fn address_registers_have_their_fields() {
    let rta = RootTableAddress::new();
    let irta = InterruptTableAddress::new();
    let iqa = QueueAddress::new();
    let page = (1 << 52) - 1;
    check(&[
        ("RTADDR.TTM", bits(rta.with_ttm(3)), 0xc00),
        (
            "RTADDR.RTA",
            bits(rta.with_page(page)),
            0xffff_ffff_ffff_f000,
        ),
        ("IRTA.S", bits(irta.with_s(0xf)), 0xf),
        ("IRTA.EIME", bits(irta.with_eime(true)), 0x800),
        (
            "IRTA.IRTA",
            bits(irta.with_page(page)),
            0xffff_ffff_ffff_f000,
        ),
        ("IQA.QS", bits(iqa.with_qs(7)), 0x7),
        ("IQA.DW", bits(iqa.with_dw(true)), 0x800),
        ("IQA.IQA", bits(iqa.with_page(page)), 0xffff_ffff_ffff_f000),
        (
            "IQT.QT",
            bits(QueueOffset::new().with_units(0x7fff)),
            0x7_fff0,
        ),
    ]);
}

#[test]
fn invalidation_registers_have_their_fields() {
    let ccmd = ContextCommand::new();
    let iotlb = IotlbInvalidate::new();
    let iva = InvalidateAddress::new();
    check(&[
        ("CCMD.DID", bits(ccmd.with_did(0xffff)), 0xffff),
        ("CCMD.SID", bits(ccmd.with_sid(0xffff)), 0xffff_0000),
        ("CCMD.FM", bits(ccmd.with_fm(3)), 3 << 32),
        ("CCMD.CAIG", bits(ccmd.with_caig(3)), 3 << 59),
        ("CCMD.CIRG", bits(ccmd.with_cirg(3)), 3 << 61),
        ("CCMD.ICC", bits(ccmd.with_icc(true)), 1 << 63),
        ("IOTLB.DID", bits(iotlb.with_did(0xffff)), 0xffff << 32),
        ("IOTLB.DW", bits(iotlb.with_dw(true)), 1 << 48),
        ("IOTLB.DR", bits(iotlb.with_dr(true)), 1 << 49),
        ("IOTLB.IAIG", bits(iotlb.with_iaig(3)), 3 << 57),
        ("IOTLB.IIRG", bits(iotlb.with_iirg(3)), 3 << 60),
        ("IOTLB.IVT", bits(iotlb.with_ivt(true)), 1 << 63),
        ("IVA.AM", bits(iva.with_am(0x3f)), 0x3f),
        ("IVA.IH", bits(iva.with_ih(true)), 0x40),
        (
            "IVA.ADDR",
            bits(iva.with_page((1 << 52) - 1)),
            0xffff_ffff_ffff_f000,
        ),
    ]);
}

#[test]
fn status_registers_have_their_fields() {
    let fsts = FaultStatus::new();
    let control = EventControl::new();
    let iqercd = QueueErrorRecord::new();
    let dword = |value: u32| u128::from(value);
    check(&[
        ("FSTS.PFO", dword(fsts.with_pfo(true).into()), 1),
        ("FSTS.PPF", dword(fsts.with_ppf(true).into()), 1 << 1),
        ("FSTS.AFO", dword(fsts.with_afo(true).into()), 1 << 2),
        ("FSTS.APF", dword(fsts.with_apf(true).into()), 1 << 3),
        ("FSTS.IQE", dword(fsts.with_iqe(true).into()), 1 << 4),
        ("FSTS.ICE", dword(fsts.with_ice(true).into()), 1 << 5),
        ("FSTS.ITE", dword(fsts.with_ite(true).into()), 1 << 6),
        ("FSTS.FRI", dword(fsts.with_fri(0xff).into()), 0xff00),
        ("FECTL.IP", dword(control.with_ip(true).into()), 1 << 30),
        ("FECTL.IM", dword(control.with_im(true).into()), 1 << 31),
        (
            "ICS.IWC",
            dword(CompletionStatus::new().with_iwc(true).into()),
            1,
        ),
        ("IQERCD.IQEI", bits(iqercd.with_iqei(0xf)), 0xf),
        (
            "IQERCD.ITESID",
            bits(iqercd.with_itesid(0xffff)),
            0xffff << 32,
        ),
        (
            "IQERCD.ICESID",
            bits(iqercd.with_icesid(0xffff)),
            0xffff << 48,
        ),
    ]);
}

#[test]
fn fault_record_has_its_fields() {
    let frcd = FaultRecord::new();
    let all = u64::MAX;
    check(&[
        ("FI", frcd.with_fi(all), u128::from(all)),
        ("SID", frcd.with_sid(0xffff), 0xffff << 64),
        ("T2", frcd.with_t2(true), 1 << 92),
        ("PRIV", frcd.with_privileged(true), 1 << 93),
        ("EXE", frcd.with_exe(true), 1 << 94),
        ("PP", frcd.with_pp(true), 1 << 95),
        ("FR", frcd.with_reason(0xff), 0xff << 96),
        ("PV", frcd.with_pasid(0xf_ffff), 0xf_ffff << 104),
        ("AT", frcd.with_at(3), 3 << 124),
        ("T1", frcd.with_t1(true), 1 << 126),
        ("F", frcd.with_f(true), 1 << 127),
    ]);
}

#[test]
fn page_request_registers_have_their_fields() {
    let prs = PageRequestStatus::new();
    let pqa = PageQueueAddress::new();
    check(&[
        ("PRS.PPR", u128::from(u32::from(prs.with_ppr(true))), 1),
        ("PRS.PRO", u128::from(u32::from(prs.with_pro(true))), 2),
        ("PQA.PQS", bits(pqa.with_pqs(7)), 7),
        (
            "PQA.PQA",
            bits(pqa.with_page((1 << 52) - 1)),
            0xffff_ffff_ffff_f000,
        ),
        (
            "PQT.PQT",
            bits(PageQueueOffset::new().with_index(0x3fff)),
            0x7_ffe0,
        ),
    ]);
}
