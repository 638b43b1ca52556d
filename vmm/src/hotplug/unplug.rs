// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One orderly removal, as a function of what is seen of the slot and of the time.
//!
//! The attention button is pressed. The guest lets the power indicator blink, and for five seconds a second press takes the first
//! one back (PCI Express Base Specification 6.0, section 6.7.1.5). Then it lets go of the device and switches power and
//! indicator off. A guest has [`LIMIT`] for all of it.

use devices::pci::root_port::{Indicator, SlotView};
use std::time::Duration;

/// How long a guest has to let go of a device.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How long a second press takes the first one back.
pub const SECOND_PRESS: Duration = Duration::from_secs(5);

/// Why a device stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nobody took note of the button: no operating system runs that looks after its slots.
    Unheard,
    /// The guest took note and did not let go in time.
    Held,
    /// The guest took note and decided otherwise.
    Declined,
    /// A second press took the first one back.
    Cancelled,
}

impl Kept {
    /// The reason for people.
    #[must_use]
    pub fn why(self) -> String {
        let limit = LIMIT.as_secs();
        match self {
            Self::Unheard => format!(
                "the guest did not let go of it: for {limit} s it took no note of the attention button (does it look after hotplug slots?)"
            ),
            Self::Held => format!(
                "the guest did not let go of it: it took note of the attention button but did not switch the slot off within {limit} s"
            ),
            Self::Declined => {
                "the guest took note of the attention button and left the slot on".to_owned()
            }
            Self::Cancelled => {
                "a second press of the attention button took the first one back".to_owned()
            }
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Press the attention button.
    Press,
    /// The guest has let go: take the device out.
    TakeOut,
    /// The device stays, and the removal is over.
    Keep(Kept),
}

/// What becomes of asking a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Press the attention button once more: the removal is taken back.
    Press,
    /// The guest has not taken note of the first press yet.
    NotHeardYet,
    /// The five seconds are over.
    TooLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The guest is busy with the slot and would not listen: the button waits until the light is steady.
    Busy,
    /// The button was pressed.
    Pressed,
    /// The guest took note.
    Blinking,
    /// The button was pressed again.
    Cancelling,
}

/// A removal that is under way. Times are those since any common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplug {
    phase: Phase,
    asked: Duration,
    pressed: Duration,
}

impl Unplug {
    /// Begins at `now` with a slot as `view` shows it; what to do first.
    #[must_use]
    pub fn begin(view: SlotView, now: Duration) -> (Self, Step) {
        let mut unplug = Self {
            phase: Phase::Busy,
            asked: now,
            pressed: now,
        };
        let step = unplug.look(view, now);
        (unplug, step)
    }

    /// Looks at the slot at `now`.
    pub fn look(&mut self, view: SlotView, now: Duration) -> Step {
        if view.is_released() {
            return Step::TakeOut;
        }
        let light = view.power_indicator;
        match (self.phase, light) {
            (Phase::Busy, Indicator::On) => {
                self.phase = Phase::Pressed;
                self.pressed = now;
                return Step::Press;
            }
            (Phase::Pressed, Indicator::Blinking) => self.phase = Phase::Blinking,
            (Phase::Blinking, Indicator::On) => return Step::Keep(Kept::Declined),
            (Phase::Cancelling, Indicator::On) => return Step::Keep(Kept::Cancelled),
            _ => {}
        }
        if now < self.deadline() {
            return Step::Wait;
        }
        match self.phase {
            Phase::Pressed => Step::Keep(Kept::Unheard),
            _ => Step::Keep(Kept::Held),
        }
    }

    /// Asked a second time at `now`.
    pub fn ask_again(&mut self, now: Duration) -> Again {
        match self.phase {
            Phase::Busy | Phase::Pressed => Again::NotHeardYet,
            Phase::Blinking if now < self.pressed + SECOND_PRESS => {
                self.phase = Phase::Cancelling;
                Again::Press
            }
            Phase::Blinking | Phase::Cancelling => Again::TooLate,
        }
    }

    /// When it is over at the latest.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.asked + LIMIT
    }
}

#[cfg(test)]
mod tests;
