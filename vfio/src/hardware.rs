// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a host can do for the PASIDs and first-stage tables of a guest, from what it reports of a device and the unit that
//! the device is behind (`IOMMU_GET_HW_INFO`; CAP and ECAP of the VT-d specification, sections 11.4.2 and 11.4.3).
//!
//! A guest is offered what all its devices' hosts have in common ([`Support::and`]), once; a device that comes later has to
//! have at least that ([`Support::lacks`]).

use crate::backend::HostError;
use crate::nested::NestedTable;
use iommu::capabilities::Capabilities;
use iommu::spec::regs::{Cap, Ecap};

/// What `IOMMU_GET_HW_INFO` says about a device and the Intel unit that it is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardwareInfo {
    /// The unit's capability register, as the hardware has it; `None` when the unit is not Intel's.
    pub vtd: Option<VtdRegisters>,
    /// Bits of a PASID that the device may use; 0 when the host has not enabled PASIDs.
    pub pasid_bits: u8,
    /// `IOMMU_HW_CAP_*`.
    pub capabilities: u64,
}

/// The capability registers of the host's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VtdRegisters {
    /// CAP.
    pub cap: u64,
    /// ECAP.
    pub ecap: u64,
}

/// What a guest can be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// Bits of the PASIDs that can be bound, at most 20; 0 where none can.
    pub pasid_bits: u8,
    /// First-stage tables, walked by the host on top of its own.
    pub first_stage: bool,
    /// First-stage pages of 1 GiB (FS1GP). Like those below, only with first-stage tables.
    pub gigabyte_pages: bool,
    /// First-stage tables of five levels (FS5LP).
    pub five_levels: bool,
    /// Requests with supervisor privilege (SRS).
    pub supervisor: bool,
    /// Extended accessed bits (EAFS).
    pub extended_accessed: bool,
    /// Page requests, by way of a fault queue.
    pub page_requests: bool,
}

impl Support {
    /// All that there is: what no device is in the way of.
    pub const EVERYTHING: Self = Self {
        pasid_bits: 20,
        first_stage: true,
        gigabyte_pages: true,
        five_levels: true,
        supervisor: true,
        extended_accessed: true,
        page_requests: true,
    };

    /// What every host can do: tables of the second stage for requests without PASID.
    pub const NOTHING: Self = Self {
        pasid_bits: 0,
        first_stage: false,
        gigabyte_pages: false,
        five_levels: false,
        supervisor: false,
        extended_accessed: false,
        page_requests: false,
    };

    /// What the registers of a device's unit say. Whether the kernel really nests and binds only an attempt tells; page
    /// requests are the device's to say.
    #[must_use]
    pub fn of(hardware: &HardwareInfo) -> Self {
        let Some(registers) = hardware.vtd else {
            return Self::NOTHING;
        };
        let (cap, ecap) = (
            Cap::from_bits(registers.cap),
            Ecap::from_bits(registers.ecap),
        );
        let first_stage = ecap.smts() && ecap.nest() && ecap.fsts();
        Self {
            pasid_bits: if ecap.smts() && ecap.pasid() {
                hardware.pasid_bits.min(ecap.pss() + 1).min(20)
            } else {
                0
            },
            first_stage,
            gigabyte_pages: first_stage && cap.fs1gp(),
            five_levels: first_stage && cap.fs5lp(),
            supervisor: first_stage && ecap.srs(),
            extended_accessed: first_stage && ecap.eafs(),
            page_requests: first_stage && ecap.prs(),
        }
    }

    /// What a guest's unit offers, as far as the hosts of its devices have a part in it.
    #[must_use]
    pub fn offered(unit: &Capabilities) -> Self {
        let cap = unit.cap();
        let first_stage = unit.first_stage();
        Self {
            pasid_bits: u8::try_from(unit.pasid_bits()).unwrap_or(20),
            first_stage,
            gigabyte_pages: first_stage && cap.fs1gp(),
            five_levels: first_stage && cap.fs5lp(),
            supervisor: first_stage && unit.supervisor_requests(),
            extended_accessed: first_stage && unit.extended_accessed(),
            page_requests: first_stage && unit.page_requests(),
        }
    }

