// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Refusals in the words of people.

use crate::refusal::Refusal;

pub(super) fn no_slots(what: &str) -> Refusal {
    Refusal::new(what, "the machine has no hotplug slot")
        .mend("start it with --root-port id=ID,hotplug")
}

pub(super) fn no_such_slot(what: &str, bus: &str, slots: &str) -> Refusal {
    Refusal::new(what, format!("there is no hotplug root port {bus:?}"))
        .mend(format!("the machine has {slots}"))
}

pub(super) fn taken(what: &str, bus: &str, id: &str) -> Refusal {
    Refusal::new(what, format!("{id} is in the slot of {bus}"))
        .mend("remove it first, or choose another slot")
}

pub(super) fn all_taken(what: &str) -> Refusal {
    Refusal::new(what, "there is a device in every hotplug slot")
        .mend("remove one first, or start the machine with more of --root-port id=ID,hotplug")
}

pub(super) fn name_taken(what: &str, id: &str) -> Refusal {
    Refusal::new(what, format!("the name {id:?} is taken")).mend("choose another one with id=ID")
}

pub(super) fn fixed(what: &str) -> Refusal {
    Refusal::new(what, "it is not in a hotplug slot")
        .mend("only devices behind a --root-port id=ID,hotplug can be removed")
}

pub(super) fn unknown(what: &str, known: &str) -> Refusal {
    Refusal::new(what, "there is no such device").mend(format!("in slots are: {known}"))
}

pub(super) fn not_heard_yet(what: &str) -> Refusal {
    Refusal::new(
        what,
        "the guest was asked already and has not taken note of it yet",
    )
    .mend("wait until it has, or take the device away with --force")
}

pub(super) fn too_late(what: &str) -> Refusal {
    Refusal::new(
        what,
        "the guest is letting go of it already, and the five seconds are over in which asking again takes that back",
    )
    .mend("wait for it, or take the device away with --force")
}

pub(super) fn bug(what: &str) -> Refusal {
    Refusal::new(what, "this is a bug: the device is not where it was found")
}
