// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the tables say of a device, read word by word in raw values, and what has to be told of it: of all that was ever
//! named, what stood there when it was named last.

use crate::memory::Memory;
use iommu::address::{Iova, IovaRange};
use iommu::follow::{Attachment, FollowedStatus, Invalidated};
use iommu::ids::{DomainId, Pasid};
use iommu::translate::paging::Stages;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the tables are, for a device with this id.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The memory.
    pub memory: Arc<Memory>,
    /// The root table; `None` while translation is off.
    pub root: Option<u64>,
    /// Tables of scalable mode.
    pub scalable: bool,
    /// The device's id.
    pub source: u16,
}

/// What requests go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Blocked,
    Identity,
    /// Root and levels of each stage, the rules of the first, and whether requests have privilege by themselves.
    Domain {
        domain: u16,
        first: Option<(u64, u32)>,
        second: Option<(u64, u32)>,
        rules: u8,
        privileged: bool,
    },
}

impl From<&Attachment> for Reach {
    fn from(to: &Attachment) -> Self {
        let domain = match to {
            Attachment::Blocked => return Self::Blocked,
            Attachment::Identity => return Self::Identity,
            Attachment::Domain(domain) => domain,
        };
        let (first, second) = match domain.tables.stages {
            Stages::First(first) => (Some(first), None),
            Stages::Second(second) => (None, Some(second)),
            Stages::Nested(first, second) => (Some(first), Some(second)),
        };
        Self::Domain {
            domain: domain.id.0,
            first: first.map(|first| (first.table.0, first.levels)),
            second: second.map(|second| (second.table.0, second.levels)),
            rules: domain.tables.rules.into_bits(),
            privileged: domain.tables.privileged,
        }
    }
}

/// What an entry leads to, and the domain that it says, if there is one.
type Seen = (Reach, Option<u16>);

/// A context entry as it was read last.
#[derive(Clone, Copy, Debug)]
enum Context {
    /// All there is to say.
    Whole(Seen),
    /// The two words of a valid entry of scalable mode.
    Scalable([u64; 2]),
}

impl Tables {
    fn word(&self, gpa: u64) -> u64 {
        self.memory.get(gpa / 8)
    }

    fn context(&self) -> Context {
        let blocked = Context::Whole((Reach::Blocked, None));
        let Some(root) = self.root else {
            return Context::Whole((Reach::Identity, None));
        };
        let devfn = u64::from(self.source & 0xff);
        let (entry, size, index) = if self.scalable {
            (self.word(root + devfn / 0x80 * 8), 32, devfn % 0x80)
        } else if self.word(root + 8) == 0 {
            (self.word(root), 16, devfn)
        } else {
            return blocked;
        };
        if entry & 0xfff != 1 {
            return blocked;
        }
        let at = (entry & !0xfff) + index * size;
        let words = [self.word(at), self.word(at + 8)];
        if self.scalable {
            // Neither device-TLBs nor page requests are offered, nor is there anything in the rest of the entry.
            let valid = words[0] & 0x1f5 == 1 && words[1] >> 21 == 0;
            return if valid {
                Context::Scalable(words)
            } else {
                blocked
            };
        }
        Context::Whole(legacy(words).unwrap_or((Reach::Blocked, None)))
    }

