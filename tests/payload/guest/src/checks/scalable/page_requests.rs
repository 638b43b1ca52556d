// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Page requests: the queue, its event and its overflow, and what the device makes of the answers.

use super::bench::{Bench, DOMAIN, IOVA, PASID, VIA, any_entry, any_tables, page_with};
use crate::check::Checks;
use crate::checks::{Machine, PAGE_VECTOR};
use crate::dmatest::*;
use crate::interrupts;
use crate::mem::{self, read64, write64};
use crate::vtd::faults::{Fault, PAGE_REQUEST};
use crate::vtd::page_queue::{BYTES, PageQueue, PageRequest};
use crate::vtd::paging::Paging;
use crate::vtd::queue::{WAIT, WAIT_FENCE, WAIT_STATUS};
use crate::vtd::scalable::PRE;
use crate::vtd::unit::*;
use crate::vtd::wide_queue::{WAIT_DRAIN, page_response};

const ASKING: Via = VIA.asking();
/// Answers.
const SUCCESS: u64 = 0;
const INVALID: u64 = 1;
const FAILURE: u64 = 0xF;

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_page_requests() || !machine.dmatest().has_pri() || !unit.has_pasids() {
        checks.skip("page requests with PASID", "not offered");
        return;
    }
    let mut pri = Pri::start(machine);
    served(&mut pri, checks);
    kinds(&mut pri, checks);
    answers(&mut pri, checks);
    events(&mut pri, checks);
    wrap(&mut pri, checks);
    overflow(&mut pri, checks);
    refused(&mut pri, checks);
    timed_out(&mut pri, checks);
}

struct Pri<'a> {
    bench: Bench<'a>,
    queue: PageQueue,
    paging: Paging,
}

impl<'a> Pri<'a> {
    fn start(machine: &'a Machine) -> Pri<'a> {
        let mut bench = Bench::start(machine);
        let queue = PageQueue::start(bench.unit, machine.apic_id, PAGE_VECTOR);
        let paging = any_tables(bench.unit);
        let entry = any_entry(bench.unit, &paging, DOMAIN);
        bench.bind(entry);
        bench.bind_to(0, entry);
        bench.device.take_response_failure();
        Pri {
            bench,
            queue,
            paging,
        }
    }

    /// Answers a request as its two words say.
    fn answer(&mut self, request: &PageRequest, pasid: Option<u32>, code: u64) -> bool {
        let low = page_response(self.bench.source(), pasid, code);
        self.bench.queue.run(low, request.group() << 3)
    }

    fn unmap(&mut self) {
        write64(self.paging.entry(IOVA, 1), 0);
        self.bench.forget();
    }
}

/// First word of a request of this source.
fn low(source: u16, pasid: Option<u32>) -> u64 {
    let pasid = pasid.map_or(0, |pasid| 1 << 8 | u64::from(pasid) << 32);
    1 | u64::from(source) << 16 | pasid
}

fn served(pri: &mut Pri, checks: Checks) {
    interrupts::clear();
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA + 8);
    checks.holds("the event", interrupts::arrived(PAGE_VECTOR, 1));
    checks.equal("PRS shows a request", PPR, pri.bench.unit.read32(PRS));
    checks.equal("the tail moved by one request", 0x20_u64, pri.queue.tail());
    let Some(request) = pri.queue.take() else {
        checks.holds("a request arrives", false);
        return;
    };
    let source = pri.bench.source();
    checks.equal(
        "the request's source and PASID",
        low(source, Some(PASID)),
        request.low,
    );
    checks.equal(
        "the request's page, for reading, last of its group",
        IOVA | 1 << 2 | 1 << 0,
        request.high & !0xFF8,
    );
    checks.equal("nothing else is in it", 0u64, request.rest);
    checks.equal(
        "PPR is cleared by writing 1",
        0u32,
        pri.bench.unit.read32(PRS),
    );
    checks.holds("the device waits", !pri.bench.device.is_finished(slot));
    let page = mem::page();
    write64(page + 8, 0x1111);
    pri.paging.map(IOVA, page, pri.paging.open());
    pri.answer(&request, Some(PASID), SUCCESS);
    let status = pri.bench.device.finish(slot).status;
    checks.equal(
        "mapped and answered with success: the device goes on",
        0x1111_u64,
        if status == DONE {
            pri.bench.device.loaded()
        } else {
            status.into()
        },
    );
    pri.unmap();
}

/// Runs `operation` with one page request, which is answered after the page was mapped.
fn serve(pri: &mut Pri, via: Via, operation: Operation) -> (Option<PageRequest>, u32) {
    let slot = pri.bench.device.start(via, operation, IOVA);
    let request = pri.queue.take();
    pri.paging.map(IOVA, page_with(0x2222), pri.paging.open());
    if let Some(request) = &request {
        pri.answer(request, via.pasid, SUCCESS);
    }
    let status = pri.bench.device.finish(slot).status;
    pri.unmap();
    (request, status)
}

