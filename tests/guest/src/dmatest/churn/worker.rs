// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What one processor does: it alone binds its PASIDs, so it knows where each leads.

use anyhow::{Context, Result};

use super::{Bench, Counts, SHARED, Space};
use crate::memory::PAGE;
use crate::pattern::Random;

/// Spaces of its own.
pub const SPACES: usize = 4;

/// A space of all, or one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Shared(usize),
    Own(usize),
}

/// One processor.
pub struct Worker {
    pasids: Vec<(u32, Option<Place>)>,
    own: Vec<Space>,
    random: Random,
    counts: Counts,
    /// Makes each value that is written another one.
    written: u64,
}

impl Worker {
    /// Processor `number`, none of whose PASIDs is bound.
    pub fn new(bench: &Bench, number: usize, pasids: Vec<u32>, seed: u64) -> Result<Self> {
        let first = SHARED + number * SPACES;
        let own = (first..first + SPACES).map(|page| bench.space(page * PAGE));
        Ok(Self {
            own: own.collect::<Result<_>>()?,
            pasids: pasids.into_iter().map(|pasid| (pasid, None)).collect(),
            random: Random::new(seed.wrapping_add(number as u64)),
            counts: Counts::default(),
            written: (number as u64 + 1) << 32,
        })
    }

    /// The PASIDs that are bound.
    pub fn bound(&self) -> impl Iterator<Item = u32> {
        let bound = self.pasids.iter().filter(|(_, place)| place.is_some());
        bound.map(|(pasid, _)| *pasid)
    }

    /// Binds, moves or unbinds one PASID; now and then renews a space, or has a PASID checked.
    pub fn round(&mut self, bench: &Bench, round: u64) -> Result<()> {
        let index = self.below(self.pasids.len());
        let (pasid, place) = self.pasids[index];
        let unbinds = place.is_some() && self.below(3) != 0;
        let to = (!unbinds).then(|| self.place());
        match to {
            None => {
                bench.unbind(pasid)?;
                self.counts.unbinds += 1;
            }
            Some(to) => {
                bench.bind(pasid, self.space(bench, to))?;
                let count = match place {
                    None => &mut self.counts.binds,
                    Some(_) => &mut self.counts.moves,
                };
                *count += 1;
            }
        }
        self.pasids[index].1 = to;
        if round.is_multiple_of(4) {
            self.check(bench, index)?;
        }
        if round % 4 == 2 {
            let other = self.below(self.pasids.len());
            self.check(bench, other)?;
        }
        if round % 8 == 5 {
            self.renew(bench)?;
        }
        Ok(())
    }

    /// Has every PASID checked, unbinds what is bound, has it checked again, and gives the spaces up; what was done in all.
    pub fn end(mut self, bench: &Bench) -> Result<Counts> {
        for index in 0..self.pasids.len() {
            self.check(bench, index).context("at rest")?;
            if let (pasid, Some(_)) = self.pasids[index] {
                bench.unbind(pasid)?;
                self.pasids[index].1 = None;
                self.check(bench, index).context("at the end")?;
            }
        }
        for space in &self.own {
            bench.give_up(space)?;
        }
        Ok(self.counts)
    }

    fn check(&mut self, bench: &Bench, index: usize) -> Result<()> {
        let (pasid, place) = self.pasids[index];
        self.written += 1;
        let space = place.map(|place| match place {
            Place::Shared(number) => &bench.shared[number],
            Place::Own(number) => &self.own[number],
        });
        bench.check(pasid, space, self.written, &mut self.counts)
    }

    /// Puts another space in the place of one of its own that no PASID goes through.
    fn renew(&mut self, bench: &Bench) -> Result<()> {
        let used = |number: &usize| {
            let place = Some(Place::Own(*number));
            self.pasids.iter().any(|(_, other)| *other == place)
        };
        let Some(unused) = (0..SPACES).find(|number| !used(number)) else {
            return Ok(());
        };
        let old = &self.own[unused];
        bench.give_up(old)?;
        self.own[unused] = bench.space(old.offset)?;
        self.counts.spaces += 1;
        Ok(())
    }

    fn space<'a>(&'a self, bench: &'a Bench, place: Place) -> &'a Space {
        match place {
            Place::Shared(number) => &bench.shared[number],
            Place::Own(number) => &self.own[number],
        }
    }

    fn place(&mut self) -> Place {
        match self.below(SHARED + SPACES) {
            number if number < SHARED => Place::Shared(number),
            number => Place::Own(number - SHARED),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.next() >> 32).unwrap_or_default() % bound
    }
}
