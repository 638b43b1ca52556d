// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Devices that come and go between a control socket and a guest, both played here. Two slots, `a` at 00:01.0 and `b` at 00:02.0; slot
//! control is at 0x70 of a port, slot status at 0x72.

mod rig;

use super::*;
use crate::board::Reset;
use rig::*;

#[test]
fn device_that_comes_is_announced_and_waits_for_the_guest() {
    let rig = rig();
    rig.add("d0", "a");
    // Present, presence changed, button pressed.
    assert_eq!(rig.status(A), 0x0049);
    assert_eq!(rig.slot(0), named("d0", "off"));
    rig.control(A, ON);
    assert_eq!(rig.slot(0), named("d0", "on"));
    assert!(rig.events().is_empty());
}

#[test]
fn device_without_bus_and_name_gets_the_first_free_slot_and_a_new_name() {
    let rig = rig();
    let added = rig.hotplug.add(&disk("/d", None, None)).unwrap();
    assert_eq!((added.id.as_str(), added.bus.as_str()), ("disk0", "a"));
    assert_eq!(
        rig.refused(&disk("/d", None, None)),
        "cannot add disk disk1: there is a device in every hotplug slot (remove one first, or start the machine with more of --root-port id=ID,hotplug)"
    );
}

#[test]
fn refusal_of_a_device_names_what_is_in_the_way() {
    let rig = rig();
    for (id, bus, complaint) in [
        ("d0", "b", "cannot add disk d0: cold is in the slot of b"),
        (
            "d0",
            "z",
            "there is no hotplug root port \"z\" (the machine has a, b)",
        ),
        ("cold", "a", "the name \"cold\" is taken"),
        ("serial", "a", "the name \"serial\" is taken"),
    ] {
        let refusal = rig.refused(&disk("/d", Some(id), Some(bus)));
        assert!(refusal.contains(complaint), "{refusal}");
    }
    assert_eq!(rig.slots()[0], (None, "off".into()));
}

#[test]
fn device_that_cannot_be_had_leaves_slot_and_name_free() {
    let rig = rig();
    let refusal = rig.refused(&disk("/missing", Some("d0"), Some("a")));
    assert_eq!(refusal, "cannot add disk d0: there is no such image");
    assert_eq!(rig.status(A), 0);
    rig.add("d0", "a");
}

#[test]
fn machine_without_slots_refuses_everything() {
    let events = Events::new().unwrap();
    let workshop = Arc::new(Workshop(Log::default()));
    let hotplug = Hotplug::new(PciRoot::new(), workshop, events, Vec::new(), Vec::new());
    let refusal = hotplug.add(&disk("/d", None, None)).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("the machine has no hotplug slot")
    );
}

#[test]
fn orderly_removal_ends_when_the_guest_has_switched_the_slot_off() {
    let rig = rig();
    assert_eq!(rig.ask("cold", 0), Ok(Removal::Requested));
    assert_eq!(rig.status(B), 0x0041);
    assert_eq!(rig.slot(1), named("cold", "leaving"));
    rig.take_note(B);
    rig.control(B, GOING_OFF);
    rig.look(6);
    assert!(rig.events().is_empty());
    assert_eq!(rig.slot(1), named("cold", "leaving"));
    rig.control(B, OFF);
    rig.look(7);
    assert_eq!(rig.events(), [removed("cold", By::Control)]);
    assert_eq!(rig.slots()[1], (None, "off".into()));
    rig.add("d0", "b");
}

#[test]
fn device_stops_before_what_it_held_is_given_back() {
    let rig = rig();
    rig.add("d0", "a");
    rig.control(A, ON);
    rig.log();
    assert_eq!(rig.hotplug.remove("d0", true), Ok(Removal::Done));
    assert_eq!(rig.log(), ["reset d0", "release d0"]);
}

#[test]
fn device_that_the_guest_never_took_goes_at_once() {
    let rig = rig();
    rig.add("d0", "a");
    assert_eq!(rig.ask("d0", 0), Ok(Removal::Done));
    assert_eq!(rig.log(), ["reset d0", "release d0"]);
    assert_eq!(rig.slots()[0], (None, "off".into()));
}

#[test]
fn guest_that_takes_no_note_keeps_the_device_and_the_press_is_taken_back() {
    let rig = rig();
    assert_eq!(rig.ask("cold", 10), Ok(Removal::Requested));
    rig.look(39);
    assert!(rig.events().is_empty());
    rig.look(40);
    assert_eq!(rig.events(), [kept("cold", Kept::Unheard)]);
    assert_eq!((rig.status(B), rig.slot(1)), (0x0040, named("cold", "on")));
    // It can be asked for again.
    assert_eq!(rig.ask("cold", 50), Ok(Removal::Requested));
}

