// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PASIDs of a device that is passed through twice: what L3's Linux binds is bound in L2's, whose unit is Remora's.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::lab::Lab;
use crate::scenario::{Scenario, Verdict};
use crate::three_levels::{Outcome, ThreeLevels};

const LIMIT: Duration = Duration::from_secs(420);
const NESTS: &str = ThreeLevels::NESTING.host;

pub const RID: Scenario = Scenario {
    name: "pasid-rid",
    about: "three levels: L3's first-stage tables for requests without PASID; what it unmaps L2's unit refuses",
    limit: LIMIT,
    run: |lab| {
        let outcome = run(lab, NESTS, "mode=scalable", "dmatest iommufd passed")?;
        ended(&outcome, "iommufd", "")
    },
};

pub const MANY: Scenario = Scenario {
    name: "pasid-many",
    about: "three levels: L3's iommufd binds 258 PASIDs of one device, each with memory of its own",
    limit: LIMIT,
    run: |lab| {
        let outcome = run(lab, NESTS, "mode=scalable", "dmatest pasid passed")?;
        ended(&outcome, "pasid", "258 PASIDs, ")
    },
};

pub const SECOND_STAGE: Scenario = Scenario {
    name: "pasid-second-stage",
    about: "three levels: the same with second-stage tables, which are copied",
    limit: LIMIT,
    run: |lab| {
        let iommu = "mode=scalable,stages=second";
        let outcome = run(lab, NESTS, iommu, "dmatest pasid passed")?;
        ended(&outcome, "pasid", "258 PASIDs, ")
    },
};

pub const NO_NESTING: Scenario = Scenario {
    name: "pasid-no-nesting",
    about: "three levels: L2's unit does not nest, so L3 is offered second-stage tables alone, and binds PASIDs to them",
    limit: LIMIT,
    run: |lab| {
        let host = "mode=scalable,stages=second,pasid-bits=20";
        let outcome = run(lab, host, "mode=scalable", "dmatest pasid passed")?;
        ended(&outcome, "pasid", "258 PASIDs, ")
    },
};

pub const TWO_STAGES: Scenario = Scenario {
    name: "pasid-two-stages",
    about: "three levels: a program in L3 has first-stage tables over a parent of L3's iommufd, bound as both stages in L2's",
    limit: LIMIT,
    run: |lab| {
        let outcome = run(lab, NESTS, "mode=scalable", "dmatest nested passed")?;
        // An invalidation proves something only if there was an old translation to be used.
        if outcome.said("nested")?.contains(" 0 old translations used") {
            bail!("no translation was kept, so no invalidation was put to the test");
        }
        ended(&outcome, "nested", "both stages obeyed, ")
    },
};

pub const PRI: Scenario = Scenario {
    name: "pasid-pri",
    about: "three levels: a page that dmatest in L1 asks for goes through L2's fault queue and is answered in L3",
    limit: LIMIT,
    run: |lab| {
        let outcome = run(lab, NESTS, "mode=scalable", "dmatest pri passed")?;
        ended(&outcome, "pri", "")
    },
};

fn run(lab: &mut Lab<'_>, host: &str, iommu: &str, uses: &str) -> Result<Outcome> {
    let levels = ThreeLevels {
        host,
        iommu,
        script: &format!("guest-tools {uses}"),
        ..ThreeLevels::NESTING
    };
    levels.boot(lab)
}

/// What was refused stands in L2's log, and in the inner unit nothing was.
fn ended(outcome: &Outcome, what: &str, start: &str) -> Result<Verdict> {
    let said = outcome.said(what)?;
    if !said.starts_with(start) {
        bail!("not all was done: {said}");
    }
    let logged = outcome.refusals_are_logged(None)?;
    if !said.ends_with(&format!(" {logged} refused")) {
        bail!("{logged} refusals were told of: {said}");
    }
    match outcome.faults() {
        0 => Ok(Verdict::Pass),
        faults => bail!(
            "the inner guest was given {faults} faults: {}",
            outcome.result
        ),
    }
}
