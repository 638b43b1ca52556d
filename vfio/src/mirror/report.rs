// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What there is to tell of the mirror: plain values that can be serialised and say everything by themselves.

use super::content::{Content, Nesting, UnitId};
use super::place::Member;
use super::stats::{DeviceStats, Stats};
use super::table::{HostTable, Refusal, Trouble};
use super::{Mirror, State, leaves};
use crate::backend::{Endpoint, HostError, TableId};
use iommu::address::Iova;
use iommu::follow::{Attachment, GuestTables};
use iommu::ids::DomainId;
use iommu::translate::paging::Stages;
use serde::ser::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

/// An address, written in hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Iova> for Address {
    fn from(iova: Iova) -> Self {
        Self(iova.0)
    }
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Since the start, also of domains that are gone.
    pub totals: Stats,
    /// By host table, ascending.
    pub domains: Vec<DomainReport>,
    /// By device and PASID, ascending.
    pub devices: Vec<EndpointReport>,
}

/// What a host table shall hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// All guest RAM one to one.
    Identity,
    /// What second-stage tables of the guest map.
    SecondStage {
        /// Guest-physical address of the top table.
        root: Address,
        /// Levels of tables.
        levels: u32,
        /// Bits of the addresses that go in.
        width: u32,
        /// First-stage tables of the guest stand on it, so that nothing may only be read.
        parent: bool,
    },
    /// Nothing: the host walks a first-stage table of the guest.
    FirstStage {
        /// Address of the top table: guest-physical, or one that the second stage beneath translates.
        root: Address,
        /// Guest-physical address of the top second-stage table beneath; `None` where there is one stage.
        second_stage: Option<Address>,
        /// Bits of the addresses that go in.
        width: u32,
        /// Supervisor requests are allowed (SRE).
        supervisor: bool,
        /// They need the right to write (WPE).
        write_protect: bool,
        /// Entries have an extended accessed bit (EAFE).
        extended_accessed: bool,
        /// Page requests reach the guest.
        page_requests: bool,
    },
    /// Tables that a mirror cannot hold.
    Other,
}

impl From<Content> for Holds {
    fn from(content: Content) -> Self {
        match content {
            Content::Nothing => Self::Nothing,
            Content::Identity => Self::Identity,
            Content::Nested(Nesting { table, on }) => Self::FirstStage {
                root: Address(table.table.0),
                second_stage: on.and_then(|on| root(&on)),
                width: table.width,
                supervisor: table.supervisor,
                write_protect: table.write_protect,
                extended_accessed: table.extended_accessed,
                page_requests: table.page_requests,
            },
            Content::Guest(tables) | Content::Parent(tables) => match tables.stages {
                Stages::Second(stage) => Self::SecondStage {
                    root: Address(stage.table.0),
                    levels: stage.levels,
                    width: tables.width,
                    parent: matches!(content, Content::Parent(_)),
                },
                Stages::First(_) | Stages::Nested(..) => Self::Other,
            },
        }
    }
}

/// Where the top table of second-stage tables is.
const fn root(tables: &GuestTables) -> Option<Address> {
    match tables.stages {
        Stages::Second(stage) => Some(Address(stage.table.0)),
        Stages::First(_) | Stages::Nested(..) => None,
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Identity => f.write_str("all RAM one to one"),
            Self::SecondStage {
                root,
                levels,
                width,
                parent,
            } => {
                let beneath = if *parent {
                    ", beneath a first stage"
                } else {
                    ""
                };
                write!(
                    f,
                    "second-stage tables at {root}, {levels} levels, {width} bits{beneath}"
                )
            }
            Self::FirstStage {
                root,
                width,
                second_stage,
                ..
            } => {
                write!(f, "the guest's first-stage table at {root}, {width} bits")?;
                match second_stage {
                    Some(second) => write!(f, ", on second-stage tables at {second}"),
                    None => Ok(()),
                }
            }
            Self::Other => f.write_str("tables that are not copied"),
        }
    }
}

/// A tag by which a unit's invalidations name a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tag {
    /// The unit.
    pub unit: u32,
    /// The domain id.
    pub domain: u16,
}

/// A device, or one of its PASIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EndpointName {
    /// The device's handle.
    pub device: u32,
    /// The PASID; `None` for requests without one.
    pub pasid: Option<u32>,
}

impl From<Endpoint> for EndpointName {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            device: endpoint.device.0,
            pasid: endpoint.pasid.map(|pasid| pasid.get()),
        }
    }
}

impl fmt::Display for EndpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.device)?;
        match self.pasid {
            Some(pasid) => write!(f, " PASID {pasid:#x}"),
            None => Ok(()),
        }
    }
}

/// Something that the host refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RefusalReport {
    /// The error number; 0 where the host gave none.
    pub errno: i32,
    /// What it means and what can be done.
    pub meaning: String,
    /// How many milliseconds ago it was.
    pub ago_ms: u64,
}

/// Why nothing goes through a table that should be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    /// The guest's tables cost more than they may.
    OverBudget,
    /// The host did not remove what it was told to.
    Unclean,
}

impl fmt::Display for BlockedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OverBudget => {
                "the guest's tables cost more than its memory justifies; an invalidation of the whole domain tries again"
            }
            Self::Unclean => {
                "the host did not remove a mapping that the guest took away; the table is emptied and filled anew"
            }
        })
    }
}