fn kinds(pri: &mut Pri, checks: Checks) {
    let source = pri.bench.source();
    for (name, via, operation, flags, rights) in [
        ("for writing", ASKING, Operation::Store(1), 0, 0b10_u64),
        ("for both", ASKING, Operation::Add(1), 0, 0b11),
        (
            "without PASID",
            Via::PLAIN.asking(),
            Operation::Load,
            0,
            0b01,
        ),
        (
            "a supervisor's",
            ASKING.privileged(),
            Operation::Load,
            1 << 53,
            0b01,
        ),
        (
            "for a fetch",
            ASKING.execute(),
            Operation::Load,
            1 << 52,
            0b01,
        ),
    ] {
        // Whether the page then suffices is for the rights of the PASID entry.
        let common = flags == 0;
        let (request, status) = if common {
            serve(pri, via, operation)
        } else {
            ask_and_refuse(pri, via, operation)
        };
        let expected = low(source, via.pasid) | flags;
        let checks = checks.on("request");
        let Some(request) = request else {
            checks.holds(name, false);
            continue;
        };
        checks.equal(name, expected, request.low);
        checks
            .on("rights of the request")
            .equal(name, rights, request.high & 3);
        let end = if common { DONE } else { PAGE_INVALID };
        checks.on("end of the command").equal(name, end, status);
    }
}

/// As `serve`, but the answer is that the request is invalid.
fn ask_and_refuse(pri: &mut Pri, via: Via, operation: Operation) -> (Option<PageRequest>, u32) {
    let slot = pri.bench.device.start(via, operation, IOVA);
    let request = pri.queue.take();
    if let Some(request) = &request {
        pri.answer(request, via.pasid, INVALID);
    }
    (request, pri.bench.device.finish(slot).status)
}

fn answers(pri: &mut Pri, checks: Checks) {
    for (name, code, end) in [
        (
            "invalid request: the device gives up",
            INVALID,
            PAGE_INVALID,
        ),
        ("failure: the device gives up", FAILURE, PAGE_FAILURE),
    ] {
        let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
        if let Some(request) = pri.queue.take() {
            pri.answer(&request, Some(PASID), code);
        }
        checks.equal(name, end, pri.bench.device.finish(slot).status);
        let failed = pri.bench.device.take_response_failure();
        checks
            .on("PRI status after")
            .holds(name, failed == (code == FAILURE));
    }
    // Answers that are not for the request: another group, another PASID, none.
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
    let Some(request) = pri.queue.take() else {
        checks.holds("a request arrives", false);
        return;
    };
    let source = pri.bench.source();
    let received = pri.bench.device.register(PAGE_RESPONSES);
    for (low, group) in [
        (
            page_response(source, Some(PASID), SUCCESS),
            request.group() ^ 1,
        ),
        (
            page_response(source, Some(PASID + 1), SUCCESS),
            request.group(),
        ),
        (page_response(source, None, SUCCESS), request.group()),
    ] {
        pri.bench.queue.run(low, group << 3);
    }
    let received = pri.bench.device.register(PAGE_RESPONSES) - received;
    let waits = !pri.bench.device.is_finished(slot);
    checks.holds(
        "answers to others reach the device and are not its own",
        received == 3 && waits,
    );
    let status = mem::page();
    let drain = WAIT | WAIT_STATUS | WAIT_FENCE | WAIT_DRAIN | 7 << 32;
    pri.bench.queue.run(drain, status);
    checks.equal(
        "a draining wait does not wait for the answer",
        7u32,
        mem::read32(status),
    );
    pri.answer(&request, Some(PASID), INVALID);
    pri.bench.device.finish(slot);
    pri.bench.device.take_response_failure();
}

/// Masked, the event stays pending; while PPR is set there is no other.
fn events(pri: &mut Pri, checks: Checks) {
    let unit = pri.bench.unit;
    unit.write32(PECTL, IM);
    interrupts::clear();
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
    let head = unit.read64(PQH);
    crate::arch::poll(crate::arch::SHORT, || pri.queue.tail() != head);
    checks.equal("masked: the event is pending", IM | IP, unit.read32(PECTL));
    checks.holds("masked: nothing arrives", interrupts::silence());
    unit.write32(PECTL, 0);
    checks.holds("unmasked: it arrives", interrupts::arrived(PAGE_VECTOR, 1));
    checks.equal("unmasked: no longer pending", 0u32, unit.read32(PECTL));
    // PPR is still set: the next request raises nothing.
    let group = read64(pri.queue.base + head + 8) >> 3 & 0x1FF;
    let invalid = page_response(pri.bench.source(), Some(PASID), INVALID);
    pri.bench.queue.run(invalid, group << 3);
    pri.bench.device.finish(slot);
    interrupts::clear();
    let tail = pri.queue.tail();
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
    crate::arch::poll(crate::arch::SHORT, || pri.queue.tail() != tail);
    checks.holds(
        "while PPR is set there is no further event",
        interrupts::silence(),
    );
    let first = pri.queue.take();
    let second = pri.queue.take();
    checks.holds(
        "both requests are in the queue",
        first.is_some() && second.is_some(),
    );
    if let Some(request) = second {
        pri.answer(&request, Some(PASID), INVALID);
    }
    pri.bench.device.finish(slot);
    unit.write32(PECTL, IM);
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
    let request = pri.queue.take();
    checks.equal(
        "clearing PPR takes a pending event back",
        IM,
        unit.read32(PECTL),
    );
    if let Some(request) = request {
        pri.answer(&request, Some(PASID), INVALID);
    }
    pri.bench.device.finish(slot);
    unit.write32(PECTL, 0);
}

