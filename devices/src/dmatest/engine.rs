// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What commands do. Memory is taken in pieces that do not cross a page, each in a section of its own, so invalidations never
//! wait for a whole command and a reset ends it at the next piece.

use super::Shared;
use super::command::{Command, Completion, Operation, SLOT_BYTES, Status};
use iommu::address::{Iova, PAGE_SIZE};
use iommu::dma::{DmaError, DmaSection};
use iommu::request::{Access, AddressType, Attributes};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use vm_memory::VolatileMemory;

const PAGE: usize = 4096;

/// A command on its way.
struct Run<'a> {
    device: &'a Shared,
    command: Command,
    /// Bytes done.
    done: usize,
    /// The address of the access that is under way.
    at: Iova,
    result: u64,
}

impl Shared {
    /// Carries out the command in `slot`.
    pub(super) fn execute(&self, slot: &[u8; SLOT_BYTES]) -> Completion {
        let command = match Command::decode(slot) {
            Ok(command) => command,
            Err(status) => return Completion::refused(status),
        };
        if let Err(status) = command.route.check(&self.allowed()) {
            return Completion::refused(status);
        }
        let mut run = Run {
            device: self,
            command,
            done: 0,
            at: command.address,
            result: 0,
        };
        let outcome = run.run();
        Completion {
            fault_address: if outcome.is_err() { run.at.0 } else { 0 },
            status: outcome.err().unwrap_or(Status::Done),
            done: u32::try_from(run.done).unwrap_or(u32::MAX),
            result: run.result,
        }
    }
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), Status> {
        let from = self.command.address;
        match self.command.operation {
            Operation::Nothing => Ok(()),
            Operation::Read { buffer } => self.pieces(None, |run, at, bytes| {
                run.load(at, bytes)?;
                let start = buffer + run.done;
                run.device.buffer()[start..start + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }),
            Operation::Write { buffer } => self.pieces(None, |run, at, bytes| {
                let start = buffer + run.done;
                bytes.copy_from_slice(&run.device.buffer()[start..start + bytes.len()]);
                run.store(at, bytes)
            }),
            Operation::Copy { to } => self.pieces(Some(to), |run, at, bytes| {
                run.load(at, bytes)?;
                run.store(offset(to, run.done), bytes)
            }),
            Operation::Fill { pattern } => self.pieces(None, |run, at, bytes| {
                let pattern = pattern.to_le_bytes();
                for (byte, index) in bytes.iter_mut().zip(run.done..) {
                    *byte = pattern[index % 8];
                }
                run.store(at, bytes)
            }),
            Operation::Checksum => {
                self.result = FNV_BASIS;
                self.pieces(None, |run, at, bytes| {
                    run.load(at, bytes)?;
                    run.result = fnv(run.result, bytes);
                    Ok(())
                })
            }
            Operation::FetchAdd { addend } => self.atomic(from, Change::Add(addend)),
            Operation::CompareSwap { new, expected } => {
                self.atomic(from, Change::Swap { new, expected })
            }
            Operation::Touch { write } => {
                let access = if write { Access::Write } else { Access::Read };
                self.pieces(None, |run, at, _| run.touch(at, access))
            }
        }
    }

    /// Cuts the command's memory, and what lies opposite at `other`, at page boundaries.
    fn pieces(
        &mut self,
        other: Option<Iova>,
        mut each: impl FnMut(&mut Self, Iova, &mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut bytes = [0; PAGE];
        while self.done < self.command.length {
            if self.device.lock().is_cancelled() {
                return Err(Status::Cancelled);
            }
            let at = offset(self.command.address, self.done);
            let mut len = (self.command.length - self.done).min(left_in_page(at));
            if let Some(other) = other {
                len = len.min(left_in_page(offset(other, self.done)));
            }
            each(self, at, &mut bytes[..len])?;
            self.done += len;
        }
        Ok(())
    }

    fn access(
        &mut self,
        at: Iova,
        access: Access,
        act: &mut dyn FnMut(&DmaSection<'_>, Iova, Attributes) -> Result<(), DmaError>,
    ) -> Result<(), Status> {
        self.at = at;
        self.device.access(&self.command.route, at, access, act)
    }

    fn load(&mut self, at: Iova, bytes: &mut [u8]) -> Result<(), Status> {
        self.access(at, Access::Read, &mut |section, at, attributes| {
            section.read_with(at, bytes, attributes)
        })
    }

    fn store(&mut self, at: Iova, bytes: &[u8]) -> Result<(), Status> {
        self.access(at, Access::Write, &mut |section, at, attributes| {
            section.write_with(at, bytes, attributes)
        })
    }

    /// Untranslated it is an access of no bytes; translated it ends with the translation, which is the result.
    fn touch(&mut self, at: Iova, access: Access) -> Result<(), Status> {
        let mut page = 0;
        self.access(at, access, &mut |section, at, attributes| {
            if attributes.address_type == AddressType::Translated {
                page = at.page().0;
                return Ok(());
            }
            let piece = section.pieces_with(at, 1, access, attributes).next();
            piece.map_or(Ok(()), |piece| piece.map(|_| ()))
        })?;
        self.result = page;
        Ok(())
    }

    fn atomic(&mut self, at: Iova, change: Change) -> Result<(), Status> {
        let length = self.command.length;
        let mut old = 0;
        self.access(at, Access::Atomic, &mut |section, at, attributes| {
            let mut pieces = section.pieces_with(at, length, Access::Atomic, attributes);
            let piece = pieces.next().ok_or(DmaError::NoRam(at))??;
            let word = if length == 8 {
                piece
                    .get_atomic_ref::<AtomicU64>(0)
                    .map(|word| change.apply_64(word))
            } else {
                piece
                    .get_atomic_ref::<AtomicU32>(0)
                    .map(|word| change.apply_32(word))
            };
            old = word.map_err(|_| DmaError::NoRam(at))?;
            Ok(())
        })?;
        self.result = old;
        self.done = length;
        Ok(())
    }
}

/// An atomic operation.
#[derive(Clone, Copy)]
enum Change {
    Add(u64),
    Swap { new: u64, expected: u64 },
}

impl Change {
    /// Changes a word; the value before.
    fn apply_64(self, word: &AtomicU64) -> u64 {
        match self {
            Self::Add(addend) => word.fetch_add(addend, Ordering::SeqCst),
            Self::Swap { new, expected } => word
                .compare_exchange(expected, new, Ordering::SeqCst, Ordering::SeqCst)
                .unwrap_or_else(|found| found),
        }
    }

    fn apply_32(self, word: &AtomicU32) -> u64 {
        let old = match self {
            Self::Add(addend) => word.fetch_add(low(addend), Ordering::SeqCst),
            Self::Swap { new, expected } => word
                .compare_exchange(low(expected), low(new), Ordering::SeqCst, Ordering::SeqCst)
                .unwrap_or_else(|found| found),
        };
        old.into()
    }
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a, 64 bits.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    bytes.iter().fold(hash, step)
}

/// Bits 31:0.
fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The address `bytes` after `from`. A command's range has been checked: it does not wrap.
fn offset(from: Iova, bytes: usize) -> Iova {
    Iova(from.0.wrapping_add(bytes as u64))
}

fn left_in_page(at: Iova) -> usize {
    let left = PAGE_SIZE - at.0 % PAGE_SIZE;
    usize::try_from(left).unwrap_or(PAGE)
}