    /// The entry of `pasid` below a valid context.
    fn entry(&self, context: [u64; 2], pasid: u32, own: bool) -> Option<Seen> {
        let bits = 13 + (context[0] >> 9 & 7);
        if u64::from(pasid) >> bits != 0 {
            return None;
        }
        let directory = self.word((context[0] & !0xfff) + u64::from(pasid) / 64 * 8);
        if directory & 0xffd != 1 {
            return None;
        }
        let at = (directory & !0xfff) + u64::from(pasid) % 64 * 64;
        let [low, middle, high] = [0, 8, 16].map(|offset| self.word(at + offset));
        // No execution, no dirty bits and no extended accessed bits.
        let reserved = low & 0xe20 | middle & 0x7f_0000 | high & 0xf82;
        if low & 1 == 0 || reserved != 0 {
            return None;
        }
        let domain = u16::try_from(middle & 0xffff).unwrap_or(0);
        let first = (high >> 2 & 3 == 0).then_some((high & !0xfff, 4));
        let second = match low >> 2 & 7 {
            1 => Some((low & !0xfff, 3)),
            2 => Some((low & !0xfff, 4)),
            _ => None,
        };
        let (first, second) = match low >> 6 & 7 {
            1 => (Some(first?), None),
            2 => (None, Some(second?)),
            3 => (Some(first?), Some(second?)),
            4 => (None, None),
            _ => return None,
        };
        let (supervisor, protect, smep) = (high & 1, high >> 4 & 1, high >> 6 & 1);
        let rules = u8::try_from(supervisor | protect << 2 | smep << 3).unwrap_or(0);
        let privileged = own && context[1] >> 20 & 1 == 1;
        let reach = match (first, second) {
            _ if privileged && supervisor == 0 => Reach::Blocked,
            (None, None) => Reach::Identity,
            _ => Reach::Domain {
                domain,
                first,
                second,
                rules: if first.is_some() { rules } else { 0 },
                privileged: privileged && first.is_some(),
            },
        };
        Some((reach, Some(domain)))
    }

    /// Every PASID that is bound below a valid context, but that of requests without one.
    fn bound(&self, context: [u64; 2]) -> BTreeMap<u32, Seen> {
        let mut bound = BTreeMap::new();
        if context[0] & 8 == 0 {
            return bound;
        }
        let entries = 1u32 << (7 + (context[0] >> 9 & 7));
        for index in 0..entries {
            if self.word((context[0] & !0xfff) + u64::from(index) * 8) & 1 == 1 {
                for pasid in index * 64..(index + 1) * 64 {
                    let seen = self.entry(context, pasid, false);
                    bound.extend(seen.map(|seen| (pasid, seen)));
                }
            }
        }
        bound.remove(&rid_pasid(context));
        bound
    }
}

/// What a context entry of legacy mode says, if it is valid.
fn legacy([low, high]: [u64; 2]) -> Option<Seen> {
    let width = high & 7;
    if low & 0xff1 != 1 || high >> 24 != 0 || high & 0x80 != 0 || !matches!(width, 1 | 2) {
        return None;
    }
    let domain = u16::try_from(high >> 8 & 0xffff).unwrap_or(0);
    let reach = match low >> 2 & 3 {
        0 => Reach::Domain {
            domain,
            first: None,
            second: Some((low & !0xfff, if width == 1 { 3 } else { 4 })),
            rules: 0,
            privileged: false,
        },
        2 if width == 2 => Reach::Identity,
        _ => return None,
    };
    Some((reach, Some(domain)))
}

fn rid_pasid(context: [u64; 2]) -> u32 {
    u32::try_from(context[1] & 0xf_ffff).unwrap_or(0)
}

/// What has to be told of a device.
#[derive(Debug)]
pub struct Model {
    context: Context,
    own: Seen,
    bound: BTreeMap<u32, Seen>,
}

impl Default for Model {
    fn default() -> Self {
        let own = (Reach::Identity, None);
        Self {
            context: Context::Whole(own),
            own,
            bound: BTreeMap::new(),
        }
    }
}

impl Model {
    /// All of the device is looked at.
    pub fn reread(&mut self, tables: &Tables) {
        self.context = tables.context();
        (self.own, self.bound) = match self.context {
            Context::Whole(seen) => (seen, BTreeMap::new()),
            Context::Scalable(context) => {
                let own = tables.entry(context, rid_pasid(context), true);
                let own = own.unwrap_or((Reach::Blocked, None));
                (own, tables.bound(context))
            }
        };
    }

    /// What `descriptors` name is looked at. Returns whether that was all of the device.
    pub fn invalidated(&mut self, tables: &Tables, descriptors: &[[u64; 2]]) -> bool {
        let all = descriptors.iter().any(|[low, _]| match low & 0x3f {
            0x11 => true,
            0x21 => self.is_of(tables, low >> 16 & 0xffff),
            0x31 => is_function(low, tables.source),
            _ => false,
        });
        if all {
            self.reread(tables);
            return true;
        }
        if let Context::Scalable(context) = self.context {
            self.reread_named(tables, context, descriptors);
        }
        false
    }

