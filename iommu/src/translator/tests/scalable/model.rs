// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A naive model of scalable mode: one function from the words of memory and a request to its outcome. It knows the
//! standard capabilities ([`super::full`]) only, and shares no code with what it is compared with.

use super::*;
use std::collections::BTreeMap;

pub(super) type Words = BTreeMap<u64, u64>;
/// The guest-physical address, or the fault's code and whether it is recorded.
pub(super) type Outcome = Result<u64, (u8, bool)>;
/// First-stage entries from the top on: where each lies, what it holds, and whether the second stage lets it be written.
type Way = Vec<(u64, u64, bool)>;
/// Bits to set in words.
pub(super) type Marks = Vec<(u64, u64)>;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

fn word(words: &Words, gpa: u64) -> u64 {
    words.get(&gpa).copied().unwrap_or(0)
}

/// A context, or the fault's code and whether it is recorded.
pub(super) type FoundContext = Result<ModelContext, (u8, bool)>;

/// What a context entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModelContext {
    directory: u64,
    room: u64,
    silent: bool,
    pasids: bool,
    rid: u64,
}

pub(super) fn context(words: &Words, source: u16) -> FoundContext {
    let half = u64::from(source & 0x80 != 0);
    let root = word(words, 0x1000 + u64::from(source >> 8) * 16 + half * 8);
    if root & 1 == 0 {
        return Err((0x39, true));
    }
    if root & 0xffe != 0 {
        return Err((0x3a, true));
    }
    let at = (root & ADDRESS) + u64::from(source & 0x7f) * 32;
    let (low, high) = (word(words, at), word(words, at + 8));
    let record = low & 2 == 0;
    if low & 1 == 0 {
        return Err((0x41, record));
    }
    if low & 0x1e0 != 0 || high >> 21 != 0 {
        return Err((0x42, record));
    }
    if low & 0x14 == 0x10 {
        return Err((0x43, record));
    }
    Ok(ModelContext {
        directory: low & ADDRESS,
        room: 1 << ((low >> 9 & 7) + 13),
        silent: !record,
        pasids: low & 8 != 0,
        rid: high & 0xf_ffff,
    })
}

/// What a PASID entry says: its three words, the PASID, and whether faults are kept silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ModelEntry {
    low: u64,
    middle: u64,
    high: u64,
    pub(super) pasid: u64,
    silent: bool,
}

impl ModelEntry {
    pub(super) fn domain(&self) -> u16 {
        u16::try_from(self.middle & 0xffff).unwrap()
    }

    /// Translation type.
    pub(super) fn kind(&self) -> u64 {
        self.low >> 6 & 7
    }
}

pub(super) fn entry(
    words: &Words,
    context: &ModelContext,
    pasid: Option<u32>,
) -> Result<ModelEntry, (u8, bool)> {
    let fault = |code| Err((code, !context.silent));
    let index = match pasid {
        Some(_) if !context.pasids => return fault(0x45),
        Some(value) if u64::from(value) >= context.room => return fault(0x46),
        Some(value) => u64::from(value),
        None if context.rid >= context.room => return fault(0x48),
        None => context.rid,
    };
    let directory = word(words, context.directory + index / 64 * 8);
    let silent = context.silent || directory & 2 != 0;
    if directory & 1 == 0 {
        return Err((0x51, !silent));
    }
    if directory & 0xffc != 0 {
        return Err((0x52, !silent));
    }
    let at = (directory & ADDRESS) + index % 64 * 64;
    let (low, middle, high) = (word(words, at), word(words, at + 8), word(words, at + 16));
    let silent = silent || low & 2 != 0;
    if low & 1 == 0 {
        return Err((0x59, !silent));
    }
    if low & 0xc00 != 0 || middle & 0x7f_0000 != 0 || high & 0xf00 != 0 {
        return Err((0x5a, !silent));
    }
    let supported = match low >> 6 & 7 {
        1 => high >> 2 & 3 < 2,
        2 => (1..=3).contains(&(low >> 2 & 7)),
        3 => high >> 2 & 3 < 2 && (1..=3).contains(&(low >> 2 & 7)),
        4 => true,
        _ => false,
    };
    if !supported {
        return Err((0x5b, !silent));
    }
    Ok(ModelEntry {
        low,
        middle,
        high,
        pasid: index,
        silent,
    })
}

/// A page: where it begins, its size, where it leads to, and what may be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelPage {
    pub(super) first: u64,
    pub(super) size: u64,
    output: u64,
    read: bool,
    write: bool,
    first_write: bool,
    user: bool,
    execute: bool,
    /// Size of the first-stage page that it is a piece of.
    pub(super) whole: u64,
}

const SIZES: [u64; 5] = [1 << 12, 1 << 21, 1 << 30, 1 << 39, 1 << 48];

/// A second-stage walk.
fn second(words: &Words, entry: &ModelEntry, gpa: u64) -> Result<ModelPage, u8> {
    let levels = usize::try_from((entry.low >> 2 & 7) + 2).unwrap();
    let (mut table, mut read, mut write) = (entry.low & ADDRESS, true, true);
    for level in (0..levels).rev() {
        let size = SIZES[level];
        let at = table + gpa / size % 512 * 8;
        let found = word(words, at);
        if found & 3 == 0 {
            return Err(0x79);
        }
        read &= found & 1 != 0;
        write &= found & 2 != 0;
        let leaf = level == 0 || found & 0x80 != 0;
        let misplaced = leaf && (level > 2 || found & ADDRESS & (size - 1) != 0);
        if found & 0x400f_0000_0000_0000 != 0 || misplaced || !leaf && found & 0x800 != 0 {
            return Err(0x7a);
        }
        if leaf {
            let page = ModelPage {
                first: gpa / size * size,
                size,
                output: found & ADDRESS,
                read,
                write,
                first_write: true,
                user: true,
                execute: true,
                whole: 0,
            };
            return Ok(page);
        }
        table = found & ADDRESS;
    }
    unreachable!("the lowest level is always a leaf")
}