/// The tail goes from the last place to the first.
fn wrap(pri: &mut Pri, checks: Checks) {
    pri.queue.set_ends(BYTES - 32, BYTES - 32);
    let (request, status) = serve(pri, ASKING, Operation::Load);
    checks.holds(
        "the last place of the ring",
        request.is_some() && status == DONE,
    );
    checks.equal("the tail wraps", 0u64, pri.queue.tail());
    let (request, status) = serve(pri, ASKING, Operation::Load);
    checks.holds(
        "the first place of the ring",
        request.is_some() && status == DONE,
    );
}

/// A queue that is full: PRO, its event, and an answer at once so that the device asks again.
fn overflow(pri: &mut Pri, checks: Checks) {
    let unit = pri.bench.unit;
    pri.queue.set_ends(0x40, 0x20);
    interrupts::clear();
    let (status, fault) = pri.bench.attempt(ASKING, Operation::Load, IOVA);
    checks.equal("full: PRO, and no PPR", PRO, unit.read32(PRS));
    checks.holds("full: one event", interrupts::arrived(PAGE_VECTOR, 1));
    checks.equal("full: the tail stays", 0x20_u64, pri.queue.tail());
    checks.equal(
        "full: the device gives up after it asked again",
        NO_RIGHT,
        status,
    );
    checks.fault("full: nothing is recorded", None, fault);
    // Room alone does not help.
    pri.queue.set_ends(0x20, 0x20);
    let status = pri.bench.device.run(ASKING, Operation::Load, IOVA).status;
    checks.holds(
        "while PRO is set requests are lost",
        status == NO_RIGHT && pri.queue.tail() == 0x20,
    );
    unit.write32(PRS, PRO);
    checks.equal("PRO is cleared by writing 1", 0u32, unit.read32(PRS));
    let (request, status) = serve(pri, ASKING, Operation::Load);
    checks.holds(
        "PRO cleared: requests are served again",
        request.is_some() && status == DONE,
    );
}

/// PRE not set: refused, recorded, answered.
fn refused(pri: &mut Pri, checks: Checks) {
    let context = pri.bench.tables.context(pri.bench.source());
    let word = read64(context);
    write64(context, word & !PRE);
    pri.bench.forget();
    let tail = pri.queue.tail();
    let (status, fault) = pri.bench.attempt(ASKING, Operation::Load, IOVA);
    let expected = Fault {
        access: PAGE_REQUEST,
        ..pri.bench.expect(0x47, VIA, Operation::Load, IOVA)
    };
    checks.fault("PRE not set: 0x47", Some(expected), fault);
    checks.holds(
        "PRE not set: answered at once, with an error",
        matches!(status, PAGE_INVALID | PAGE_FAILURE) && pri.queue.tail() == tail,
    );
    pri.bench.device.take_response_failure();
    write64(context, word);
    pri.bench.forget();
    let (request, status) = serve(pri, ASKING, Operation::Load);
    checks.holds("PRE set again", request.is_some() && status == DONE);
}

/// Nobody answers: the device gives up by itself, and an answer that comes too late is for nobody.
fn timed_out(pri: &mut Pri, checks: Checks) {
    pri.bench.device.set_page_timeout(20);
    let slot = pri.bench.device.start(ASKING, Operation::Load, IOVA);
    let request = pri.queue.take();
    let status = pri.bench.device.finish(slot).status;
    pri.bench.device.set_page_timeout(10_000);
    checks.holds(
        "no answer: the device gives up",
        request.is_some() && status == 12,
    );
    if let Some(request) = request {
        checks.holds(
            "too late an answer",
            pri.answer(&request, Some(PASID), SUCCESS),
        );
    }
    pri.bench.device.take_response_failure();
    let (request, status) = serve(pri, ASKING, Operation::Load);
    checks.holds("then again", request.is_some() && status == DONE);
}
