// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why an address is not mapped: a function of guest memory and of what the mirror knows of one host table.

use super::holes::{Entry, Nothing};
use crate::backend::Limits;
use crate::mirror::{
    Address, BlockedBy, Content, INTERRUPT_WINDOW, Reach, RefusalReport, Wanted, Why,
};
use crate::run::{Rights, Run};
use iommu::address::{Iova, IovaRange};
use iommu::capabilities::Capabilities;
use iommu::follow::GuestTables;
use iommu::memory::PhysMem;
use iommu::walk::range::{End, WalkBudget};

/// A block of the host's page size is walked with no more than this; larger pages than 64 KiB there are none.
const BLOCK: WalkBudget = WalkBudget {
    tables: 64,
    runs: 4096,
};

/// What is known of one host table at one address.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Guest memory, with the guest's tables.
    pub memory: &'a dyn PhysMem,
    /// How the guest's tables are read.
    pub capabilities: &'a Capabilities,
    /// What the host table shall hold.
    pub content: Content,
    /// What it can hold.
    pub limits: &'a Limits,
    /// What mappings may lead to.
    pub reach: Reach<'a>,
    /// The run of the ledger that the address lies in.
    pub held: Option<Run>,
    /// The refusal that left the address unsynced.
    pub refusal: Option<RefusalReport>,
    /// Why nothing goes through the table.
    pub blocked: Option<BlockedBy>,
}

/// What an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mapping {
    /// Guest-physical.
    pub gpa: Address,
    /// What a device may do.
    pub rights: Rights,
}

impl Mapping {
    const fn of(run: &Run, iova: Iova) -> Self {
        Self {
            gpa: Address(run.translate(iova).0),
            rights: run.rights,
        }
    }
}

/// How things stand with an address.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// Mapped, as the guest says.
    Mapped,
    /// The guest's tables map nothing there, nor does the host.
    Nothing(Nothing),
    /// The guest maps it, and the host is not to have it.
    LeftOut(Why),
    /// The guest maps it, and the host refused.
    Refused(RefusalReport),
    /// The guest maps it, and was not asked to be heard since: it has not invalidated the address, or its invalidation is not
    /// done yet.
    NotTold,
    /// The host still has what the guest's tables no longer say.
    Stale,
    /// The host still has something else than the guest's tables say now.
    Different,
    /// Nothing goes through the host table.
    Blocked(BlockedBy),
    /// The host's hardware walks the guest's own first-stage table at each miss; nothing is copied.
    HostWalks,
    /// The guest blocks the device, or devices that share a host table disagree.
    DeviceBlocked,
    /// The host did not do with the device what the guest says.
    NotAttached(String),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Answer {
    /// The address that was asked about.
    pub iova: Address,
    /// Whose requests.
    pub about: String,
    /// The guest's entries on the way, the highest level first.
    pub entries: Vec<Entry>,
    /// What the guest's tables make of it.
    pub guest: Option<Mapping>,
    /// What the host makes of it.
    pub host: Option<Mapping>,
    /// How it stands.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// All of it in a sentence.
    pub words: String,
}

/// What is to be said of `iova`, which requests of `about` name.
#[must_use]
pub fn explain(facts: &Facts<'_>, about: &str, iova: Iova) -> Answer {
    let says = match facts.content {
        Content::Nothing | Content::Nested(_) => Says::default(),
        Content::Identity => one_to_one(facts, iova),
        Content::Guest(tables) | Content::Parent(tables) => Says::of(facts, &tables, iova),
    };
    let guest = says.run.map(|run| Mapping::of(&run, iova));
    let host = facts.held.map(|run| Mapping::of(&run, iova));
    let verdict = judge(facts, &says, guest, host, iova);
    let words = in_words(&verdict, about, iova, says.entries.last(), guest, host);
    Answer {
        iova: iova.into(),
        about: about.to_owned(),
        entries: says.entries,
        guest,
        host,
        verdict,
        words,
    }
}

/// An answer where no host table has a part in it.
#[must_use]
pub fn without_table(verdict: Verdict, about: &str, iova: Iova, host: Option<Mapping>) -> Answer {
    let words = in_words(&verdict, about, iova, None, host, host);
    Answer {
        iova: iova.into(),
        about: about.to_owned(),
        entries: Vec::new(),
        guest: None,
        host,
        verdict,
        words,
    }
}

/// What the guest says of an address.
#[derive(Debug, Default)]
struct Says {
    entries: Vec<Entry>,
    run: Option<Run>,
    nothing: Option<Nothing>,
    /// Why the host is not to have it.
    left: Option<Why>,
}

impl Says {
    fn of(facts: &Facts<'_>, tables: &GuestTables, iova: Iova) -> Self {
        let Some(trace) = tables.trace(facts.memory, facts.capabilities, iova) else {
            return Self::default();
        };
        let run = match trace.end {
            End::Page { gpa, perms, .. } => byte(iova, gpa.0, Rights::of(perms)),
            _ => None,
        };
        Self {
            entries: trace.steps.iter().map(Into::into).collect(),
            run,
            nothing: Nothing::of(trace.end, tables.width),
            left: run.and_then(|_| left_out(facts, tables, iova)),
        }
    }
}

/// Why the host is not to have `iova`, which the guest maps, judged in the block of the host's page size around it.
fn left_out(facts: &Facts<'_>, tables: &GuestTables, iova: Iova) -> Option<Why> {
    let mask = facts.limits.granule() - 1;
    let block = IovaRange::new(Iova(iova.0 & !mask), Iova(iova.0 | mask))?;
    let mut walk = tables.walk(facts.capabilities, &block)?;
    let mut runs = Vec::new();
    let _ = walk.advance(facts.memory, facts.capabilities, BLOCK, &mut runs);
    let wanted = Wanted::of_copy(&facts.content, &runs, facts.limits, facts.reach);
    why_left(&wanted, iova)
}