/// A first-stage walk: the page and the way to it.
fn first(words: &Words, entry: &ModelEntry, iova: u64) -> Result<(ModelPage, Way), u8> {
    let nested = entry.kind() == 3;
    let levels = if entry.high & 4 == 0 { 4 } else { 5 };
    let (mut table, mut write, mut user, mut execute) = (entry.high & ADDRESS, true, true, true);
    let mut way = Vec::new();
    for level in (0..levels).rev() {
        let size = SIZES[level];
        let mut at = table + iova / size % 512 * 8;
        let mut may_update = true;
        if nested {
            if at >> (12 + 9 * ((entry.low >> 2 & 7) + 2)) != 0 {
                return Err(0x74);
            }
            let refused = if level == levels - 1 { 0x75 } else { 0x76 };
            let page = match second(words, entry, at) {
                Err(0x79) => return Err(refused),
                other => other?,
            };
            if !page.read {
                return Err(refused);
            }
            may_update = page.write;
            at = page.output + (at - page.first);
        }
        let found = word(words, at);
        if found & 1 == 0 {
            return Err(0x71);
        }
        let leaf = level == 0 || found & 0x80 != 0;
        let misplaced = leaf && (level > 2 || found & ADDRESS & !0x1000 & (size - 1) != 0);
        if found & 0x000f_0000_0000_0000 != 0 || level > 0 && misplaced {
            return Err(0x72);
        }
        write &= found & 2 != 0;
        user &= found & 4 != 0;
        execute &= !(entry.high & 0x20 != 0 && found >> 63 != 0);
        way.push((at, found, may_update));
        if leaf {
            let page = ModelPage {
                first: iova / size * size,
                size,
                output: found & ADDRESS & !(size - 1),
                read: true,
                write: true,
                first_write: write,
                user,
                execute,
                whole: size,
            };
            return Ok((page, way));
        }
        table = found & ADDRESS;
    }
    unreachable!("the lowest level is always a leaf")
}

/// The page of `iova` through `entry`, whose tables have no second-stage accessed bits, and the first stage's way to it.
fn page(words: &Words, entry: &ModelEntry, iova: u64) -> Result<(ModelPage, Way), u8> {
    let width = 12 + 9 * ((entry.low >> 2 & 7) + 2);
    let spare = if entry.high & 4 == 0 { 16 } else { 7 };
    let canonical = ((iova << spare).cast_signed() >> spare).cast_unsigned() == iova;
    match entry.kind() {
        2 if iova >> width != 0 => Err(0x83),
        2 => second(words, entry, iova).map(|page| (page, Vec::new())),
        _ if !canonical => Err(0x80),
        1 => first(words, entry, iova),
        _ => {
            let (outer, way) = first(words, entry, iova)?;
            let gpa = outer.output + (iova - outer.first);
            if gpa >> width != 0 {
                return Err(0x84);
            }
            let inner = second(words, entry, gpa)?;
            let size = outer.size.min(inner.size);
            let page = ModelPage {
                first: iova / size * size,
                size,
                output: (inner.output + (gpa - inner.first)) / size * size,
                read: inner.read,
                write: inner.write,
                ..outer
            };
            Ok((page, way))
        }
    }
}

/// The outcome of `request` through `entry`, the page if there is one, and the bits that the request sets.
pub(super) fn outcome(
    words: &Words,
    entry: &ModelEntry,
    request: &Request,
) -> (Outcome, Option<ModelPage>, Marks) {
    let fault = |code| (Err((code, !entry.silent)), None, Vec::new());
    let (execute, privileged) = match request.pasid {
        Some(_) => (request.execute, request.privileged),
        None => (false, false),
    };
    if execute && entry.high & 2 == 0 {
        return fault(0x5c);
    }
    if privileged && entry.high & 1 == 0 {
        return fault(0x5d);
    }
    let iova = request.address.0;
    if entry.kind() == 4 {
        return match iova {
            _ if iova >> 57 != 0 => fault(0x83),
            0xfee0_0000..0xfef0_0000 => fault(0x87),
            _ => (Ok(iova), None, Vec::new()),
        };
    }
    let (page, way) = match page(words, entry, iova) {
        Err(code) => return fault(code),
        Ok(found) => found,
    };
    let writes = request.access != Access::Read;
    let reads = request.access != Access::Write;
    let protected = !privileged || entry.high & 0x10 != 0;
    let code = if !privileged && !page.user {
        Some(0x81)
    } else if execute && (!page.execute || privileged && entry.high & 0x40 != 0 && page.user) {
        Some(0x82)
    } else if writes && !(page.write && (page.first_write || !protected)) {
        Some(0x85)
    } else if reads && !page.read {
        Some(0x86)
    } else if page.output < 0xfef0_0000 && page.output + page.size > 0xfee0_0000 {
        Some(0x87)
    } else {
        None
    };
    if let Some(code) = code {
        return (Err((code, !entry.silent)), Some(page), Vec::new());
    }
    let mut marks = Vec::new();
    for (number, (at, held, may_update)) in way.iter().enumerate() {
        let last = number == way.len() - 1;
        let bits = if last && writes { 0x60 } else { 0x20 };
        if held & bits == bits {
            continue;
        }
        if !may_update {
            return (Err((0x77, !entry.silent)), Some(page), Vec::new());
        }
        marks.push((*at, bits));
    }
    (Ok(page.output + (iova - page.first)), Some(page), marks)
}