/// One host table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DomainReport {
    /// The host table's number.
    pub table: u32,
    /// What it shall hold.
    pub holds: Holds,
    /// How the guest names it.
    pub tags: Vec<Tag>,
    /// What should go through it.
    pub members: Vec<EndpointName>,
    /// Guest pages, of whatever size, that its tables map now; none are counted of a domain that is blocked.
    pub leaves: u64,
    /// Runs that the host has.
    pub runs: u64,
    /// Bytes that the host has.
    pub bytes: u64,
    /// Mappings that it can hold in all, where that is limited.
    pub entry_limit: Option<u64>,
    /// Ranges that are not as the guest says.
    pub unsynced: u64,
    /// The first address of those.
    pub first_unsynced: Option<Address>,
    /// The last refusal that left a range unsynced.
    pub last_refusal: Option<RefusalReport>,
    /// Why nothing goes through it.
    pub blocked: Option<BlockedBy>,
    /// What was done for it.
    pub counters: Stats,
}

/// One device, or one of its PASIDs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EndpointReport {
    /// Which.
    #[serde(flatten)]
    pub name: EndpointName,
    /// The unit that it is behind.
    pub unit: u32,
    /// What the guest says that its requests go through.
    pub wants: String,
    /// The host table that serves that.
    pub table: Option<u32>,
    /// The host table that its requests really go through; `None` when they are blocked.
    pub place: Option<u32>,
    /// Why it is not as the guest says.
    pub refused: Option<String>,
    /// The host refuses every way to keep it from what the guest took away.
    pub still_reachable: bool,
    /// Counters of the device, the same for all of its PASIDs.
    pub counters: DeviceStats,
}

impl Mirror {
    /// All counters, by domain and device. The guest's tables are walked, with no lock held.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.state();
        let tables = state.tables.values();
        let surveys: Vec<_> = tables.map(|table| state.survey_all(table)).collect();
        let mut report = Report {
            totals: state.host.stats.clone(),
            domains: state
                .tables
                .values()
                .map(|table| state.domain(table))
                .collect(),
            devices: state.endpoint_reports(),
        };
        drop(state);
        for (domain, survey) in report.domains.iter_mut().zip(surveys) {
            domain.leaves = survey.map_or(0, leaves::count);
        }
        report
    }
}

impl State {
    /// One host table.
    pub fn domain(&self, table: &HostTable) -> DomainReport {
        let lacks = &table.lacks;
        DomainReport {
            table: table.id.0,
            holds: table.content.into(),
            tags: self.tags_of(table.content),
            members: table.members.iter().copied().map(Into::into).collect(),
            leaves: 0,
            runs: table.ledger.len() as u64,
            bytes: table.ledger.bytes(),
            entry_limit: table.entry_limit,
            unsynced: lacks.len(),
            first_unsynced: (!table.is_whole()).then(|| table.first_lack().into()),
            last_refusal: lacks.last().map(|refusal| self.refusal(refusal)),
            blocked: table.trouble.map(Into::into),
            counters: self.host.stats_of(table.id),
        }
    }

    pub fn refusal(&self, refusal: &Refusal) -> RefusalReport {
        let ago = self.host.now().saturating_sub(refusal.at);
        RefusalReport {
            errno: refusal.error.errno(),
            meaning: refusal.error.to_string(),
            ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn tags_of(&self, content: Content) -> Vec<Tag> {
        let tags: BTreeSet<(UnitId, DomainId)> = match content {
            Content::Guest(_) | Content::Parent(_) => self.tags.naming(&content).collect(),
            Content::Nested(table) => self.nested.naming(&table).collect(),
            Content::Nothing | Content::Identity => BTreeSet::new(),
        };
        let tag = |(UnitId(unit), DomainId(domain))| Tag { unit, domain };
        tags.into_iter().map(tag).collect()
    }

    fn endpoint_reports(&self) -> Vec<EndpointReport> {
        let reachable = self.still_reachable();
        self.members
            .iter()
            .map(|(endpoint, member)| EndpointReport {
                name: (*endpoint).into(),
                unit: member.unit.0,
                wants: wants(member),
                table: member.table.map(|TableId(id)| id),
                place: member.place.map(|TableId(id)| id),
                refused: self
                    .refusal_of(*endpoint, member)
                    .map(|error| error.to_string()),
                still_reachable: reachable.contains(&endpoint.device),
                counters: self.host.stats_of_device(endpoint.device),
            })
            .collect()
    }

    fn refusal_of(&self, endpoint: Endpoint, member: &Member) -> Option<HostError> {
        let stays = self.restless.contains(&endpoint);
        member.refused.or(stays.then_some(HostError::Busy))
    }
}

impl From<Trouble> for BlockedBy {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::OverBudget => Self::OverBudget,
            Trouble::Unclean => Self::Unclean,
        }
    }
}

fn wants(member: &Member) -> String {
    match member.wants {
        Attachment::Blocked => "blocked".to_owned(),
        Attachment::Identity => "identity".to_owned(),
        Attachment::Domain(domain) => format!("domain {}", domain.id.0),
    }
}
