// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Any order of plugging, pulling, pressing and register writes against a model that is written down naively.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Plug,
    Pull,
    Press,
    Withdraw,
    Control(u16),
    ClearStatus(u16),
    LinkDisable(bool),
    BusReset(bool),
    MachineReset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Plug),
        Just(Step::Pull),
        Just(Step::Press),
        Just(Step::Withdraw),
        any::<u16>().prop_map(Step::Control),
        // What drivers write: everything enabled, light and power in all positions.
        (0u16..4, any::<bool>())
            .prop_map(|(light, off)| Step::Control(0x103b | light << 8 | u16::from(off) << 10)),
        any::<u16>().prop_map(Step::ClearStatus),
        any::<bool>().prop_map(Step::LinkDisable),
        any::<bool>().prop_map(Step::BusReset),
        Just(Step::MachineReset),
    ]
}

/// The registers as the specification tells them, bit by bit.
#[derive(Clone, Debug)]
struct Model {
    present: bool,
    control: u16,
    status: u16,
    link: bool,
    disabled: bool,
    in_reset: bool,
    interrupting: bool,
    messages: usize,
    /// How often the device that is there was reset.
    resets: usize,
    listening: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            present: false,
            control: 0x07c0,
            status: 0,
            link: false,
            disabled: false,
            in_reset: false,
            interrupting: false,
            messages: 0,
            resets: 0,
            listening: true,
        }
    }

    fn is_up(&self) -> bool {
        self.present && self.control & 0x400 == 0 && !self.disabled && !self.in_reset
    }

    fn settle(&mut self, was_up: bool) {
        if was_up && !self.is_up() {
            self.resets += 1;
        }
        if self.link != self.is_up() {
            self.link = self.is_up();
            self.status |= 0x100;
        }
        let pairs = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (8, 12)];
        let any = pairs
            .iter()
            .any(|(event, enable)| self.status >> event & self.control >> enable & 1 != 0);
        let interrupting = any && self.control & 0x20 != 0;
        if interrupting && !self.interrupting && self.listening {
            self.messages += 1;
        }
        self.interrupting = interrupting;
    }

    fn step(&mut self, step: Step) {
        let was_up = self.is_up();
        match step {
            Step::Plug if self.present => return,
            Step::Plug => {
                self.present = true;
                self.resets = 0;
                self.status |= 0x48;
                return self.settle(false);
            }
            Step::Pull => {
                if self.present {
                    self.status |= 0x8;
                }
                self.present = false;
                self.status &= !0x40;
                return self.settle(false);
            }
            Step::Press => self.status |= 1,
            Step::Withdraw => self.status &= !1,
            Step::Control(value) => {
                let mut value = value & 0x17ff;
                for light in [0xc0, 0x300] {
                    if value & light == 0 {
                        value |= self.control & light;
                    }
                }
                self.control = value;
            }
            Step::ClearStatus(value) => self.status &= !(value & 0x11f),
            Step::LinkDisable(disabled) => self.disabled = disabled,
            Step::BusReset(in_reset) => self.in_reset = in_reset,
            Step::MachineReset => {
                let (present, resets) = (self.present, self.resets);
                let messages = self.messages;
                *self = Self::new();
                self.messages = messages;
                self.listening = false;
                self.present = present;
                self.resets = resets + 1;
                self.link = present;
                if present {
                    (self.control, self.status) = (0x01c0, 0x40);
                }
                return;
            }
        }
        self.settle(was_up);
    }
}

fn carry_out(rig: &Rig, device: &mut Option<Arc<TestFunction>>, step: Step) {
    match step {
        Step::Plug => {
            let new = super::device();
            if rig.port.attach(new.clone()).is_ok() {
                *device = Some(new);
                rig.port.detect_presence();
            }
        }
        Step::Pull => {
            rig.port.detach();
            rig.port.detect_presence();
            *device = None;
        }
        Step::Press => rig.port.press_attention_button(),
        Step::Withdraw => rig.port.withdraw_press(),
        Step::Control(value) => rig.write(0x70, value),
        Step::ClearStatus(value) => rig.write(0x72, value),
        Step::LinkDisable(disabled) => rig.write(0x68, u16::from(disabled) << 4),
        Step::BusReset(in_reset) => rig.write(0x3e, u16::from(in_reset) << 6),
        Step::MachineReset => rig.port.reset(),
    }
}

proptest! {
    #[test]
    fn slot_does_what_the_naive_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let rig = rig(true);
        // MSI on and all events enabled; a reset switches MSI off for good.
        rig.listen();
        let mut model = Model::new();
        model.control |= 0x103b;
        let mut device = None;
        let mut messages = 0;
        for step in steps {
            carry_out(&rig, &mut device, step);
            model.step(step);
            messages += rig.sender.take().len();
            prop_assert_eq!(rig.read(0x70), model.control, "slot control after {:?}", step);
            prop_assert_eq!(rig.read(0x72), model.status, "slot status after {:?}", step);
            prop_assert_eq!(rig.read(0x6a) & 0x2000 != 0, model.link, "link after {:?}", step);
            prop_assert_eq!(rig.port.is_link_up(), model.is_up(), "reach after {:?}", step);
            prop_assert_eq!(messages, model.messages, "messages after {:?}", step);
            if let Some(device) = &device {
                prop_assert_eq!(device.resets(), model.resets, "resets after {:?}", step);
            }
            let view = rig.port.slot().unwrap();
            let released = model.control & 0x700 == 0x700;
            prop_assert_eq!((view.present, view.is_released()), (model.present, released));
        }
    }
}
