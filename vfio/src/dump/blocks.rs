// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A picture of an address space in a bounded number of blocks: as many as there are parts while those are few; then parts
//! that lie closest to each other become one.

use super::compare::{Part, State};
use crate::mirror::Address;
use crate::run::{Rights, bytes};

/// Addresses drawn as one, with what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Block {
    /// The first address.
    pub first: Address,
    /// The last.
    pub last: Address,
    /// Parts in it: 1 if nothing was put together.
    pub parts: u64,
    /// What the first address reaches, guest-physically.
    pub gpa: Option<Address>,
    /// Bytes that may only be read, on both sides.
    pub read: u64,
    /// Bytes that may only be written.
    pub write: u64,
    /// Bytes that may be read and written.
    pub read_write: u64,
    /// Bytes that the host should have.
    pub missing: u64,
    /// Bytes that it should not have.
    pub extra: u64,
    /// Bytes that are mapped otherwise than the guest says.
    pub different: u64,
    /// Bytes that the guest maps and the host is not to have.
    pub left_out: u64,
}

impl Block {
    fn new(part: &Part) -> Self {
        let reaches = part.guest.or(part.host);
        let mut block = Self {
            first: part.iova.start().into(),
            last: part.iova.last().into(),
            parts: 1,
            gpa: reaches.map(|reaches| Address(reaches.gpa.0)),
            ..Self::default()
        };
        let sum = match (part.state, part.host.map(|host| host.rights)) {
            (State::Same, Some(Rights::Read)) => &mut block.read,
            (State::Same, Some(Rights::Write)) => &mut block.write,
            (State::Same, _) => &mut block.read_write,
            (State::Missing, _) => &mut block.missing,
            (State::Extra, _) => &mut block.extra,
            (State::Different, _) => &mut block.different,
            (State::LeftOut(_), _) => &mut block.left_out,
        };
        *sum = bytes(part.iova);
        block
    }

    /// Bytes of addresses from the first to the last; saturates for the whole space.
    #[must_use]
    pub const fn span(&self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }

    /// Whether guest and host differ somewhere in it.
    #[must_use]
    pub const fn differs(&self) -> bool {
        self.missing != 0 || self.extra != 0 || self.different != 0
    }

    /// Takes in the next block.
    fn absorb(&mut self, next: &Self) {
        self.last = next.last;
        self.parts += next.parts;
        for (sum, more) in [
            (&mut self.read, next.read),
            (&mut self.write, next.write),
            (&mut self.read_write, next.read_write),
            (&mut self.missing, next.missing),
            (&mut self.extra, next.extra),
            (&mut self.different, next.different),
            (&mut self.left_out, next.left_out),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Blocks, of which there are never more than twice as many as there shall be.
#[derive(Debug)]
pub struct Picture {
    blocks: Vec<Block>,
    most: usize,
}

impl Picture {
    /// At most `most` blocks in the end.
    pub const fn new(most: usize) -> Self {
        Self {
            blocks: Vec::new(),
            most,
        }
    }

    /// Adds the next part; parts ascend.
    pub fn add(&mut self, part: &Part) {
        self.blocks.push(Block::new(part));
        if self.blocks.len() > 2 * self.most {
            self.shrink();
        }
    }

    pub fn finish(mut self) -> Vec<Block> {
        if self.blocks.len() > self.most {
            self.shrink();
        }
        self.blocks
    }

    /// Puts together what has the narrowest gaps between, until there are no more blocks than there shall be.
    fn shrink(&mut self) {
        let gaps = self.blocks.windows(2);
        let mut gaps: Vec<(u64, usize)> = gaps
            .map(|pair| pair[1].first.0 - pair[0].last.0)
            .zip(1..)
            .collect();
        let most = self.most.max(1);
        let too_many = self.blocks.len() - most;
        if too_many < gaps.len() {
            gaps.select_nth_unstable(too_many);
        }
        let mut joins = vec![false; self.blocks.len()];
        for (_, at) in gaps.into_iter().take(too_many) {
            joins[at] = true;
        }
        let mut blocks: Vec<Block> = Vec::with_capacity(2 * most + 1);
        for (block, joins) in self.blocks.drain(..).zip(joins) {
            match blocks.last_mut().filter(|_| joins) {
                Some(last) => last.absorb(&block),
                None => blocks.push(block),
            }
        }
        self.blocks = blocks;
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::Reaches;
    use super::*;
    use iommu::address::{Iova, IovaRange};
    use vm_memory::GuestAddress;

    fn part(start: u64, state: State) -> Part {
        let reaches = Some(Reaches {
            gpa: GuestAddress(0x5000),
            rights: Rights::Read,
        });
        Part {
            iova: IovaRange::from_len(Iova(start), 0x1000).unwrap(),
            state,
            guest: reaches,
            host: reaches,
        }
    }

    #[test]
    fn few_parts_are_blocks_of_their_own() {
        let mut picture = Picture::new(3);
        for start in [0, 0x1000, 0x9000] {
            picture.add(&part(start, State::Same));
        }
        let firsts: Vec<u64> = picture.finish().iter().map(|block| block.first.0).collect();
        assert_eq!(firsts, [0, 0x1000, 0x9000]);
    }

    #[test]
    fn many_parts_are_put_together_where_they_are_close_and_nothing_is_lost() {
        let mut picture = Picture::new(10);
        for island in 0..10 {
            for page in 0..1000 {
                let state = if page == 500 {
                    State::Missing
                } else {
                    State::Same
                };
                picture.add(&part((island << 40) + page * 0x2000, state));
                assert!(picture.blocks.len() <= 20);
            }
        }
        let blocks = picture.finish();
        assert_eq!(blocks.len(), 10);
        for (block, island) in blocks.iter().zip(0u64..) {
            assert_eq!(block.first.0, island << 40);
            assert_eq!(
                (block.parts, block.read, block.missing),
                (1000, 999 * 0x1000, 0x1000)
            );
            assert!(block.differs());
        }
    }
}