    /// What both can do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            pasid_bits: self.pasid_bits.min(other.pasid_bits),
            first_stage: self.first_stage && other.first_stage,
            gigabyte_pages: self.gigabyte_pages && other.gigabyte_pages,
            five_levels: self.five_levels && other.five_levels,
            supervisor: self.supervisor && other.supervisor,
            extended_accessed: self.extended_accessed && other.extended_accessed,
            page_requests: self.page_requests && other.page_requests,
        }
    }

    /// What all of several can do: everything where there are none.
    pub fn of_all(hosts: impl IntoIterator<Item = Self>) -> Self {
        hosts.into_iter().fold(Self::EVERYTHING, Self::and)
    }

    /// Without first-stage tables, and what only they need.
    #[must_use]
    pub const fn without_first_stage(self) -> Self {
        Self {
            pasid_bits: self.pasid_bits,
            ..Self::NOTHING
        }
    }

    /// The first thing that was `offered` to a guest and is not here, in words for people.
    #[must_use]
    pub fn lacks(&self, offered: &Self) -> Option<Lack> {
        let checks = [
            (
                offered.pasid_bits > self.pasid_bits,
                Lack::Pasids {
                    offered: offered.pasid_bits,
                    here: self.pasid_bits,
                },
            ),
            (offered.first_stage && !self.first_stage, Lack::FirstStage),
            (
                offered.gigabyte_pages && !self.gigabyte_pages,
                Lack::GigabytePages,
            ),
            (offered.five_levels && !self.five_levels, Lack::FiveLevels),
            (offered.supervisor && !self.supervisor, Lack::Supervisor),
            (
                offered.extended_accessed && !self.extended_accessed,
                Lack::ExtendedAccessed,
            ),
            (
                offered.page_requests && !self.page_requests,
                Lack::PageRequests,
            ),
        ];
        checks
            .into_iter()
            .find_map(|(lacks, lack)| lacks.then_some(lack))
    }

    /// Whether the hardware can walk `table`. The kernel would only say so when it is attached, and leave the device blocked.
    ///
    /// # Errors
    /// It cannot.
    pub const fn serves(&self, table: &NestedTable) -> Result<(), HostError> {
        if !self.first_stage {
            return Err(HostError::Unsupported);
        }
        let width = matches!(table.width, 48) || matches!(table.width, 57) && self.five_levels;
        if !width
            || table.supervisor && !self.supervisor
            || table.extended_accessed && !self.extended_accessed
        {
            return Err(HostError::Invalid);
        }
        Ok(())
    }
}

