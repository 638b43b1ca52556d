// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a request may do with a first-stage page: user and supervisor, write protection, execution.

use super::bench::{Bench, DOMAIN, IOVA, PASID, page_with};
use crate::check::Checks;
use crate::checks::Machine;
use crate::dmatest::{Operation, Via};
use crate::mem::write64;
use crate::vtd::paging::{P, Paging, USER, USER_PAGE, WRITABLE, XD};
use crate::vtd::scalable::{ERE, Entry, NXE, SMEP, SRE, WPE};
use crate::vtd::unit::Unit;

const READ: Operation = Operation::Load;
const WRITE: Operation = Operation::Store(0x5A5A);
const ATOMIC: Operation = Operation::Add(1);

const USERS: Via = Via::pasid(PASID);
const SUPERVISOR: Via = USERS.privileged();
const FETCH: Via = USERS.execute();
const SUPERVISOR_FETCH: Via = SUPERVISOR.execute();

const READ_ONLY: u64 = P | USER;
const SUPERVISORS: u64 = P | WRITABLE;
const SUPERVISORS_READ_ONLY: u64 = P;

/// One right.
struct Right {
    name: &'static str,
    /// The leaf and the entry above it.
    entries: [u64; 2],
    /// Bits of the PASID entry's third word.
    rules: u64,
    via: Via,
    operation: Operation,
    /// 0 if allowed.
    reason: u8,
}

const fn right(
    name: &'static str,
    entries: [u64; 2],
    rules: u64,
    (via, operation): (Via, Operation),
    reason: u8,
) -> Right {
    Right {
        name,
        entries,
        rules,
        via,
        operation,
        reason,
    }
}

const ALL: [u64; 2] = [USER_PAGE, USER_PAGE];
/// Rules of the entries that let a supervisor, or instruction fetches, in.
const S: u64 = SRE;
const E: u64 = ERE;

const RIGHTS: &[Right] = &[
    right("user reads a user's page", ALL, 0, (USERS, READ), 0),
    right("user writes a user's page", ALL, 0, (USERS, WRITE), 0),
    right("atomic on a user's page", ALL, 0, (USERS, ATOMIC), 0),
    right(
        "user reads a read-only page",
        [READ_ONLY, USER_PAGE],
        0,
        (USERS, READ),
        0,
    ),
    right(
        "user writes a read-only page: 0x85",
        [READ_ONLY, USER_PAGE],
        0,
        (USERS, WRITE),
        0x85,
    ),
    right(
        "atomic on a read-only page: 0x85",
        [READ_ONLY, USER_PAGE],
        0,
        (USERS, ATOMIC),
        0x85,
    ),
    right(
        "read-only one level up: 0x85",
        [USER_PAGE, READ_ONLY],
        0,
        (USERS, WRITE),
        0x85,
    ),
    right(
        "user reads a supervisor's page: 0x81",
        [SUPERVISORS, USER_PAGE],
        0,
        (USERS, READ),
        0x81,
    ),
    right(
        "user writes a supervisor's page: 0x81",
        [SUPERVISORS, USER_PAGE],
        0,
        (USERS, WRITE),
        0x81,
    ),
    right(
        "supervisor's one level up: 0x81",
        [USER_PAGE, SUPERVISORS],
        0,
        (USERS, READ),
        0x81,
    ),
    right(
        "supervisor without SRE: 0x5D",
        ALL,
        0,
        (SUPERVISOR, READ),
        0x5D,
    ),
    right(
        "supervisor reads a supervisor's page",
        [SUPERVISORS, USER_PAGE],
        S,
        (SUPERVISOR, READ),
        0,
    ),
    right(
        "supervisor writes a supervisor's page",
        [SUPERVISORS, USER_PAGE],
        S,
        (SUPERVISOR, WRITE),
        0,
    ),
    right(
        "supervisor reads a user's page",
        ALL,
        S,
        (SUPERVISOR, READ),
        0,
    ),
    right(
        "supervisor writes a user's page",
        ALL,
        S,
        (SUPERVISOR, WRITE),
        0,
    ),
    right(
        "SRE is no right of users: 0x81",
        [SUPERVISORS, USER_PAGE],
        S,
        (USERS, READ),
        0x81,
    ),
    right(
        "supervisor writes a read-only page without WPE",
        [SUPERVISORS_READ_ONLY, USER_PAGE],
        S,
        (SUPERVISOR, WRITE),
        0,
    ),
    right(
        "supervisor writes a read-only page with WPE: 0x85",
        [SUPERVISORS_READ_ONLY, USER_PAGE],
        S | WPE,
        (SUPERVISOR, WRITE),
        0x85,
    ),
    right(
        "supervisor writes a user's read-only page with WPE: 0x85",
        [READ_ONLY, USER_PAGE],
        S | WPE,
        (SUPERVISOR, WRITE),
        0x85,
    ),
    right(
        "supervisor writes a writable page with WPE",
        [SUPERVISORS, USER_PAGE],
        S | WPE,
        (SUPERVISOR, WRITE),
        0,
    ),
    right("fetch without ERE: 0x5C", ALL, 0, (FETCH, READ), 0x5C),
    right("fetch from a user's page", ALL, E, (FETCH, READ), 0),
    right(
        "fetch with XD, without NXE",
        [USER_PAGE | XD, USER_PAGE],
        E,
        (FETCH, READ),
        0,
    ),
    right(
        "fetch with XD and NXE: 0x82",
        [USER_PAGE | XD, USER_PAGE],
        E | NXE,
        (FETCH, READ),
        0x82,
    ),
    right(
        "fetch with XD one level up: 0x82",
        [USER_PAGE, USER_PAGE | XD],
        E | NXE,
        (FETCH, READ),
        0x82,
    ),
    right("fetch without XD, with NXE", ALL, E | NXE, (FETCH, READ), 0),
    right(
        "read with XD and NXE",
        [USER_PAGE | XD, USER_PAGE],
        E | NXE,
        (USERS, READ),
        0,
    ),
    right(
        "fetch from a supervisor's page: 0x81",
        [SUPERVISORS, USER_PAGE],
        E,
        (FETCH, READ),
        0x81,
    ),
    right(
        "supervisor fetches a user's page",
        ALL,
        S | E,
        (SUPERVISOR_FETCH, READ),
        0,
    ),
    right(
        "supervisor fetches a user's page, SMEP: 0x82",
        ALL,
        S | E | SMEP,
        (SUPERVISOR_FETCH, READ),
        0x82,
    ),
    right(
        "supervisor fetches a supervisor's page, SMEP",
        [SUPERVISORS, USER_PAGE],
        S | E | SMEP,
        (SUPERVISOR_FETCH, READ),
        0,
    ),
    right(
        "user fetches a user's page, SMEP",
        ALL,
        S | E | SMEP,
        (FETCH, READ),
        0,
    ),
    right(
        "supervisor reads a user's page, SMEP",
        ALL,
        S | E | SMEP,
        (SUPERVISOR, READ),
        0,
    ),
];

