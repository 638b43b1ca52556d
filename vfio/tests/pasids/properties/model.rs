// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest's structures say, read word by word in raw values, and what has to be known of them: of all that was ever named, what
//! stood there when it was named last.

use super::super::guest::{
    A, B, CONTEXT_GLOBAL, CONTEXTS, Guest, IOTLB_GLOBAL, PASID_CACHE_GLOBAL, Reach, SOURCES,
    context_device, context_domain, iotlb_domain, pasid_cache_domain, pasid_cache_one,
    pasid_iotlb_all, pasid_iotlb_pages,
};
use iommu::follow::DeviceHandle;
use std::collections::{BTreeMap, BTreeSet};

pub const DEVICES: [DeviceHandle; 2] = [A, B];
/// Some of five directory entries, which may name one table.
pub const PASIDS: [u32; 10] = [0, 1, 2, 63, 64, 65, 0x2000, 0x8_0001, 0xf_ffc0, 0xf_ffff];

/// A device and one of its PASIDs, or none.
pub type Place = (DeviceHandle, Option<u32>);

/// Every place that is looked at.
pub fn places() -> impl Iterator<Item = Place> {
    let pasids = || [None].into_iter().chain(PASIDS.map(Some));
    DEVICES
        .into_iter()
        .flat_map(move |device| pasids().map(move |pasid| (device, pasid)))
}

/// What an invalidation names.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    Contexts,
    ContextsOf(u64),
    Context(DeviceHandle),
    Entries,
    EntriesOf(u64),
    Entry(u64, u64),
    Tables,
    TablesOf(u64),
    Table(u64, u64),
    Page(u64, u64),
}

impl Named {
    pub fn descriptor(self) -> (u64, u64) {
        let low = match self {
            Self::Contexts => CONTEXT_GLOBAL,
            Self::ContextsOf(domain) => context_domain(domain),
            Self::Context(device) => context_device(source(device)),
            Self::Entries => PASID_CACHE_GLOBAL,
            Self::EntriesOf(domain) => pasid_cache_domain(domain),
            Self::Entry(domain, pasid) => pasid_cache_one(domain, pasid),
            Self::Tables => IOTLB_GLOBAL,
            Self::TablesOf(domain) => iotlb_domain(domain),
            Self::Table(domain, pasid) => pasid_iotlb_all(domain, pasid),
            Self::Page(domain, pasid) => return (pasid_iotlb_pages(domain, pasid), 0x5000),
        };
        (low, 0)
    }

    /// Whether the entry of `pasid` is meant, which said `old` and says `new`.
    fn means(self, pasid: u32, old: Option<u64>, new: Option<u64>) -> bool {
        match self {
            Self::Entries => true,
            Self::EntriesOf(domain) => [old, new].contains(&Some(domain)),
            Self::Entry(domain, named) => {
                let absent = domain == 0 && old.is_none();
                named == u64::from(pasid) && (absent || [old, new].contains(&Some(domain)))
            }
            _ => false,
        }
    }

    /// Whether tables that an entry of `pasid` names with this domain are meant.
    pub fn means_tables(self, domain: u64, pasid: u32) -> bool {
        match self {
            Self::Tables => true,
            Self::TablesOf(named) => named == domain,
            Self::Table(named, of) | Self::Page(named, of) => {
                (named, of) == (domain, u64::from(pasid))
            }
            _ => false,
        }
    }
}

fn source(device: DeviceHandle) -> u64 {
    let found = SOURCES.into_iter().find(|(known, _)| *known == device);
    found.map_or(0, |(_, source)| source)
}

/// What a root pointer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Scalable(usize),
    Legacy,
    Abort,
}

/// What an entry leads to, and the domain that it says, if there is a valid one.
pub type Entry = (Reach, Option<u64>);

const NOTHING: Entry = (Reach::Nothing, None);

/// A context entry as it was read last.
#[derive(Clone, Copy, Debug)]
enum Context {
    /// All there is to say.
    Whole(Entry),
    Scalable([u64; 2]),
}

impl Context {
    fn read(guest: &Guest, mode: Option<Mode>, device: DeviceHandle) -> Self {
        let (at, size) = match mode {
            None => return Self::Whole((Reach::AllRam, None)),
            Some(Mode::Abort) => return Self::Whole(NOTHING),
            Some(Mode::Legacy) => (CONTEXTS[2], 16),
            Some(Mode::Scalable(number)) => (CONTEXTS[number], 32),
        };
        let at = at + source(device) * size;
        let words = [guest.word(at), guest.word(at + 8)];
        let domain = Some(words[1] >> 8 & 0xffff);
        match (words[0] & 1, size, words[0] >> 2 & 3) {
            (0, ..) => Self::Whole(NOTHING),
            (_, 32, _) => Self::Scalable(words),
            (_, _, 0) => Self::Whole((Reach::Second(words[0] & !0xfff), domain)),
            _ => Self::Whole((Reach::AllRam, domain)),
        }
    }
}

fn rid_pasid(words: [u64; 2]) -> u32 {
    u32::try_from(words[1] & 0xf_ffff).unwrap()
}