/// Something that a guest was offered and the host of one device does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// PASIDs as wide.
    #[error(
        "the guest was offered PASIDs of {offered} bits, and this device can be bound to {here} bits on this host"
    )]
    Pasids {
        /// Bits that the guest knows.
        offered: u8,
        /// Bits that can be bound.
        here: u8,
    },
    /// First-stage tables.
    #[error(
        "the guest was offered first-stage tables, and the host's unit of this device does not nest"
    )]
    FirstStage,
    /// First-stage pages of 1 GiB.
    #[error(
        "the guest was offered first-stage pages of 1 GiB, which the host's unit of this device does not have"
    )]
    GigabytePages,
    /// First-stage tables of five levels.
    #[error(
        "the guest was offered first-stage tables of five levels, which the host's unit of this device does not have"
    )]
    FiveLevels,
    /// Supervisor privilege.
    #[error(
        "the guest was offered supervisor requests, which the host's unit of this device does not have"
    )]
    Supervisor,
    /// Extended accessed bits.
    #[error(
        "the guest was offered extended accessed bits, which the host's unit of this device does not have"
    )]
    ExtendedAccessed,
    /// Page requests.
    #[error(
        "the guest was offered page requests, which this device or its unit on the host does not have"
    )]
    PageRequests,
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    /// ECAP bits: NEST 26, PRS 29, SRS 31, PSS 39:35 = 19, PASID 40, SMTS 43, SLTS 46, FLTS 47; CAP: FL1GP 56, FL5LP 60.
    const ECAP: u64 =
        1 << 26 | 1 << 29 | 1 << 31 | 19 << 35 | 1 << 40 | 1 << 43 | 1 << 46 | 1 << 47;
    const CAP: u64 = 1 << 56 | 1 << 60;

    fn hardware(cap: u64, ecap: u64) -> HardwareInfo {
        HardwareInfo {
            vtd: Some(VtdRegisters { cap, ecap }),
            pasid_bits: 16,
            capabilities: 0,
        }
    }

    #[test]
    fn registers_say_what_can_be_offered() {
        let support = Support::of(&hardware(CAP, ECAP));
        let expected = Support {
            pasid_bits: 16,
            extended_accessed: false,
            ..Support::EVERYTHING
        };
        assert_eq!(support, expected);
        let eafs = Support::of(&hardware(CAP, ECAP | 1 << 34));
        assert!(eafs.extended_accessed);
    }

    #[test]
    fn unit_that_does_not_nest_offers_no_first_stage() {
        for missing in [26, 43, 47] {
            let support = Support::of(&hardware(CAP, ECAP & !(1 << missing)));
            assert!(!support.first_stage && !support.five_levels && !support.page_requests);
        }
        let narrow = ECAP & !(0x1f << 35) | 7 << 35;
        assert_eq!(Support::of(&hardware(CAP, narrow)).pasid_bits, 8);
        assert_eq!(Support::of(&hardware(CAP, ECAP & !(1 << 40))).pasid_bits, 0);
        assert_eq!(Support::of(&HardwareInfo::default()), Support::NOTHING);
    }

    #[test]
    fn guests_are_offered_what_all_hosts_have() {
        let large = Support::of(&hardware(CAP, ECAP));
        let small = Support {
            pasid_bits: 8,
            five_levels: false,
            ..large
        };
        assert_eq!(Support::of_all([large, small]), small);
        assert_eq!(Support::of_all([]), Support::EVERYTHING);
        assert_eq!(Support::of_all([large, Support::NOTHING]), Support::NOTHING);
    }

    #[test]
    fn device_that_has_less_than_was_offered_is_named() {
        let offered = Support::of(&hardware(CAP, ECAP));
        assert_eq!(offered.lacks(&offered), None);
        assert_eq!(Support::EVERYTHING.lacks(&offered), None);
        let narrow = Support {
            pasid_bits: 8,
            ..offered
        };
        let lack = narrow.lacks(&offered);
        assert_eq!(
            lack,
            Some(Lack::Pasids {
                offered: 16,
                here: 8
            })
        );
        let no_gib = Support {
            gigabyte_pages: false,
            ..offered
        };
        assert_eq!(no_gib.lacks(&offered), Some(Lack::GigabytePages));
        assert_eq!(offered.lacks(&no_gib), None);
    }

    #[test]
    fn tables_that_the_hardware_cannot_walk_are_refused_before_they_are_attached() {
        let table = NestedTable {
            table: GuestAddress(0x1000),
            width: 48,
            supervisor: false,
            write_protect: false,
            extended_accessed: false,
            page_requests: false,
        };
        let support = Support {
            five_levels: false,
            supervisor: false,
            extended_accessed: false,
            ..Support::EVERYTHING
        };
        assert_eq!(support.serves(&table), Ok(()));
        for bad in [
            NestedTable { width: 57, ..table },
            NestedTable { width: 39, ..table },
            NestedTable {
                supervisor: true,
                ..table
            },
            NestedTable {
                extended_accessed: true,
                ..table
            },
        ] {
            assert_eq!(support.serves(&bad), Err(HostError::Invalid), "{bad:?}");
        }
        assert_eq!(
            Support::EVERYTHING.serves(&NestedTable { width: 57, ..table }),
            Ok(())
        );
        assert_eq!(Support::NOTHING.serves(&table), Err(HostError::Unsupported));
    }
}
