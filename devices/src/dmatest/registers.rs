// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The registers and the ring, without thread, memory or interrupts; and the page request that is outstanding, because the
//! thread waits for its answer under the same lock.

use super::command::{BUFFER_BYTES, COMMAND_BYTES, Completion, MAX_LENGTH, SLOT_BYTES};
use bitfield_struct::bitfield;
use iommu::ats::{PageResponse, ResponseCode};
use iommu::ids::Pasid;
use std::time::Duration;

/// First offset of the ring in BAR 0.
pub(super) const RING: u64 = 0x1000;
/// First offset of the buffer in BAR 0.
pub(super) const BUFFER: u64 = 0x1_0000;
/// Slots of the ring, a power of two.
const SLOTS: u32 = 64;

const MAGIC: u64 = 0x00;
const VERSION: u64 = 0x04;
const SLOT_COUNT: u64 = 0x08;
const LONGEST: u64 = 0x0c;
const BUFFER_SIZE: u64 = 0x10;
const CONTROL: u64 = 0x18;
const STATUS: u64 = 0x1c;
const HEAD: u64 = 0x20;
const TAIL: u64 = 0x24;
const COMPLETED: u64 = 0x28;
const PAGE_TIMEOUT: u64 = 0x2c;
const ATC_ENTRIES: u64 = 0x40;
const ATC_HITS: u64 = 0x44;
const ATC_MISSES: u64 = 0x48;
const ATC_INVALIDATIONS: u64 = 0x4c;
const PAGE_REQUESTS: u64 = 0x50;
const PAGE_RESPONSES: u64 = 0x54;

/// "DMAT".
const MAGIC_VALUE: u32 = 0x5441_4d44;
const VERSION_VALUE: u32 = 1;
const DEFAULT_PAGE_TIMEOUT: u32 = 10_000;
const MAX_PAGE_TIMEOUT: u32 = 60_000;

/// The control register.
#[bitfield(u32)]
pub(super) struct Control {
    /// Bit 0: invalidations of the cache are carried out, but never completed.
    pub withhold_completion: bool,
    /// Bit 1: they are answered wrongly.
    pub wrong_completion: bool,
    #[bits(30)]
    __: u32,
}

/// The status register.
#[bitfield(u32)]
struct Status {
    /// Bit 0: the ring is not empty.
    busy: bool,
    /// Bit 1: the answer to a page request is awaited.
    page_request: bool,
    #[bits(30)]
    __: u32,
}

/// What was counted since the last reset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    completed: u32,
    pub(super) hits: u32,
    pub(super) misses: u32,
    pub(super) invalidations: u32,
    page_requests: u32,
    page_responses: u32,
}

/// The page request that is outstanding.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    group: u16,
    pasid: Option<Pasid>,
    answer: Option<Answer>,
}

/// How the wait for a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Response(ResponseCode),
    /// Software made the device forget the request.
    Forgotten,
}

/// The registers, and what threads tell each other.
#[derive(Debug)]
pub(super) struct Registers {
    slots: Vec<[u8; SLOT_BYTES]>,
    head: u32,
    tail: u32,
    pub(super) control: Control,
    page_timeout: u32,
    pub(super) counts: Counts,
    outstanding: Option<Outstanding>,
    next_group: u16,
    /// The thread is at a command, its interrupt included.
    pub(super) working: bool,
    /// Resets under way: no command begins, and the present one ends.
    pub(super) resets: u32,
    pub(super) quit: bool,
}

impl Default for Registers {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| [0; SLOT_BYTES]).collect();
        Self {
            slots,
            head: 0,
            tail: 0,
            control: Control::new(),
            page_timeout: DEFAULT_PAGE_TIMEOUT,
            counts: Counts::default(),
            outstanding: None,
            next_group: 0,
            working: false,
            resets: 0,
            quit: false,
        }
    }
}

/// How many slots `to` is after `from`.
const fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) % SLOTS
}

impl Registers {
    /// Power-on values.
    pub(super) fn reset(&mut self) {
        *self = Self {
            resets: self.resets,
            quit: self.quit,
            ..Self::default()
        };
    }

    /// Whether the present command is to end early.
    pub(super) const fn is_cancelled(&self) -> bool {
        self.quit || self.resets != 0
    }

