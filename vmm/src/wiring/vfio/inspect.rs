// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the mirror did and holds, for the result file and for whoever looks into the machine.

use super::{Passed, question, roster};
use crate::board::{Counters, Inspect};
use crate::config::VfioBackend;
use crate::error::Error;
use ::iommu::follow::DeviceHandle;
use serde_json::{Map, Value, json};
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

/// The word for a way to the host's kernel.
const fn backend(kind: VfioBackend) -> &'static str {
    match kind {
        VfioBackend::Auto => "auto",
        VfioBackend::Iommufd => "iommufd",
        VfioBackend::Type1 => "type1",
    }
}

impl Counters for MirrorNumbers {
    fn counters(&self) -> Map<String, Value> {
        let others = self.others.as_ref();
        let mut map = others.map_or_else(Map::new, |others| others.counters());
        if let Some(mirror) = self.passed.mirror() {
            let totals = serde_json::to_value(mirror.stats());
            map.insert("passthrough".into(), totals.unwrap_or_default());
        }
        map
    }
}

impl Inspect for MirrorNumbers {
    fn stats(&self) -> Value {
        let report = self.passed.mirror().map(Mirror::report);
        let mut stats = serde_json::to_value(report).unwrap_or_default();
        if let Value::Object(stats) = &mut stats {
            let devices = self.passed.roster.devices();
            let name = |(handle, device): &(DeviceHandle, roster::Passed)| {
                let address = device.address.to_string();
                json!({ "device": handle.0, "name": device.name, "address": address })
            };
            let kind = self.passed.side.get().map(|side| side.host.kind());
            stats.insert("backend".into(), kind.map(backend).into());
            stats.insert("names".into(), devices.iter().map(name).collect());
        }
        stats
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
        Some(
            question::parse(question, |name| self.passed.roster.find(name)).map(
                |(subject, iova)| {
                    let answers = mirror.explain(subject, iova);
                    serde_json::to_value(answers).unwrap_or_default()
                },
            ),
        )
    }
}