/// The entry of `pasid` below a context; `None` for one that is not present or not valid.
fn entry(guest: &Guest, words: [u64; 2], pasid: u32) -> Option<Entry> {
    let bits = 13 + (words[0] >> 9 & 7);
    if u64::from(pasid) >> bits != 0 {
        return None;
    }
    let directory = guest.word((words[0] & !0xfff) + u64::from(pasid) / 64 * 8);
    if directory & 1 == 0 {
        return None;
    }
    let at = (directory & !0xfff) + u64::from(pasid) % 64 * 64;
    let (low, high) = (guest.word(at), guest.word(at + 16));
    let reach = match (low & 1, low >> 6 & 7) {
        (1, 1) => Reach::First(high & !0xfff),
        (1, 2) => Reach::Second(low & !0xfff),
        (1, 3) => Reach::Both(high & !0xfff, low & !0xfff),
        (1, 4) => Reach::AllRam,
        _ => return None,
    };
    Some((reach, Some(guest.word(at + 8) & 0xffff)))
}

/// What is known of one device.
#[derive(Debug)]
struct Known {
    context: Context,
    own: Entry,
    bound: BTreeMap<u32, Entry>,
}

#[derive(Debug)]
pub struct Model {
    pub on: bool,
    pub mode: Mode,
    devices: BTreeMap<DeviceHandle, Known>,
}

impl Model {
    /// Of devices that were just plugged in.
    pub fn new(guest: &Guest) -> Self {
        let mut model = Self {
            on: true,
            mode: Mode::Scalable(0),
            devices: BTreeMap::new(),
        };
        model.read_all(guest);
        model
    }

    /// Reads everything.
    pub fn read_all(&mut self, guest: &Guest) {
        for device in DEVICES {
            self.read(guest, device);
        }
    }

    fn read(&mut self, guest: &Guest, device: DeviceHandle) {
        let context = Context::read(guest, self.on.then_some(self.mode), device);
        let mut bound = BTreeMap::new();
        let own = match context {
            Context::Whole(entry) => entry,
            Context::Scalable(words) => {
                let own = rid_pasid(words);
                let with = PASIDS.into_iter().filter(|pasid| *pasid != own);
                // PASIDs may be forbidden.
                let with = with.filter(|_| words[0] & 8 != 0);
                bound.extend(with.filter_map(|pasid| Some((pasid, entry(guest, words, pasid)?))));
                entry(guest, words, own).unwrap_or(NOTHING)
            }
        };
        let known = Known {
            context,
            own,
            bound,
        };
        self.devices.insert(device, known);
    }

    /// Takes in what invalidations name; the places that were looked at.
    pub fn invalidate(&mut self, guest: &Guest, named: &[Named]) -> BTreeSet<Place> {
        let mut looked_at = BTreeSet::new();
        for device in DEVICES {
            if self.names_context(guest, device, named) {
                self.read(guest, device);
                looked_at.extend(places().filter(|(other, _)| *other == device));
            }
            if let Some(known) = self.devices.get_mut(&device) {
                let pasids = known.invalidate(guest, named);
                looked_at.extend(pasids.into_iter().map(|pasid| (device, pasid)));
            }
        }
        looked_at
    }

    fn names_context(&self, guest: &Guest, device: DeviceHandle, named: &[Named]) -> bool {
        let new = Context::read(guest, self.on.then_some(self.mode), device);
        named.iter().any(|named| match *named {
            Named::Contexts => true,
            Named::Context(named) => named == device,
            Named::ContextsOf(domain) => match (self.devices[&device].context, new) {
                (Context::Whole(old), Context::Whole(new)) => {
                    [old.1, new.1].contains(&Some(domain))
                }
                // Contexts of scalable mode say no domain.
                _ => true,
            },
            _ => false,
        })
    }

    /// What a place goes through.
    pub fn expected(&self, (device, pasid): Place) -> Entry {
        let known = &self.devices[&device];
        match pasid {
            None => known.own,
            Some(pasid) => known.bound.get(&pasid).copied().unwrap_or(NOTHING),
        }
    }

    /// The PASID by whose entry a place goes.
    pub fn pasid_of(&self, (device, pasid): Place) -> Option<u32> {
        match (pasid, self.devices[&device].context) {
            (None, Context::Scalable(words)) => Some(rid_pasid(words)),
            _ => pasid,
        }
    }
}

impl Known {
    fn invalidate(&mut self, guest: &Guest, named: &[Named]) -> Vec<Option<u32>> {
        let Context::Scalable(words) = self.context else {
            return Vec::new();
        };
        let own = rid_pasid(words);
        let mut looked_at = Vec::new();
        for pasid in PASIDS {
            let is_own = pasid == own;
            if !is_own && words[0] & 8 == 0 {
                continue;
            }
            let old = match is_own {
                true => self.own.1,
                false => self.bound.get(&pasid).and_then(|(_, domain)| *domain),
            };
            let new = entry(guest, words, pasid);
            let domain = new.and_then(|(_, domain)| domain);
            if !named.iter().any(|named| named.means(pasid, old, domain)) {
                continue;
            }
            looked_at.push((!is_own).then_some(pasid));
            match (is_own, new) {
                (true, entry) => self.own = entry.unwrap_or(NOTHING),
                (false, Some(entry)) => drop(self.bound.insert(pasid, entry)),
                (false, None) => drop(self.bound.remove(&pasid)),
            }
        }
        looked_at
    }
}
