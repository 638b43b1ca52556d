// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each rule of an orderly removal, with the times written in.

use super::*;

const fn view(powered: bool, power_indicator: Indicator) -> SlotView {
    SlotView {
        present: true,
        powered,
        power_indicator,
        button_pending: false,
    }
}

const ON: SlotView = view(true, Indicator::On);
const BLINKING: SlotView = view(true, Indicator::Blinking);
const GOING_OFF: SlotView = view(false, Indicator::Blinking);
const OFF: SlotView = view(false, Indicator::Off);

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Begun at second 100 with a slot that is on.
fn begun() -> Unplug {
    let (unplug, step) = Unplug::begin(ON, at(100));
    assert_eq!(step, Step::Press);
    unplug
}

#[test]
fn device_in_a_slot_that_is_off_is_taken_out_at_once() {
    assert_eq!(Unplug::begin(OFF, at(100)).1, Step::TakeOut);
}

#[test]
fn guest_that_lets_go_is_waited_for_until_the_light_is_out() {
    let mut unplug = begun();
    for (view, step) in [
        (ON, Step::Wait),
        (BLINKING, Step::Wait),
        (GOING_OFF, Step::Wait),
        (OFF, Step::TakeOut),
    ] {
        assert_eq!(unplug.look(view, at(106)), step, "{view:?}");
    }
}

#[test]
fn power_off_with_the_light_on_is_not_enough() {
    let mut unplug = begun();
    assert_eq!(unplug.look(view(false, Indicator::On), at(101)), Step::Wait);
}

#[test]
fn button_waits_while_the_guest_is_busy_with_the_slot() {
    let (mut unplug, step) = Unplug::begin(BLINKING, at(100));
    assert_eq!(step, Step::Wait);
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.look(ON, at(102)), Step::Press);
    assert_eq!(unplug.look(ON, at(103)), Step::Wait);
    // A device that did not come up is let go of without any press.
    let (mut unplug, _) = Unplug::begin(GOING_OFF, at(100));
    assert_eq!(unplug.look(OFF, at(101)), Step::TakeOut);
}

#[test]
fn nobody_who_hears_the_button_keeps_the_device_after_thirty_seconds() {
    let mut unplug = begun();
    assert_eq!(unplug.look(ON, at(129)), Step::Wait);
    assert_eq!(unplug.look(ON, at(130)), Step::Keep(Kept::Unheard));
}

#[test]
fn guest_that_takes_too_long_keeps_the_device_after_thirty_seconds() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.look(BLINKING, at(129)), Step::Wait);
    assert_eq!(unplug.look(BLINKING, at(130)), Step::Keep(Kept::Held));
    let (mut busy, _) = Unplug::begin(BLINKING, at(100));
    assert_eq!(busy.look(BLINKING, at(130)), Step::Keep(Kept::Held));
    assert_eq!(unplug.deadline(), at(130));
}

#[test]
fn guest_that_lets_go_at_the_last_moment_has_let_go() {
    let mut unplug = begun();
    assert_eq!(unplug.look(OFF, at(200)), Step::TakeOut);
}

#[test]
fn light_that_is_steady_again_means_that_the_guest_declined() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.look(ON, at(103)), Step::Keep(Kept::Declined));
}

#[test]
fn second_press_within_five_seconds_takes_the_first_one_back() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.ask_again(at(104)), Again::Press);
    assert_eq!(unplug.look(BLINKING, at(104)), Step::Wait);
    assert_eq!(unplug.look(ON, at(105)), Step::Keep(Kept::Cancelled));
}

#[test]
fn second_press_counts_from_the_first_one_and_not_from_the_wish() {
    let (mut unplug, _) = Unplug::begin(BLINKING, at(100));
    assert_eq!(unplug.look(ON, at(110)), Step::Press);
    assert_eq!(unplug.look(BLINKING, at(111)), Step::Wait);
    assert_eq!(unplug.ask_again(at(114)), Again::Press);
    assert_eq!(unplug.deadline(), at(130));
}

#[test]
fn second_press_after_five_seconds_is_not_made() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.ask_again(at(105)), Again::TooLate);
    assert_eq!(unplug.look(OFF, at(106)), Step::TakeOut);
}

#[test]
fn second_press_before_the_guest_heard_the_first_is_not_made() {
    let mut unplug = begun();
    assert_eq!(unplug.ask_again(at(101)), Again::NotHeardYet);
    let (mut busy, _) = Unplug::begin(BLINKING, at(100));
    assert_eq!(busy.ask_again(at(101)), Again::NotHeardYet);
}

#[test]
fn third_press_is_not_made() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.ask_again(at(102)), Again::Press);
    assert_eq!(unplug.ask_again(at(103)), Again::TooLate);
}

#[test]
fn guest_that_let_go_although_it_was_taken_back_has_let_go() {
    let mut unplug = begun();
    assert_eq!(unplug.look(BLINKING, at(101)), Step::Wait);
    assert_eq!(unplug.ask_again(at(104)), Again::Press);
    assert_eq!(unplug.look(OFF, at(107)), Step::TakeOut);
}

#[test]
fn reasons_say_that_the_guest_did_not_let_go() {
    for kept in [Kept::Unheard, Kept::Held] {
        let why = kept.why();
        assert!(
            why.starts_with("the guest did not let go of it") && why.contains("30 s"),
            "{why}"
        );
    }
}
