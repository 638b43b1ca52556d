// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a unit hears of its devices when another unit's events touch tables that both use.

use super::rig::*;
use crate::backend::HostError;
use crate::backend::fake::{CallKind, FakeOptions, Injection};
use crate::mirror::{Budget, Listener, UnitId};
use iommu::address::Iova;
use iommu::follow::{DeviceHandle, Follower, Unmet};
use std::sync::{Arc, Mutex};

type Heard = (Vec<Unmet>, Vec<DeviceHandle>);

/// Writes down what it hears, and tells its unit's next event at once if it has one.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<Heard>>,
    next: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Ear {
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Listener for Ear {
    fn host_changed(&self, unmet: &[Unmet], resynced: &[DeviceHandle]) {
        let heard = (unmet.to_vec(), resynced.to_vec());
        self.heard.lock().unwrap().push(heard);
        let next = self.next.lock().unwrap().take();
        if let Some(next) = next {
            next();
        }
    }
}

const UNSYNCED: Unmet = Unmet::Unsynced {
    device: B,
    pasid: None,
    first: Iova(0),
};

/// A behind the rig's unit and B behind another one share the tables at `root`, which map pages 0 to 3; both units have ears.
fn shared(rig: &mut Rig) -> (u64, Arc<dyn Follower>, [Arc<Ear>; 2]) {
    let root = rig.table();
    rig.map_pages(root, 0, 0x100_0000, 4 * PAGE);
    rig.attached(root);
    let other = rig.mirror.follower(UnitId(1), rig.capabilities);
    let event = attachment(B, rig.domain(1, root));
    assert_eq!(other.apply(&[event]).results, [Ok(())]);
    let ears = [(); 2].map(|()| Arc::new(Ear::default()));
    for (unit, ear) in (0..).zip(&ears) {
        rig.mirror.listen(UnitId(unit), ear);
    }
    (root, other, ears)
}

#[test]
fn unit_hears_that_a_table_which_another_unit_spoiled_is_out_of_use() {
    let mut rig = Rig::iommufd();
    let (root, other, ears) = shared(&mut rig);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(rig.table_of(B), None);
    assert_eq!(ears[1].take(), [(vec![UNSYNCED], vec![])]);
    // Once, until its own unit is told that everything is there again.
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(ears[1].take(), []);
    rig.host.heal();
    assert_eq!(other.apply(&[domain_invalidated(77)]).resynced, [B]);
    assert_eq!(rig.pages(B), rig.expected(root, 0..8));
    assert_eq!(ears[0].take(), [], "its own answers say it all");
}

#[test]
fn unit_hears_that_another_unit_took_a_shared_domain_over_budget() {
    let budget = Budget {
        runs: 8,
        ..Budget::for_ram(2 * GIB)
    };
    let mut rig = Rig::with(FakeOptions::iommufd(), budget);
    let (root, _other, ears) = shared(&mut rig);
    for n in 0..16 {
        rig.map(root, (8 + 2 * n) * PAGE, 0x100_0000, RW);
    }
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(rig.table_of(B), None);
    assert_eq!(ears[1].take(), [(vec![UNSYNCED], vec![])]);
}

#[test]
fn unit_hears_that_another_unit_split_a_group() {
    let mut rig = Rig::type1();
    rig.host.open_beside(B, A);
    let (_root, _other, ears) = shared(&mut rig);
    let two = rig.table();
    let event = attachment(A, rig.domain(2, two));
    assert!(rig.unit.apply(&[event]).results[0].is_err());
    assert_eq!(ears[1].take(), [(vec![Unmet::Attachment(B)], vec![])]);
}

#[test]
fn bad_news_that_good_ones_overtook_are_taken_back() {
    let mut rig = Rig::iommufd();
    let (root, other, ears) = shared(&mut rig);
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    let host = rig.host.clone();
    *ears[1].next.lock().unwrap() = Some(Box::new(move || {
        host.heal();
        assert_eq!(other.apply(&[domain_invalidated(77)]).resynced, [B]);
    }));
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
    assert_eq!(
        ears[1].take(),
        [(vec![UNSYNCED], vec![]), (vec![], vec![B])]
    );
}

#[test]
fn listener_that_is_gone_is_not_kept_alive() {
    let mut rig = Rig::iommufd();
    let (root, _other, ears) = shared(&mut rig);
    let weak = Arc::downgrade(&ears[1]);
    drop(ears);
    assert!(weak.upgrade().is_none());
    rig.clear(root, 0, 1);
    rig.host
        .inject(Injection::always(CallKind::Remove, HostError::Io));
    assert!(rig.unit.apply(&[domain_invalidated(1)]).results[0].is_err());
}