    /// Reads a register, a dword at `offset`.
    pub(super) fn read(&self, offset: u64, cached: usize) -> u32 {
        let counts = &self.counts;
        match offset {
            MAGIC => MAGIC_VALUE,
            VERSION => VERSION_VALUE,
            SLOT_COUNT => SLOTS,
            LONGEST => MAX_LENGTH,
            BUFFER_SIZE => u32::try_from(BUFFER_BYTES).unwrap_or(u32::MAX),
            CONTROL => self.control.into_bits(),
            STATUS => Status::new()
                .with_busy(self.head != self.tail)
                .with_page_request(self.is_asking())
                .into_bits(),
            HEAD => self.head,
            TAIL => self.tail,
            COMPLETED => counts.completed,
            PAGE_TIMEOUT => self.page_timeout,
            ATC_ENTRIES => u32::try_from(cached).unwrap_or(u32::MAX),
            ATC_HITS => counts.hits,
            ATC_MISSES => counts.misses,
            ATC_INVALIDATIONS => counts.invalidations,
            PAGE_REQUESTS => counts.page_requests,
            PAGE_RESPONSES => counts.page_responses,
            _ => 0,
        }
    }

    /// Writes a register.
    pub(super) fn write(&mut self, offset: u64, value: u32) {
        match offset {
            CONTROL => {
                let value = Control::from_bits(value);
                self.control
                    .set_withhold_completion(value.withhold_completion());
                self.control.set_wrong_completion(value.wrong_completion());
            }
            TAIL => self.submit(value),
            PAGE_TIMEOUT => self.page_timeout = value.clamp(1, MAX_PAGE_TIMEOUT),
            _ => {}
        }
    }

    /// Moves the tail, forward only and not past the head. The answers of the slots that are given to the device are
    /// cleared.
    fn submit(&mut self, tail: u32) {
        let ready = distance(self.head, self.tail);
        if tail >= SLOTS || distance(self.head, tail) < ready || self.is_cancelled() {
            return;
        }
        while self.tail != tail {
            if let Some(slot) = self.slots.get_mut(self.tail as usize) {
                slot[COMMAND_BYTES..].fill(0);
            }
            self.tail = distance(0, self.tail + 1);
        }
    }

    /// Reads from the ring, at a byte offset in it.
    pub(super) fn read_ring(&self, offset: u64, data: &mut [u8]) {
        let bytes = self.slots.as_flattened();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(found) = from
            .checked_add(data.len())
            .and_then(|end| bytes.get(from..end))
        {
            data.copy_from_slice(found);
        }
    }

    /// Writes into the ring; the answers are read-only.
    pub(super) fn write_ring(&mut self, offset: u64, data: &[u8]) {
        let bytes = self.slots.as_flattened_mut();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, at) in data.iter().zip(from..) {
            if at % SLOT_BYTES < COMMAND_BYTES
                && let Some(place) = bytes.get_mut(at)
            {
                *place = *byte;
            }
        }
    }

    /// The command that the thread can begin.
    pub(super) fn next(&self) -> Option<[u8; SLOT_BYTES]> {
        if self.head == self.tail || self.is_cancelled() {
            return None;
        }
        self.slots.get(self.head as usize).copied()
    }

    /// The first command is over.
    pub(super) fn complete(&mut self, completion: &Completion) {
        if let Some(slot) = self.slots.get_mut(self.head as usize) {
            slot[COMMAND_BYTES..].copy_from_slice(&completion.bytes());
        }
        self.head = distance(0, self.head + 1);
        self.counts.completed = self.counts.completed.wrapping_add(1);
    }

    /// How long an answer to a page request is awaited.
    pub(super) fn page_timeout(&self) -> Duration {
        Duration::from_millis(self.page_timeout.into())
    }

    /// Whether a page request is outstanding: sent, and neither answered nor forgotten.
    pub(super) fn is_asking(&self) -> bool {
        self.outstanding.is_some_and(|o| o.answer.is_none())
    }

    /// A page request is about to be sent; its group.
    pub(super) fn ask(&mut self, pasid: Option<Pasid>) -> u16 {
        let group = self.next_group;
        self.next_group = (group + 1) % 512;
        self.counts.page_requests = self.counts.page_requests.wrapping_add(1);
        self.outstanding = Some(Outstanding {
            group,
            pasid,
            answer: None,
        });
        group
    }

    /// Whether the wait for the outstanding request goes on.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_asking() && !self.is_cancelled()
    }

    /// Ends the wait; the answer if there is one.
    pub(super) fn end_wait(&mut self) -> Option<Answer> {
        self.outstanding.take().and_then(|o| o.answer)
    }

    /// Takes a response; whether it belongs to what is outstanding.
    pub(super) fn respond(&mut self, response: &PageResponse) -> bool {
        self.counts.page_responses = self.counts.page_responses.wrapping_add(1);
        match &mut self.outstanding {
            Some(request)
                if request.answer.is_none()
                    && request.group == response.group
                    && request.pasid == response.pasid =>
            {
                request.answer = Some(Answer::Response(response.code));
                true
            }
            _ => false,
        }
    }

    /// Forgets the outstanding request.
    pub(super) fn forget(&mut self) {
        if let Some(request) = &mut self.outstanding {
            request.answer.get_or_insert(Answer::Forgotten);
        }
    }
}
