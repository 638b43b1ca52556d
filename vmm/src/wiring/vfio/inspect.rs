// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the mirror did and holds, for the result file and for whoever looks into the machine.

use super::{Passed, question};
use crate::board::{Counters, Inspect};
use crate::error::Error;
use serde_json::{Map, Value};
use std::sync::Arc;
use vfio::dump::{Options, html};
use vfio::mirror::Mirror;

/// The mirror's numbers.
#[derive(Debug)]
pub struct MirrorNumbers {
    passed: Arc<Passed>,
    /// What else is counted.
    others: Option<Arc<dyn Counters>>,
}

impl MirrorNumbers {
    /// Those of the mirror of `passed`, beside what `others` count.
    #[must_use]
    pub const fn new(passed: Arc<Passed>, others: Option<Arc<dyn Counters>>) -> Self {
        Self { passed, others }
    }
}

impl Counters for MirrorNumbers {
    fn counters(&self) -> Map<String, Value> {
        let others = self.others.as_ref();
        let mut map = others.map_or_else(Map::new, |others| others.counters());
        if let Some(mirror) = self.passed.mirror() {
            let totals = serde_json::to_value(mirror.report().totals);
            map.insert("passthrough".into(), totals.unwrap_or_default());
        }
        map
    }
}

impl Inspect for MirrorNumbers {
    fn stats(&self) -> Value {
        let report = self.passed.mirror().map(Mirror::report);
        serde_json::to_value(report).unwrap_or_default()
    }

    fn dump(&self) -> Value {
        let dump = self.passed.mirror();
        let dump = dump.map(|mirror| mirror.dump(&Options::default()));
        serde_json::to_value(dump).unwrap_or_default()
    }

    fn page(&self) -> Option<String> {
        let mirror = self.passed.mirror()?;
        Some(html::render(&mirror.dump(&Options::default())))
    }

    fn explain(&self, question: &str) -> Option<Result<Value, Error>> {
        let mirror = self.passed.mirror()?;
        Some(question::parse(question).map(|(subject, iova)| {
            let answers = mirror.explain(subject, iova);
            serde_json::to_value(answers).unwrap_or_default()
        }))
    }
}
