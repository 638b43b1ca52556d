// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which capabilities go together, and which nothing here carries out yet.

use super::{CapabilityError, FAULT_RECORD_OFFSET, IOTLB_OFFSET, MAX_FAULT_RECORDS};
use crate::spec::regs::{Cap, Ecap};

/// Capabilities that need others.
pub(super) fn dependencies(cap: Cap, ecap: Ecap) -> Result<(), CapabilityError> {
    let rules = [
        (ecap.eim(), "EIM", ecap.ir(), "IR"),
        (ecap.mhmv() != 0, "MHMV", ecap.ir(), "IR"),
        (ecap.ir(), "IR", ecap.qi(), "QI"),
        (cap.pi(), "PI", ecap.ir(), "IR"),
        (ecap.dt(), "DT", ecap.qi(), "QI"),
        (ecap.smts(), "SMTS", ecap.qi(), "QI"),
        (ecap.nwfs(), "NWFS", ecap.dt(), "DT"),
        (ecap.dit(), "DIT", ecap.dt(), "DT"),
        (ecap.prs(), "PRS", ecap.dt(), "DT"),
        (ecap.pds(), "PDS", ecap.prs(), "PRS"),
        (ecap.pss() != 0, "PSS", ecap.pasid(), "PASID"),
        (ecap.vcs(), "VCS", ecap.pasid(), "PASID"),
        (ecap.eafs(), "EAFS", ecap.pasid(), "PASID"),
        (ecap.eafs(), "EAFS", ecap.smpwc(), "SMPWC"),
        (ecap.rprivs(), "RPRIVS", ecap.srs(), "SRS"),
        (ecap.ers(), "ERS", ecap.pasid(), "PASID"),
        (ecap.srs(), "SRS", ecap.pasid(), "PASID"),
        (ecap.pasid(), "PASID", ecap.smts(), "SMTS"),
        (ecap.fsts(), "FSTS", ecap.smts(), "SMTS"),
        (ecap.ssts(), "SSTS", ecap.smts(), "SMTS"),
        (ecap.ssads(), "SSADS", ecap.smts(), "SMTS"),
        (ecap.smpwc(), "SMPWC", ecap.smts(), "SMTS"),
        (ecap.ssads(), "SSADS", ecap.ssts(), "SSTS"),
        (ecap.rps(), "RPS", ecap.smts(), "SMTS"),
        (ecap.nest(), "NEST", ecap.fsts(), "FSTS"),
        (ecap.nest(), "NEST", ecap.ssts(), "SSTS"),
        (cap.fs1gp(), "FS1GP", ecap.fsts(), "FSTS"),
        (cap.fs5lp(), "FS5LP", ecap.fsts(), "FSTS"),
    ];
    match rules.iter().find(|(has, _, needed, _)| *has && !needed) {
        Some((_, name, _, needs)) => Err(CapabilityError::Requires(name, needs)),
        None => Ok(()),
    }
}

/// Capabilities that nothing behind the registers carries out.
pub(super) fn implemented(cap: Cap, ecap: Ecap) -> Result<(), CapabilityError> {
    let absent = [
        (cap.afl(), "AFL"),
        (cap.rwbf(), "RWBF"),
        (cap.plmr(), "PLMR"),
        (cap.phmr(), "PHMR"),
        (cap.ecmds(), "ECMDS"),
        (ecap.mts(), "MTS"),
        (ecap.vcs(), "VCS"),
    ];
    match absent.iter().find(|(has, _)| *has) {
        Some((_, field)) => Err(CapabilityError::Field { field, value: 1 }),
        None => Ok(()),
    }
}

/// What scalable mode cannot do without.
pub(super) fn stages(cap: Cap, ecap: Ecap) -> Result<(), CapabilityError> {
    if ecap.smts() && !ecap.fsts() && !ecap.ssts() {
        return Err(CapabilityError::NoStage);
    }
    if ecap.fsts() && ecap.ssts() && cap.sagaw() & 0x4 == 0 {
        return Err(CapabilityError::StagesWithoutCommonWidth(cap.sagaw()));
    }
    Ok(())
}

/// Fields with values that the specification reserves, and register offsets.
pub(super) fn fields(cap: Cap, ecap: Ecap) -> Result<(), CapabilityError> {
    let reserved = |field, value| Err(CapabilityError::Field { field, value });
    if cap.nd() > 6 {
        return reserved("ND", cap.nd().into());
    }
    if cap.sagaw() & !0xe != 0 || cap.sagaw() == 0 {
        return reserved("SAGAW", cap.sagaw().into());
    }
    if cap.sslps() > 3 {
        return reserved("SSLPS", cap.sslps().into());
    }
    if cap.mamv() > 52 {
        return reserved("MAMV", cap.mamv().into());
    }
    let bits = cap.mgaw() + 1;
    let widest = match cap.sagaw() {
        0x8.. => 57,
        0x4.. => 48,
        _ => 39,
    };
    if bits > widest {
        return Err(CapabilityError::WidthWithoutTable {
            bits,
            sagaw: cap.sagaw(),
        });
    }
    if ecap.pss() > 19 {
        return reserved("PSS", ecap.pss().into());
    }
    if ecap.iro() != IOTLB_OFFSET / 16 {
        return reserved("IRO", ecap.iro());
    }
    if cap.fro() != FAULT_RECORD_OFFSET / 16 {
        return reserved("FRO", cap.fro());
    }
    if u16::from(cap.nfr()) >= MAX_FAULT_RECORDS {
        return Err(CapabilityError::FaultRecords(u16::from(cap.nfr()) + 1));
    }
    Ok(())
}
