// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How bindings of PASIDs end, and begin late: L3 unbinds them, resets with all of them bound, or has the device only later.
//! What is really bound L2's kernel says, by its own look at the tables of its unit, which is Remora's.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{Outcome, ThreeLevels, Turn, passed_through};

const LIMIT: Duration = Duration::from_secs(420);

pub const UNBIND: Scenario = Scenario {
    name: "pasid-unbind",
    about: "three levels: what a PASID sends is refused once L3 has unbound it, even what is under way; L2's kernel names it",
    limit: LIMIT,
    run: unbind,
};

pub const RESET: Scenario = Scenario {
    name: "pasid-reset",
    about: "three levels: L3 resets with 25 PASIDs bound and at work: none is bound on L2, and the next boot binds them all",
    limit: LIMIT,
    run: reset,
};

pub const HOTPLUG: Scenario = Scenario {
    name: "pasid-hotplug-linux",
    about: "three levels: a device comes to a running L3, whose Linux binds 258 PASIDs of it, and goes again",
    limit: LIMIT,
    run: hotplug,
};

/// The PASIDs of the device in L2's tables, then what the inner Remora has.
const LOOK: &str = "pasids; echo '|'; ctl stats --json";

fn unbind(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = |at| Turn {
        at,
        does: "pasids",
        says: "on",
    };
    let levels = ThreeLevels {
        script: "guest-tools dmatest unbind",
        turns: &[turn("bound"), turn("unbound")],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    outcome.said("unbind")?;
    let (bound, unbound) = (outcome.turns("bound"), outcome.turns("unbound"));
    if bound != ["3 4 4097 1048574"] || unbound != [""] {
        bail!("L2's tables had the PASIDs {bound:?}, and {unbound:?} when all were unbound");
    }
    // The entry is not present: no other reason will do.
    let refusals = outcome.refusals_are_logged(Some("0x59"))?;
    if (refusals, outcome.faults()) != (4, 0) {
        bail!("{refusals} refusals instead of 4: {}", outcome.result);
    }
    Ok(Verdict::Pass)
}

fn reset(lab: &mut Lab<'_>) -> Result<Verdict> {
    let turn = |at, says| Turn {
        at,
        does: LOOK,
        says,
    };
    let turns = [
        turn("booted", "on"),
        turn("bound", "reset"),
        turn("booted", "on"),
        turn("bound", "on"),
        turn("unbound", "on"),
    ];
    let levels = ThreeLevels {
        script: "guest-tools dmatest held",
        turns: &turns,
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    outcome.said("held")?;
    let [booted, again] = looks(&outcome, "booted")?;
    let [bound, bound_again] = looks(&outcome, "bound")?;
    let [unbound] = looks(&outcome, "unbound")?;
    let with_pasid = |look: &Look| {
        look.endpoints
            .iter()
            .filter(|e| e.contains("PASID"))
            .count()
    };
    if booted != again || bound != bound_again {
        bail!("not as before the reset: {booted:?} and {again:?}, {bound:?} and {bound_again:?}");
    }
    if (
        with_pasid(&booted),
        with_pasid(&bound),
        with_pasid(&unbound),
    ) != (0, 25, 0)
    {
        bail!("not 25 PASIDs and then none: {booted:?}, {bound:?}, {unbound:?}");
    }
    // All but the device's own requests, which L3's kernel blocks once VFIO has the device.
    if bound.host.len() != 25 || !unbound.host.is_empty() || booted.host.len() > 1 {
        bail!("L2's tables: {booted:?}, {bound:?}, {unbound:?}");
    }
    match outcome.faults() {
        0 => Ok(Verdict::Pass),
        _ => bail!("the inner guest was given faults: {}", outcome.result),
    }
}

fn hotplug(lab: &mut Lab<'_>) -> Result<Verdict> {
    let add = format!("{LOOK}; ctl add-device vfio=$bdf,id=dma,bus=p0 >/tmp/added");
    let remove = format!("{LOOK}; ctl remove-device dma >/tmp/removed");
    let turn = |at, does| Turn {
        at,
        does,
        says: "on",
    };
    let levels = ThreeLevels {
        // Left open it would be the second stage: of a device that is to come nobody knows whether its host nests.
        iommu: "mode=scalable,stages=first,pasid-bits=20",
        passed: "--root-port id=p0,hotplug",
        script: HOTPLUGGED,
        turns: &[
            turn("empty", &add),
            turn("used", &remove),
            turn("gone", LOOK),
        ],
        ..ThreeLevels::NESTING
    };
    let outcome = levels.boot(lab)?;
    if !outcome.said("pasid")?.starts_with("258 PASIDs, ") {
        bail!("not all was done: {}", outcome.said("pasid")?);
    }
    outcome.refusals_are_logged(None)?;
    let [empty] = looks(&outcome, "empty")?;
    let [gone] = looks(&outcome, "gone")?;
    let [used] = looks(&outcome, "used")?;
    if empty != gone || !empty.endpoints.is_empty() || used.endpoints.len() != 1 {
        bail!("not as before the device came: {empty:?}, {used:?}, {gone:?}");
    }
    match outcome.faults() {
        0 => Ok(Verdict::Pass),
        _ => bail!("the inner guest was given faults: {}", outcome.result),
    }
}

/// Waits for the device, uses it, and waits until it has gone.
const HOTPLUGGED: &str = r#"
ids=/sys/bus/pci/devices/*/device
echo "DMATEST at empty."
read answer
until grep -q 0xd7a7 $ids; do sleep 0.2; done
guest-tools dmatest pasid passed
echo "DMATEST at used."
read answer
while grep -q 0xd7a7 $ids 2>/dev/null; do sleep 0.2; done
echo "DMATEST at gone."
read answer
"#;

/// What is bound at a moment.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// PASIDs of the device in L2's tables.
    host: Vec<String>,
    /// What the inner Remora follows, each with what the guest says of it.
    endpoints: Vec<String>,
    /// Tables that it has on L2's kernel.
    tables: usize,
}

/// What L2 saw each time that L3 was at `place`.
fn looks<const N: usize>(outcome: &Outcome, place: &str) -> Result<[Look; N]> {
    let looks = outcome.turns(place).into_iter().map(look);
    let looks = looks.collect::<Result<Vec<_>>>()?;
    let count = looks.len();
    let looks = looks.try_into().ok();
    looks.with_context(|| format!("L3 was at '{place}' {count} times, not {N}"))
}

fn look(said: &str) -> Result<Look> {
    let (host, stats) = said.split_once('|').context("half a look")?;
    let passed = passed_through(stats)?;
    let list = |name: &str| passed[name].as_array().map_or(&[][..], Vec::as_slice);
    let endpoint = |endpoint: &Value| {
        let name = match endpoint["pasid"].as_u64() {
            Some(pasid) => format!("PASID {pasid:#x}"),
            None => "device".to_owned(),
        };
        let served = endpoint["table"] == endpoint["place"] && endpoint["refused"].is_null();
        let kind = match endpoint["wants"].as_str() {
            Some("blocked") => "blocked",
            Some("identity") => "identity",
            _ => "tables",
        };
        format!("{name} {kind}{}", if served { "" } else { " refused" })
    };
    Ok(Look {
        host: host.split_whitespace().map(str::to_owned).collect(),
        endpoints: list("devices").iter().map(endpoint).collect(),
        tables: list("domains").len(),
    })
}
