// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One followed device: what was told of it and of its PASIDs, compared with what the guest says now.
//!
//! Each difference is one event. Of one device, PASIDs that go come first, then what requests without PASID go through, then
//! the other PASIDs in ascending order.

use super::directory::{self, PasidWalkCounts, Scan};
use super::guest::{DeviceContext, Guest, Seen};
use super::{DeviceHandle, FollowEvent, FollowedDevice, FollowedStatus, ToldStatus};
use crate::ids::{DomainId, Pasid, SourceId};
use std::collections::{BTreeSet, HashMap};

/// What was told of one kind of requests.
#[derive(Clone, Copy, Debug)]
struct Told {
    seen: Seen,
    /// The follower could not do it, so they are blocked.
    refused: bool,
    /// The guest knows that.
    reported: bool,
}

impl Told {
    /// What takes the place of `old`, about to be told.
    fn new(seen: Seen, old: Option<Self>) -> Self {
        Self {
            seen,
            refused: false,
            reported: old.is_some_and(|told| told.reported),
        }
    }

    const fn status(&self) -> ToldStatus {
        ToldStatus {
            to: self.seen.to,
            domain: self.seen.domain,
            refused: self.refused,
        }
    }
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<FollowEvent>,
    /// Devices of which a PASID, the first, was not even told, because it is beyond a budget.
    pub(crate) beyond: Vec<(DeviceHandle, Pasid)>,
    pub(crate) counts: PasidWalkCounts,
}

/// Which entries an invalidation of PASID entries names.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedEntries {
    pub(super) all: bool,
    /// Those that say one of these.
    pub(super) domains: BTreeSet<DomainId>,
    /// Those of one PASID that say this.
    pub(super) ones: BTreeSet<(DomainId, Pasid)>,
}

impl NamedEntries {
    /// The entries of all PASIDs of all domains.
    const fn everything() -> Self {
        Self {
            all: true,
            domains: BTreeSet::new(),
            ones: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.domains.is_empty() && self.ones.is_empty()
    }

    /// Whether every PASID has to be looked at.
    fn wants_walk(&self) -> bool {
        self.all || !self.domains.is_empty()
    }

    /// Whether the entry of `pasid` is named that said `old` and says `new` now. Domain 0 stands for an entry that was not
    /// present, too, as caching mode has it.
    fn name(&self, pasid: Option<Pasid>, old: Option<DomainId>, new: Option<DomainId>) -> bool {
        let either = || [old, new].into_iter().flatten();
        self.all
            || either().any(|domain| self.domains.contains(&domain))
            || pasid.is_some_and(|pasid| {
                let absent = old.is_none().then_some(DomainId(0));
                (either().chain(absent)).any(|domain| self.ones.contains(&(domain, pasid)))
            })
    }
}

/// A followed device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) followed: FollowedDevice,
    /// The id on the bus whose context was read last.
    read_as: Option<SourceId>,
    /// The context as last read: PASID entries are found through it until it is named by an invalidation.
    context: DeviceContext,
    /// What was told of requests without PASID, if anything was.
    own: Option<Told>,
    bound: HashMap<Pasid, Told>,
    /// How many of all these go through tables with a tag.
    tags: HashMap<DomainId, u32>,
    /// The host's tables lack something.
    unsynced: bool,
    /// The guest knows that.
    unsynced_reported: bool,
    /// The guest knows that a PASID is beyond a budget.
    beyond: bool,
}

impl Device {
    pub(super) fn new(followed: FollowedDevice) -> Self {
        Self {
            followed,
            read_as: None,
            context: DeviceContext::Whole(Seen::UNCHANGED),
            own: None,
            bound: HashMap::new(),
            tags: HashMap::new(),
            unsynced: false,
            unsynced_reported: false,
            beyond: false,
        }
    }

    pub(super) const fn handle(&self) -> DeviceHandle {
        self.followed.handle
    }

    /// Whether the device has another id on the bus than when its context was read: that one says nothing of it any more.
    pub(super) fn has_moved(&self) -> bool {
        let source = self.followed.requester.source();
        self.read_as.is_some_and(|read_as| read_as != source)
    }

    /// Whether requests go through tables with this tag.
    pub(super) fn uses(&self, domain: DomainId) -> bool {
        self.tags.contains_key(&domain)
    }

