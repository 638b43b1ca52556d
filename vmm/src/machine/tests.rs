// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Machines on this host's own KVM, with guests of a few hand-assembled instructions.

use super::*;
use crate::cli::{Cli, Command};
use crate::config::SerialConfig;
use crate::control::{Ending, Request};
use clap::Parser;
use devices::bus::BusDevice;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Ends the run with the value written.
#[derive(Debug)]
struct ExitPort(Arc<Control>);

impl BusDevice for ExitPort {
    fn read(&self, _: u64, _: &mut [u8]) {}

    fn write(&self, _: u64, data: &[u8]) {
        let mut value = [0; 4];
        value[..data.len()].copy_from_slice(data);
        self.0
            .request(Request::End(Ending::DebugExit(u32::from_le_bytes(value))));
    }
}

/// Resets the machine at any write.
#[derive(Debug)]
struct ResetPort(Arc<Control>);

impl BusDevice for ResetPort {
    fn read(&self, _: u64, _: &mut [u8]) {}

    fn write(&self, _: u64, _: &[u8]) {
        self.0.request(Request::Reset);
    }
}

/// Notes what is written and answers reads with the bytes 0x11, 0x22, …
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

impl BusDevice for Recorder {
    fn read(&self, _: u64, data: &mut [u8]) {
        for (byte, value) in data.iter_mut().zip(1u8..) {
            *byte = value * 0x11;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.lock().unwrap().push((offset, data.to_vec()));
    }
}

const PORT: u64 = 0x700;
const MMIO: u64 = 0xfed9_0000;

/// A multiboot image of `code`, loaded and entered at 4 MiB.
fn kernel(code: &[u8]) -> tempfile::NamedTempFile {
    let mut file = vec![0; 96];
    file[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    let mut put = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
    put(18, &3u16.to_le_bytes());
    put(24, &0x40_0000u32.to_le_bytes());
    put(28, &52u32.to_le_bytes());
    put(42, &32u16.to_le_bytes());
    put(44, &1u16.to_le_bytes());
    let size = u32::try_from(code.len()).unwrap();
    let words = [1, 96, 0x40_0000, 0x40_0000, size, size, 7, 4];
    for (index, word) in words.iter().enumerate() {
        put(52 + index * 4, &word.to_le_bytes());
    }
    put(
        84,
        &[0x02, 0xb0, 0xad, 0x1b, 0, 0, 0, 0, 0xfe, 0x4f, 0x52, 0xe4],
    );
    file.extend(code);
    let mut image = tempfile::NamedTempFile::new().unwrap();
    image.write_all(&file).unwrap();
    image
}

fn config(kernel: &Path, cpus: &str) -> Arc<Config> {
    let kernel = kernel.to_str().unwrap();
    let words = [
        "remora", "run", "--kernel", kernel, "--cpus", cpus, "--memory", "16M",
    ];
    let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else {
        panic!("not a run")
    };
    Arc::new(args.config().unwrap())
}

/// Runs `code` to the end of its run, through resets.
fn run(code: &[u8], cpus: &str, recorder: &Arc<Recorder>) -> Ending {
    let image = kernel(code);
    let control = Arc::new(Control::new().unwrap());
    let console = Console::new(&SerialConfig::Null, &[], &[], Arc::clone(&control)).unwrap();
    let mut machine = Machine::new(
        config(image.path(), cpus),
        Arc::clone(&control),
        console,
        Events::new().unwrap(),
        |board| {
            let ports: [(u64, Arc<dyn BusDevice>); 3] = [
                (0xf4, Arc::new(ExitPort(Arc::clone(&board.control)))),
                (0x64, Arc::new(ResetPort(Arc::clone(&board.control)))),
                (PORT, recorder.clone()),
            ];
            for (port, device) in ports {
                board.ports.insert(port, 4, device).unwrap();
            }
            board.mmio.insert(MMIO, 0x1000, recorder.clone()).unwrap();
            Ok(())
        },
    )
    .unwrap();
    machine.start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let ending = loop {
        match control.take() {
            Some(Request::End(ending)) => break ending,
            Some(Request::Reset) => {
                machine.reset().unwrap();
                machine.run().unwrap();
            }
            Some(Request::PowerOff) => break Ending::PowerOff,
            None => {
                assert!(Instant::now() < deadline, "the guest says nothing");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    machine.stop().unwrap();
    ending
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn debug_exit_of_a_multiboot_guest_is_its_status() {
    let code = [
        0xb8, 0x21, 0, 0, 0, // mov eax, 0x21
        0xe7, 0xf4, // out 0xf4, eax
        0xf4, // hlt
    ];
    let ending = run(&code, "1", &Arc::default());
    assert_eq!(ending.status(), 0x43, "{ending}");
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn port_accesses_of_each_width_and_of_strings_reach_the_device_one_by_one() {
    let recorder = Arc::<Recorder>::default();
    let code = [
        0xba, 0x00, 0x07, 0, 0, // mov edx, 0x700
        0xb8, 0x44, 0x33, 0x22, 0x11, // mov eax, 0x11223344
        0xee, // out dx, al
        0x66, 0xef, // out dx, ax
        0xef, // out dx, eax
        0xbe, 0x00, 0x00, 0x40, 0, // mov esi, 0x400000
        0xb9, 3, 0, 0, 0, // mov ecx, 3
        0xf3, 0x66, 0x6f, // rep outsw
        0xed, // in eax, dx
        0xe7, 0xf4, // out 0xf4, eax
        0xf4,
    ];
    let ending = run(&code, "1", &recorder);
    assert!(matches!(ending, Ending::DebugExit(0x4433_2211)), "{ending}");
    let seen = recorder.0.lock().unwrap();
    let data: Vec<&[u8]> = seen.iter().map(|(_, data)| &data[..]).collect();
    assert_eq!(
        data,
        [
            &[0x44][..],
            &[0x44, 0x33],
            &[0x44, 0x33, 0x22, 0x11],
            &[0xba, 0x00],
            &[0x07, 0x00],
            &[0x00, 0xb8],
        ]
    );
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn mmio_accesses_reach_the_device_with_offset_and_width() {
    let recorder = Arc::<Recorder>::default();
    let code = [
        0xc6, 0x05, 0x08, 0x00, 0xd9, 0xfe, 0x5a, // mov byte [0xfed90008], 0x5a
        0xc7, 0x05, 0x10, 0x00, 0xd9, 0xfe, 1, 2, 3, 4, // mov dword [0xfed90010], 0x04030201
        0xa1, 0x20, 0x00, 0xd9, 0xfe, // mov eax, [0xfed90020]
        0xe7, 0xf4, // out 0xf4, eax
        0xf4,
    ];
    let ending = run(&code, "1", &recorder);
    assert!(matches!(ending, Ending::DebugExit(0x4433_2211)), "{ending}");
    assert_eq!(
        *recorder.0.lock().unwrap(),
        [(8, vec![0x5a]), (0x10, vec![1, 2, 3, 4])]
    );
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn reset_starts_the_guest_again_with_its_ram_kept() {
    let code = [
        0xff, 0x05, 0x00, 0x00, 0x60, 0x00, // inc dword [0x600000]
        0xa1, 0x00, 0x00, 0x60, 0x00, // mov eax, [0x600000]
        0x83, 0xf8, 0x03, // cmp eax, 3
        0x74, 0x05, // je +5
        0xb0, 0xfe, // mov al, 0xfe
        0xe6, 0x64, // out 0x64, al
        0xf4, // hlt
        0xe7, 0xf4, // out 0xf4, eax
        0xf4,
    ];
    let ending = run(&code, "2", &Arc::default());
    assert!(matches!(ending, Ending::DebugExit(3)), "{ending}");
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn reset_takes_back_what_the_guest_wrote_into_an_msr() {
    // STAR and, of the memory types, the first variable range and a fixed one.
    for msr in [0xc000_0081u32, 0x200, 0x268] {
        let mut code = vec![0xb9]; // mov ecx, msr
        code.extend(msr.to_le_bytes());
        code.extend([
            0x0f, 0x32, // rdmsr
            0x89, 0xc3, // mov ebx, eax
            0xb8, 0x06, 0, 0, 0, // mov eax, 6
            0x0f, 0x30, // wrmsr
            0xff, 0x05, 0x00, 0x00, 0x60, 0x00, // inc dword [0x600000]
            0x83, 0x3d, 0x00, 0x00, 0x60, 0x00, 0x02, // cmp dword [0x600000], 2
            0x74, 0x03, // je +3
            0xe6, 0x64, // out 0x64, al
            0xf4, // hlt
            0x89, 0xd8, // mov eax, ebx
            0xe7, 0xf4, // out 0xf4, eax
            0xf4,
        ]);
        let ending = run(&code, "1", &Arc::default());
        assert!(matches!(ending, Ending::DebugExit(0)), "{msr:#x}: {ending}");
    }
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn second_processor_waits_for_its_start_and_runs() {
    let code = [
        // The second processor's code at 0x1000: mov al, 5; out 0xf4, al; hlt.
        0xc7, 0x05, 0x00, 0x10, 0, 0, 0xb0, 0x05, 0xe6, 0xf4, // mov dword [0x1000], …
        0xc6, 0x05, 0x04, 0x10, 0, 0, 0xf4, // mov byte [0x1004], 0xf4
        0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 1, 0, 0, // APIC on
        0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0, // INIT to all but self
        0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x01, 0x46, 0x0c, 0,    // start-up at page 1
        0xf4, // hlt
        0xeb, 0xfd, // jmp to it
    ];
    let ending = run(&code, "2", &Arc::default());
    assert!(matches!(ending, Ending::DebugExit(5)), "{ending}");
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn undefined_instruction_without_handlers_ends_the_run_with_a_message() {
    let ending = run(&[0x0f, 0x0b], "1", &Arc::default());
    // A triple fault; a KVM that interprets code may give up on it instead, and says so.
    assert!(matches!(ending.status(), 1 | 3), "{ending}");
    assert!(!ending.to_string().is_empty());
}

#[test]
#[cfg_attr(not(has_kvm), ignore = "no usable /dev/kvm on this machine")]
fn too_many_processors_are_refused_with_the_limit() {
    let image = kernel(&[0xf4]);
    let control = Arc::new(Control::new().unwrap());
    let console = Console::new(&SerialConfig::Null, &[], &[], Arc::clone(&control)).unwrap();
    let error = Machine::new(
        config(image.path(), "10000"),
        control,
        console,
        Events::new().unwrap(),
        |_| Ok(()),
    )
    .unwrap_err();
    assert_eq!(error.status(), 3);
    assert!(
        error
            .to_string()
            .contains("10000 processors are more than the"),
        "{error}"
    );
}
