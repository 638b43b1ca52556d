// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Linux's 8250 driver in small, on an interrupt line of which a processor remembers one edge. Whatever happens in between,
//! once no interrupt is left all output has gone and all input has arrived: an edge that is missing would leave the driver
//! waiting for ever.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Interrupt enable: received data, transmitter empty.
const RECEIVED: u8 = 0x01;
const EMPTY: u8 = 0x02;
/// Bytes that are written to an empty transmitter at once.
const FIFO: usize = 16;
/// Passes of the handler in one interrupt.
const PASSES: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    /// A program writes to the terminal.
    Say(usize),
    /// The kernel prints: interrupts of the port are off meanwhile, each byte is waited for.
    Print(usize),
    /// The handler runs, if there is an interrupt. Another processor prints after the cause was read.
    Interrupt { print: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..40_usize).prop_map(Step::Say),
        (1..20_usize).prop_map(Step::Print),
        prop_oneof![Just(0), 1..5_usize].prop_map(|print| Step::Interrupt { print }),
    ]
}

struct Driver {
    rig: Rig,
    /// Bytes that arrive at each access to a register, until there are no more.
    arrivals: std::vec::IntoIter<usize>,
    enabled: u8,
    /// Bytes of programs that wait.
    waiting: usize,
    /// Pulses that the processor has answered or merged.
    pulses: usize,
    said: usize,
    sent: usize,
    received: usize,
}

impl Driver {
    /// A port that is open.
    fn new(arrivals: Vec<usize>) -> Self {
        let mut driver = Self {
            rig: rig(),
            arrivals: arrivals.into_iter(),
            enabled: RECEIVED,
            waiting: 0,
            pulses: 0,
            said: 0,
            sent: 0,
            received: 0,
        };
        driver.write(1, RECEIVED);
        driver
    }

    fn read(&mut self, offset: u64) -> u8 {
        self.arrive();
        self.rig.read(offset)
    }

    fn write(&mut self, offset: u64, value: u8) {
        self.arrive();
        self.rig.write(offset, value);
    }

    fn arrive(&mut self) {
        if let Some(bytes) = self.arrivals.next() {
            self.sent += self.rig.serial.enqueue_input(&vec![b'i'; bytes]);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Say(bytes) => {
                self.waiting += bytes;
                self.said += bytes;
                if self.enabled & EMPTY == 0 {
                    self.enable(self.enabled | EMPTY);
                }
            }
            Step::Print(bytes) => self.print(bytes),
            Step::Interrupt { print } => {
                self.interrupt(print);
            }
        }
    }

    fn enable(&mut self, interrupts: u8) {
        self.enabled = interrupts;
        self.write(1, interrupts);
    }

    fn print(&mut self, bytes: usize) {
        let enabled = self.read(1);
        self.write(1, 0);
        for _ in 0..bytes {
            self.write(0, b'k');
            assert_eq!(self.read(5) & 0x60, 0x60, "the transmitter is busy");
        }
        self.said += bytes;
        self.write(1, enabled);
    }

    /// The handler, if there is an interrupt; whether there was one.
    fn interrupt(&mut self, print: usize) -> bool {
        let pulses = self.rig.line.levels().len() / 2;
        if pulses == self.pulses {
            return false;
        }
        self.pulses = pulses;
        for pass in 0..PASSES {
            if self.read(2) & 1 != 0 {
                break;
            }
            if pass == 0 && print > 0 {
                self.print(print);
            }
            self.receive();
            if self.enabled & EMPTY != 0 {
                self.transmit();
            }
        }
        true
    }

    fn receive(&mut self) {
        while self.read(5) & 1 != 0 {
            self.read(0);
            self.received += 1;
        }
    }

    fn transmit(&mut self) {
        let bytes = self.waiting.min(FIFO);
        for _ in 0..bytes {
            self.write(0, b'p');
        }
        self.waiting -= bytes;
        if self.waiting == 0 {
            self.enable(self.enabled & !EMPTY);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn interrupts_that_are_answered_leave_nothing_behind(
        steps in vec(step(), 1..40),
        arrivals in vec(prop_oneof![5 => Just(0), 1 => 1..80_usize], 0..400),
    ) {
        let mut driver = Driver::new(arrivals);
        for step in &steps {
            driver.take(step);
        }
        while driver.interrupt(0) {}
        prop_assert_eq!(driver.waiting, 0);
        prop_assert_eq!(driver.received, driver.sent);
        prop_assert_eq!(driver.rig.watch.0.lock().unwrap().len(), driver.said);
    }
}
