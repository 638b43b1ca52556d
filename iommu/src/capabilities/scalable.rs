// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What scalable mode, PASIDs, device-TLBs and page requests hang on.

use super::Capabilities;

impl Capabilities {
    /// Scalable mode is offered (SMTS).
    #[must_use]
    pub const fn scalable_mode(&self) -> bool {
        self.ecap.smts()
    }

    /// Scalable mode has first-stage translation (FSTS).
    #[must_use]
    pub const fn first_stage(&self) -> bool {
        self.ecap.fsts()
    }

    /// Scalable mode has second-stage translation (SSTS). Legacy mode always has it.
    #[must_use]
    pub const fn second_stage(&self) -> bool {
        self.ecap.ssts()
    }

    /// Scalable mode has nested translation (NEST).
    #[must_use]
    pub const fn nesting(&self) -> bool {
        self.ecap.nest()
    }

    /// First-stage tables may have five levels (FS5LP).
    #[must_use]
    pub const fn five_level_first_stage(&self) -> bool {
        self.cap.fs5lp()
    }

    /// Levels of a first-stage table whose entry says FSPM `mode`; `None` when that is reserved or not offered.
    #[must_use]
    pub const fn first_stage_levels(&self, mode: u8) -> Option<u32> {
        match mode {
            0 => Some(4),
            1 if self.cap.fs5lp() => Some(5),
            _ => None,
        }
    }

    /// Second-stage entries have accessed and dirty bits where a PASID entry asks for them (SSADS).
    #[must_use]
    pub const fn second_stage_dirty(&self) -> bool {
        self.ecap.ssads()
    }

    /// Walks in scalable mode may be told to be coherent (SMPWC).
    #[must_use]
    pub const fn coherent_walks(&self) -> bool {
        self.ecap.smpwc()
    }

    /// Requests with PASID are offered (PASID).
    #[must_use]
    pub const fn pasids(&self) -> bool {
        self.ecap.pasid()
    }

    /// Width of PASIDs in bits (PSS + 1); 0 when requests with PASID are not offered.
    #[must_use]
    pub const fn pasid_bits(&self) -> u32 {
        if self.ecap.pasid() {
            self.ecap.pss() as u32 + 1
        } else {
            0
        }
    }

    /// The RID_PASID field of context entries is honoured (RPS); otherwise requests without PASID use PASID 0.
    #[must_use]
    pub const fn rid_pasid(&self) -> bool {
        self.ecap.rps()
    }

    /// The RID_PRIV field of context entries is honoured (RPRIVS).
    #[must_use]
    pub const fn rid_privilege(&self) -> bool {
        self.ecap.rprivs()
    }

    /// Requests may ask for instruction fetch (ERS).
    #[must_use]
    pub const fn execute_requests(&self) -> bool {
        self.ecap.ers()
    }

    /// Requests may have supervisor privilege (SRS).
    #[must_use]
    pub const fn supervisor_requests(&self) -> bool {
        self.ecap.srs()
    }

    /// First-stage entries have an extended accessed bit where a PASID entry asks for it (EAFS).
    #[must_use]
    pub const fn extended_accessed(&self) -> bool {
        self.ecap.eafs()
    }

    /// Translation requests may say that no write is wanted (NWFS).
    #[must_use]
    pub const fn no_write_flag(&self) -> bool {
        self.ecap.nwfs()
    }

    /// Device-TLB descriptors name the physical function (DIT).
    #[must_use]
    pub const fn device_tlb_names_function(&self) -> bool {
        self.ecap.dit()
    }

    /// Devices may ask for pages (PRS).
    #[must_use]
    pub const fn page_requests(&self) -> bool {
        self.ecap.prs()
    }

    /// Every request can be aborted (ADMS).
    #[must_use]
    pub const fn abort_mode(&self) -> bool {
        self.ecap.adms()
    }
}