fn why_left(wanted: &Wanted, iova: Iova) -> Option<Why> {
    let mut left = wanted.left.iter();
    let found = left.find(|left| left.iova.contains(iova));
    found.map(|left| left.why)
}

/// Where all RAM is mapped one to one.
fn one_to_one(facts: &Facts<'_>, iova: Iova) -> Says {
    let wanted = Wanted::identity(facts.limits, facts.reach.ram);
    let run = byte(iova, iova.0, Some(Rights::ReadWrite));
    let left = why_left(&wanted, iova);
    let there = left.is_some() || wanted.runs.iter().any(|run| run.iova.contains(iova));
    Says {
        run,
        left: left.or((!there).then_some(Why::NothingThere)),
        ..Says::default()
    }
}

fn byte(iova: Iova, gpa: u64, rights: Option<Rights>) -> Option<Run> {
    Some(Run {
        iova: IovaRange::new(iova, iova)?,
        gpa: vm_memory::GuestAddress(gpa),
        rights: rights?,
    })
}

fn judge(
    facts: &Facts<'_>,
    says: &Says,
    guest: Option<Mapping>,
    host: Option<Mapping>,
    iova: Iova,
) -> Verdict {
    if let Some(blocked) = facts.blocked {
        return Verdict::Blocked(blocked);
    }
    if matches!(facts.content, Content::Nested(_)) {
        return Verdict::HostWalks;
    }
    let in_window = (INTERRUPT_WINDOW.0..=INTERRUPT_WINDOW.1).contains(&iova);
    match (guest, host) {
        (Some(guest), Some(host)) if guest == host && says.left.is_none() => Verdict::Mapped,
        (Some(_), Some(_)) if says.left.is_none() => Verdict::Different,
        (_, Some(_)) => Verdict::Stale,
        (_, None) if in_window => Verdict::LeftOut(Why::InterruptWindow),
        (Some(_), None) => match (says.left, &facts.refusal) {
            (Some(why), _) => Verdict::LeftOut(why),
            (None, Some(refusal)) => Verdict::Refused(refusal.clone()),
            (None, None) => Verdict::NotTold,
        },
        (None, None) => says
            .nothing
            .map_or(Verdict::DeviceBlocked, Verdict::Nothing),
    }
}

fn in_words(
    verdict: &Verdict,
    about: &str,
    iova: Iova,
    entry: Option<&Entry>,
    guest: Option<Mapping>,
    host: Option<Mapping>,
) -> String {
    let target = |mapping: Option<Mapping>| {
        mapping.map_or_else(
            || "nothing".to_owned(),
            |Mapping { gpa, rights }| format!("{gpa} ({rights})"),
        )
    };
    let iova = Address::from(iova);
    let (guest, host) = (target(guest), target(host));
    let because = match verdict {
        Verdict::Mapped => return format!("{iova} is mapped for {about}: it reaches {host}"),
        Verdict::Stale => {
            return format!(
                "{iova} is mapped for {about} although the guest's tables no longer say so: it reaches {host} until the \
                 guest's invalidation is done"
            );
        }
        Verdict::Different => {
            return format!(
                "{iova} is mapped for {about}, but to {host}, while the guest's tables say {guest} by now: the guest has \
                 not invalidated it, or that is not done yet"
            );
        }
        Verdict::Nothing(nothing) => nothing.in_words(entry),
        Verdict::LeftOut(why) => left_in_words(*why, &guest),
        Verdict::Refused(refusal) => format!(
            "the guest maps it to {guest}, and {}; that was {} ago",
            refusal.meaning,
            ago(refusal.ago_ms)
        ),
        Verdict::NotTold => format!(
            "the guest's tables map it to {guest} by now, but the guest has not invalidated it since, or that is not done \
             yet"
        ),
        Verdict::Blocked(blocked) => format!("nothing goes through its host table: {blocked}"),
        Verdict::HostWalks => {
            return format!(
                "{iova} of {about}: the host walks the guest's own first-stage table, of which no copy is kept"
            );
        }
        Verdict::DeviceBlocked => {
            "the guest's context or PASID entry blocks it, or devices of one group disagree"
                .to_owned()
        }
        Verdict::NotAttached(error) => {
            format!("the host did not do with it what the guest says: {error}")
        }
    };
    format!("{iova} is not mapped for {about}: {because}")
}

fn left_in_words(why: Why, guest: &str) -> String {
    match why {
        Why::InterruptWindow => {
            "it lies in the interrupt window 0xfee00000 to 0xfeefffff, where a request is an interrupt and no DMA"
                .to_owned()
        }
        Why::NothingThere => format!("it leads to {guest}, where there is no RAM"),
        Why::DeviceMemory => format!(
            "it leads to {guest}, memory of a device, which the host cannot map for another one (backend=type1 can)"
        ),
        Why::Aperture => format!(
            "the guest maps it to {guest}, but it lies beyond the host's width or in a range that the host reserves"
        ),
        Why::Granularity => format!(
            "the guest maps it to {guest}, but in a piece that is finer than the host's smallest page"
        ),
        Why::ReadOnly => format!(
            "the guest maps it to {guest}, and the host maps nothing for reading only beneath a first-stage table"
        ),
    }
}

fn ago(milliseconds: u64) -> String {
    format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
}