#[test]
fn guest_that_lets_go_too_late_leaves_a_device_that_goes_at_once() {
    let rig = rig();
    assert_eq!(rig.ask("cold", 0), Ok(Removal::Requested));
    rig.take_note(B);
    rig.look(30);
    assert_eq!(rig.events(), [kept("cold", Kept::Held)]);
    rig.let_go(B);
    assert_eq!(rig.slot(1), named("cold", "off"));
    assert_eq!(rig.ask("cold", 60), Ok(Removal::Done));
}

#[test]
fn asking_again_within_five_seconds_takes_the_removal_back() {
    let rig = rig();
    let again = |second| rig.ask("cold", second).unwrap_err().to_string();
    assert_eq!(rig.ask("cold", 0), Ok(Removal::Requested));
    assert!(again(1).contains("has not taken note of it yet"));
    rig.take_note(B);
    assert_eq!(rig.ask("cold", 4), Ok(Removal::Requested));
    assert_eq!(rig.status(B) & 1, 1);
    assert!(again(4).contains("five seconds are over"));
    rig.write(B, 0x72, 1);
    rig.control(B, ON);
    rig.look(5);
    assert_eq!(rig.events(), [kept("cold", Kept::Cancelled)]);
    assert_eq!(rig.slot(1), named("cold", "on"));
}

#[test]
fn removal_by_force_does_not_ask_and_ends_one_that_was_asked_for() {
    let rig = rig();
    assert_eq!(rig.ask("cold", 0), Ok(Removal::Requested));
    rig.take_note(B);
    assert_eq!(rig.hotplug.remove("cold", true), Ok(Removal::Done));
    // Absent, presence and link changed.
    assert_eq!(rig.status(B), 0x0108);
    rig.let_go(B);
    rig.look(100);
    assert!(rig.events().is_empty());
}

#[test]
fn what_is_not_in_a_slot_is_not_removed() {
    let rig = rig();
    let refusal = |id| rig.hotplug.remove(id, true).unwrap_err().to_string();
    assert!(refusal("serial").contains("it is not in a hotplug slot"));
    let unknown = refusal("nobody");
    assert!(
        unknown.contains("there is no such device (in slots are: cold)"),
        "{unknown}"
    );
}

#[test]
fn slot_that_the_guest_switches_off_by_itself_keeps_its_device() {
    let rig = rig();
    rig.let_go(B);
    assert!(rig.events().is_empty());
    assert_eq!(rig.slot(1), named("cold", "off"));
    rig.control(B, ON);
    assert_eq!(rig.slot(1), named("cold", "on"));
}

#[test]
fn reset_takes_out_what_was_about_to_go_and_nothing_else() {
    let rig = rig();
    rig.add("d0", "a");
    rig.control(A, ON);
    assert_eq!(rig.ask("cold", 0), Ok(Removal::Requested));
    rig.hotplug.reset().unwrap();
    rig.root.reset();
    assert_eq!(rig.events(), [removed("cold", By::Control)]);
    assert_eq!(rig.slots()[1], (None, "off".into()));
    assert_eq!(rig.slot(0), named("d0", "on"));
    rig.look(100);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn host_that_wants_its_device_back_asks_the_guest_once() {
    let rig = rig();
    for id in ["cold", "cold", "nobody"] {
        rig.hotplug.give_back(id);
    }
    let asked = Event::UnplugRequested {
        id: "cold".to_owned(),
        by: By::Host,
    };
    assert_eq!(rig.events(), std::slice::from_ref(&asked));
    rig.take_note(B);
    rig.let_go(B);
    assert_eq!(rig.events(), [asked, removed("cold", By::Host)]);
}

#[test]
fn wish_of_the_host_is_told_once_until_it_is_heard() {
    let bell = Bell::default();
    for id in ["a", "b", "a"] {
        bell.want_back(id);
    }
    assert!(bell.wait(None));
    assert_eq!(bell.take_wanted(), ["a", "b"]);
    assert!(bell.take_wanted().is_empty());
}

#[test]
fn end_gives_back_what_devices_hold() {
    let rig = rig();
    rig.add("d0", "a");
    rig.hotplug.stop();
    assert_eq!(rig.log(), ["reset d0", "release d0"]);
}

#[test]
fn thread_sees_that_the_guest_let_go_and_ends_when_told() {
    let rig = rig();
    rig.events.listen(true);
    rig.hotplug.start().unwrap();
    rig.hotplug.remove("cold", false).unwrap();
    rig.write(B, 0x72, 0x01ff);
    rig.control(B, BLINKING);
    rig.control(B, OFF);
    while rig.events().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(rig.events(), [removed("cold", By::Control)]);
    rig.hotplug.stop();
}