    /// Whether anything goes through tables.
    pub(super) fn uses_tables(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether faults of requests with this PASID, or without, are kept out of the record.
    pub(super) fn is_silent(&self, pasid: Option<Pasid>) -> bool {
        let told = match pasid {
            None => self.own.as_ref(),
            Some(pasid) => self.bound.get(&pasid),
        };
        told.is_some_and(|told| told.seen.silent)
    }

    /// Reads everything anew and notes the differences. With `domain`, only if a context without PASIDs says that domain or
    /// said it.
    pub(super) fn reread(
        &mut self,
        guest: &Guest<'_>,
        domains: Option<&BTreeSet<DomainId>>,
        batch: &mut Batch,
    ) {
        let source = self.followed.requester.source();
        let context = guest.context(source);
        let seen = guest.without_pasid(&context);
        if let (Some(domains), DeviceContext::Whole(_), DeviceContext::Whole(_)) =
            (domains, &self.context, &context)
        {
            let old = self.own.and_then(|told| told.seen.domain);
            let named = [old, seen.domain].into_iter().flatten();
            if !named.into_iter().any(|domain| domains.contains(&domain)) {
                return;
            }
        }
        tracing::trace!(device = %self.handle(), ?context, to = ?seen.to, "followed device read");
        self.read_as = Some(source);
        self.context = context;
        let scan = self.scan(guest, batch);
        self.reconcile(Some(seen), scan, &NamedEntries::everything(), batch);
    }

    /// Reads the entries that are named anew and notes the differences.
    pub(super) fn reread_pasids(
        &mut self,
        guest: &Guest<'_>,
        named: &NamedEntries,
        batch: &mut Batch,
    ) {
        let DeviceContext::Scalable(context) = self.context else {
            return;
        };
        let own = context.rid_pasid;
        if named.wants_walk() || named.ones.iter().any(|(_, pasid)| *pasid == own) {
            let seen = guest.without_pasid(&self.context);
            let old = self.own.and_then(|told| told.seen.domain);
            let seen = named.name(Some(own), old, seen.domain).then_some(seen);
            if named.wants_walk() {
                let scan = self.scan(guest, batch);
                self.reconcile(seen, scan, named, batch);
                return;
            }
            self.attach(seen, batch);
        }
        let Some(budget) = self.followed.pasids else {
            return;
        };
        let bits = directory::pasid_bits(guest, &context, &budget);
        let mut last = None;
        for &(_, pasid) in &named.ones {
            let fits = bits != 0 && pasid.get() >> bits == 0;
            if !fits || pasid == own || last.replace(pasid) == Some(pasid) {
                continue;
            }
            match guest.with_pasid(&context, pasid) {
                Some(seen) => self.bind(pasid, seen, named, batch),
                None => self.unbind(pasid, named, batch),
            }
        }
    }

    fn scan(&self, guest: &Guest<'_>, batch: &mut Batch) -> Scan {
        match (&self.context, self.followed.pasids) {
            (DeviceContext::Scalable(context), Some(budget)) => {
                let known = |pasid| self.bound.get(&pasid).map(|told: &Told| told.seen);
                directory::walk(guest, context, budget, &mut batch.counts, known)
            }
            _ => Scan::default(),
        }
    }

    fn reconcile(
        &mut self,
        own: Option<Seen>,
        scan: Scan,
        named: &NamedEntries,
        batch: &mut Batch,
    ) {
        let Scan { present, beyond } = scan;
        let is_present = |pasid: &Pasid| present.binary_search_by_key(pasid, |(at, _)| *at).is_ok();
        let mut gone: Vec<_> = (self.bound.keys())
            .filter(|pasid| !is_present(pasid))
            .copied()
            .collect();
        gone.sort_unstable();
        for pasid in gone {
            self.unbind(pasid, named, batch);
        }
        match beyond {
            Some(pasid) => self.go_beyond(pasid, batch),
            None => self.beyond = false,
        }
        self.attach(own, batch);
        for (pasid, seen) in present {
            self.bind(pasid, seen, named, batch);
        }
    }

    /// Notes what requests without PASID go through, if it was read.
    fn attach(&mut self, seen: Option<Seen>, batch: &mut Batch) {
        let Some(seen) = seen else {
            return;
        };
        let device = self.handle();
        let old = self.own.replace(Told::new(seen, self.own));
        self.retag(old.map(|told| told.seen), Some(seen));
        if old.is_none_or(|told| told.refused || told.seen.to != seen.to) {
            let to = seen.to;
            batch.events.push(FollowEvent::Attach { device, to });
        }
    }

    fn bind(&mut self, pasid: Pasid, seen: Seen, named: &NamedEntries, batch: &mut Batch) {
        let (device, to) = (self.handle(), seen.to);
        let old = self.bound.get(&pasid).copied();
        let domain = old.and_then(|told| told.seen.domain);
        if !named.name(Some(pasid), domain, seen.domain) {
            return;
        }
        let most = self.followed.pasids.map_or(0, |budget| budget.bindings);
        if old.is_none() && self.bound.len() as u64 >= u64::from(most) {
            batch.counts.over_budget += 1;
            self.go_beyond(pasid, batch);
            return;
        }
        self.bound.insert(pasid, Told::new(seen, old));
        self.retag(old.map(|told| told.seen), Some(seen));
        match old {
            Some(told) if told.refused => {}
            Some(told) if told.seen.to == to => return,
            Some(_) => {
                batch.events.push(FollowEvent::Rebind { device, pasid, to });
                return;
            }
            None => {}
        }
        batch.events.push(FollowEvent::Bind { device, pasid, to });
    }

    fn unbind(&mut self, pasid: Pasid, named: &NamedEntries, batch: &mut Batch) {
        let Some(told) = self.bound.get(&pasid) else {
            return;
        };
        let old = told.seen;
        if named.name(Some(pasid), old.domain, None) {
            self.bound.remove(&pasid);
            self.retag(Some(old), None);
            let device = self.handle();
            batch.events.push(FollowEvent::Unbind { device, pasid });
        }
    }

    fn retag(&mut self, old: Option<Seen>, new: Option<Seen>) {
        let tag = |seen: Option<Seen>| seen.and_then(|seen| seen.tables());
        if let Some(domain) = tag(new) {
            *self.tags.entry(domain).or_default() += 1;
        }
        if let Some(domain) = tag(old)
            && let Some(count) = self.tags.get_mut(&domain)
        {
            *count -= 1;
            if *count == 0 {
                self.tags.remove(&domain);
            }
        }
    }

    /// Notes that `pasid` is beyond a budget, which the guest learns once.
    fn go_beyond(&mut self, pasid: Pasid, batch: &mut Batch) {
        if !self.beyond {
            self.beyond = true;
            batch.beyond.push((self.handle(), pasid));
        }
    }

    /// The unit was reset, and the follower is told.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.followed.clone());
        self.own = Some(Told::new(Seen::UNCHANGED, None));
    }