    /// Whether a context that says `domain` is named: those of scalable mode say none, and are named by each.
    fn is_of(&self, tables: &Tables, domain: u64) -> bool {
        let says = |context: &Context, own: &Seen| match context {
            Context::Scalable(_) => true,
            Context::Whole(_) => own.1.map(u64::from) == Some(domain),
        };
        let new = tables.context();
        let own = match new {
            Context::Whole(seen) => seen,
            Context::Scalable(_) => self.own,
        };
        says(&self.context, &self.own) || says(&new, &own)
    }

    fn reread_named(&mut self, tables: &Tables, context: [u64; 2], descriptors: &[[u64; 2]]) {
        let named = |pasid: u32, old: Option<u16>, new: Option<u16>| {
            descriptors.iter().any(|[low, _]| {
                let domain = low >> 16 & 0xffff;
                let either = [old, new].into_iter().flatten();
                let says = either.into_iter().any(|said| u64::from(said) == domain);
                match low & 0x3f {
                    0x37 => true,
                    0x07 => says,
                    0x17 if low >> 32 & 0xf_ffff == u64::from(pasid) => {
                        says || domain == 0 && old.is_none()
                    }
                    _ => false,
                }
            })
        };
        let rid = rid_pasid(context);
        let own = tables.entry(context, rid, true);
        let own = own.unwrap_or((Reach::Blocked, None));
        if named(rid, self.own.1, own.1) {
            self.own = own;
        }
        let now = tables.bound(context);
        let pasids: Vec<u32> = now.keys().chain(self.bound.keys()).copied().collect();
        for pasid in pasids {
            let (old, new) = (self.bound.get(&pasid).copied(), now.get(&pasid).copied());
            if named(
                pasid,
                old.and_then(|seen| seen.1),
                new.and_then(|seen| seen.1),
            ) {
                match new {
                    Some(seen) => self.bound.insert(pasid, seen),
                    None => self.bound.remove(&pasid),
                };
            }
        }
    }

    /// Whether anything goes through the tables that are named.
    pub fn uses(&self, tables: &Invalidated) -> bool {
        let mut reached = self.bound.values().chain([&self.own]);
        reached.any(|(reach, _)| match reach {
            Reach::Domain { domain, .. } => tables.domain.is_none_or(|named| named.0 == *domain),
            _ => false,
        })
    }

    /// Checks that this was told.
    pub fn check(&self, status: &FollowedStatus) {
        let own = status.without_pasid.expect("it was told");
        assert_eq!(Reach::from(&own.to), self.own.0);
        let bound: Vec<_> = (self.bound.iter())
            .map(|(pasid, seen)| (*pasid, seen.0))
            .collect();
        let told: Vec<_> = (status.pasids.iter())
            .map(|(pasid, told)| (pasid.get(), Reach::from(&told.to)))
            .collect();
        assert_eq!(told, bound);
    }
}

/// Whether a device-selective invalidation of contexts names `source`.
fn is_function(low: &u64, source: u16) -> bool {
    let any = [0u64, 4, 6, 7][usize::try_from(low >> 48 & 3).unwrap_or(0)];
    (low >> 32 & 0xffff) & !any == u64::from(source) & !any
}

/// Which tables a descriptor names, if it names some.
pub fn named_tables(descriptor: &[u64; 2]) -> Option<Invalidated> {
    let [low, high] = *descriptor;
    let domain = u16::try_from(low >> 16 & 0xffff).ok().map(DomainId);
    let pasid = u32::try_from(low >> 32 & 0xf_ffff)
        .ok()
        .and_then(Pasid::new);
    let pages = || {
        let mask = (0x1000 << (high & 0x3f)) - 1;
        let start = high & !0xfff & !mask;
        IovaRange::new(Iova(start), Iova(start | mask))
    };
    let all = Invalidated::ALL;
    Some(match low & 0x3f {
        0x12 => all,
        0x22 => Invalidated { domain, ..all },
        0x32 => Invalidated {
            domain,
            pasid: None,
            range: pages()?,
            leaf_only: high & 0x40 != 0,
        },
        0x26 => Invalidated {
            domain,
            pasid,
            ..all
        },
        0x36 => Invalidated {
            domain,
            pasid,
            range: pages()?,
            leaf_only: high & 0x40 != 0,
        },
        _ => return None,
    })
}
