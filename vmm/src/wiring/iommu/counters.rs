// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The units' counters by name, for the result file: those of all units together and, where there are several, those of each
//! under `units`, in the order of their numbers.

use crate::board;
use iommu::counters::Counters;
use iommu::unit::Unit;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The counters of the machine's units.
#[derive(Debug)]
pub(super) struct UnitCounters(pub(super) Vec<Arc<Unit>>);

impl board::Counters for UnitCounters {
    fn counters(&self) -> Map<String, Value> {
        let each: Vec<Counters> = self.0.iter().map(|unit| unit.counters()).collect();
        let mut map = sum(&each);
        if each.len() > 1 {
            let units = each.chunks(1).map(|unit| Value::Object(sum(unit)));
            map.insert("units".into(), units.collect());
        }
        map
    }
}

/// The numbers of these units, added up.
pub(super) fn sum(units: &[Counters]) -> Map<String, Value> {
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for unit in units {
        for (name, count) in requests(unit).into_iter().chain(commands(unit)) {
            *numbers.entry(name).or_default() += count;
        }
        for (reason, count) in &unit.faults {
            *reasons
                .entry(format!("{:#04x}", reason.code()))
                .or_default() += count;
        }
    }
    let mut map: Map<String, Value> = numbers
        .into_iter()
        .map(|(name, count)| (name.to_owned(), Value::from(count)))
        .collect();
    let reasons = reasons
        .into_iter()
        .map(|(reason, count)| (reason, Value::from(count)));
    map.insert("faults_by_reason".into(), Value::Object(reasons.collect()));
    map
}

/// What devices asked for.
fn requests(unit: &Counters) -> [(&'static str, u64); 22] {
    let translator = &unit.translator;
    [
        ("translations", unit.translations),
        ("unchanged", translator.unchanged),
        ("blocked", translator.blocked),
        ("context_misses", translator.context_misses),
        ("pasid_misses", translator.pasid_misses),
        ("page_hits", translator.page_hits),
        ("page_misses", translator.page_misses),
        ("first_stage_walks", translator.first_stage_walks),
        ("second_stage_walks", translator.second_stage_walks),
        ("nested_walks", translator.nested_walks),
        ("five_level_walks", translator.five_level_walks),
        ("table_reads", translator.table_reads),
        ("interrupts", unit.interrupts),
        ("posted", unit.posted),
        ("faults", unit.faults_total()),
        ("faults_lost", unit.faults_lost),
        ("events", unit.events),
        ("translation_requests", unit.translation_requests),
        ("page_requests", unit.page_requests),
        ("page_requests_lost", unit.page_requests_lost),
        ("page_responses", unit.page_responses),
        ("bad_accesses", unit.bad_accesses),
    ]
}

/// What software asked for.
fn commands(unit: &Counters) -> [(&'static str, u64); 12] {
    [
        ("context_invalidations", unit.context_invalidations),
        ("iotlb_invalidations", unit.iotlb_invalidations),
        ("page_invalidations", unit.page_invalidations),
        ("pasid_invalidations", unit.pasid_invalidations),
        ("pasid_iotlb_invalidations", unit.pasid_iotlb_invalidations),
        ("device_tlb_invalidations", unit.device_tlb_invalidations),
        ("interrupt_invalidations", unit.interrupt_invalidations),
        ("device_tlb_time_outs", unit.device_tlb_time_outs),
        ("device_tlb_errors", unit.device_tlb_errors),
        ("waits", unit.waits),
        ("waits_aborted", unit.waits_aborted),
        ("queue_errors", unit.queue_errors),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu::fault::FaultReason;

    #[test]
    fn numbers_of_units_are_added_up_by_name_and_by_reason() {
        let unit = |translations, lost| Counters {
            translations,
            faults: vec![(FaultReason::SourceValidation, lost)],
            faults_lost: lost,
            ..Counters::default()
        };
        let map = sum(&[unit(3, 1), unit(40, 2)]);
        assert_eq!(map["translations"], 43);
        assert_eq!(
            (&map["faults"], &map["faults_lost"]),
            (&3.into(), &3.into())
        );
        assert_eq!(map["faults_by_reason"]["0x26"], 3);
        assert_eq!(map["page_requests"], 0);
    }
}