    /// Notes that what was told of `pasid`, or of requests without, is in effect.
    pub(super) fn accept(&mut self, pasid: Option<Pasid>) {
        if let Some(told) = self.told(pasid) {
            *told = Told::new(told.seen, None);
        }
    }

    /// Notes that it is not, so that it is told again. Returns whether the guest has to learn that, if it can.
    pub(super) fn refuse(&mut self, pasid: Option<Pasid>, can_learn: bool) -> bool {
        self.told(pasid).is_some_and(|told| {
            told.refused = true;
            can_learn && !std::mem::replace(&mut told.reported, true)
        })
    }

    /// Notes that the host's tables lack something. Returns whether the guest has to learn that, if it can.
    pub(super) const fn lose(&mut self, can_learn: bool) -> bool {
        self.unsynced = true;
        can_learn && !std::mem::replace(&mut self.unsynced_reported, true)
    }

    /// What was told.
    pub(super) fn status(&self) -> FollowedStatus {
        let of_pasid = |(pasid, told): (&Pasid, &Told)| (*pasid, told.status());
        let mut pasids: Vec<_> = self.bound.iter().map(of_pasid).collect();
        pasids.sort_unstable_by_key(|(pasid, _)| *pasid);
        FollowedStatus {
            device: self.handle(),
            source: self.followed.requester.source(),
            without_pasid: self.own.as_ref().map(Told::status),
            pasids,
            unsynced: self.unsynced,
        }
    }

    /// Notes that everything is in effect.
    pub(super) fn accept_all(&mut self) {
        self.unsynced = false;
        self.unsynced_reported = false;
        for told in self.own.iter_mut().chain(self.bound.values_mut()) {
            *told = Told::new(told.seen, None);
        }
    }

    fn told(&mut self, pasid: Option<Pasid>) -> Option<&mut Told> {
        match pasid {
            None => self.own.as_mut(),
            Some(pasid) => self.bound.get_mut(&pasid),
        }
    }
}