/// What a right needs that the unit may not offer.
fn lacks(unit: Unit, right: &Right) -> bool {
    right.rules & SRE != 0 && !unit.has_supervisor()
        || right.rules & ERE != 0 && !unit.has_execute()
}

pub fn run(machine: &Machine, checks: Checks) {
    let unit = machine.unit;
    if !unit.has_first_stage() || !unit.has_pasids() {
        checks.skip("first stage with PASID", "not offered");
        return;
    }
    let mut bench = Bench::start(machine);
    let paging = bench.bind_first();
    let page = page_with(0);
    paging.map(IOVA, page, USER_PAGE);
    let (leaf, upper) = (paging.entry(IOVA, 1), paging.entry(IOVA, 2));
    let table = crate::mem::read64(upper) & !0xFFF;
    for right in RIGHTS {
        if lacks(unit, right) {
            checks.skip(right.name, "not offered");
            continue;
        }
        let [low, high] = right.entries;
        write64(leaf, page | low);
        write64(upper, table | high);
        bench.bind(Entry::first(&paging, DOMAIN).with(0, 0, right.rules));
        // Once through the tables, and once through what is cached of them.
        judge(&bench, right, checks);
        judge(&bench, right, checks.on("again"));
    }
    shared(&mut bench, &paging, leaf, page, checks);
}

fn judge(bench: &Bench, right: &Right, checks: Checks) {
    if right.reason == 0 {
        bench.allows(checks, right.name, right.via, right.operation, IOVA);
    } else {
        let request = (right.via, right.operation, IOVA);
        bench.blocks(checks, right.name, request, right.reason);
    }
}

/// What one request left in the caches gives another with less privilege no right.
fn shared(bench: &mut Bench, paging: &Paging, leaf: u64, page: u64, checks: Checks) {
    if !bench.unit.has_supervisor() {
        checks.skip("cached by a supervisor", "not offered");
        return;
    }
    write64(leaf, page | SUPERVISORS);
    bench.bind(Entry::first(paging, DOMAIN).with(0, 0, SRE));
    bench.allows(
        checks,
        "cached by a supervisor: itself",
        SUPERVISOR,
        WRITE,
        IOVA,
    );
    bench.blocks_read(
        checks,
        "cached by a supervisor: no right of a user: 0x81",
        USERS,
        IOVA,
        0x81,
    );
}
