// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Images made by hand from the tables of their formats.

use super::*;
use std::io::Write;
use vm_memory::{Bytes, GuestAddress};

fn ram(mib: usize) -> Ram {
    Ram::from_ranges(&[(GuestAddress(0), mib << 20)]).unwrap()
}

fn image(bytes: &[u8]) -> (tempfile::NamedTempFile, Image) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let image = Image::open(file.path(), "kernel").unwrap();
    (file, image)
}

fn images(kind: Kind, kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str) -> Images {
    Images {
        kind,
        kernel: image(kernel).1,
        initrd: initrd.map(|bytes| image(bytes).1),
        cmdline: cmdline.into(),
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A bzImage of one setup sector and 64 bytes of kernel that prefers 16 MiB and wants 32 MiB to run.
fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 1024 + 64];
    file[1024..].fill(0xc3);
    file[0x1f1] = 1;
    put(&mut file, 0x1f4, &4u32.to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x20fu16.to_le_bytes());
    file[0x211] = 1;
    put(&mut file, 0x214, &0x10_0000u32.to_le_bytes());
    put(&mut file, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut file, 0x236, &1u16.to_le_bytes());
    put(&mut file, 0x238, &2047u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000u64.to_le_bytes());
    put(&mut file, 0x260, &0x200_0000u32.to_le_bytes());
    file
}

/// An ELF32 of one segment: header, program header at 52, four bytes of code at 84, loaded at 4 MiB with 16 bytes of memory.
fn elf32() -> Vec<u8> {
    let mut file = vec![0; 88];
    put(&mut file, 0, b"\x7fELF\x01\x01\x01");
    put(&mut file, 18, &3u16.to_le_bytes());
    put(&mut file, 24, &0x40_0000u32.to_le_bytes());
    put(&mut file, 28, &52u32.to_le_bytes());
    put(&mut file, 42, &32u16.to_le_bytes());
    put(&mut file, 44, &1u16.to_le_bytes());
    let program = [1u32, 84, 0x40_0000, 0x40_0000, 4, 16, 7, 4];
    for (index, word) in program.iter().enumerate() {
        put(&mut file, 52 + index * 4, &word.to_le_bytes());
    }
    put(&mut file, 84, &[0x90, 0x90, 0x90, 0xf4]);
    file
}

fn text(ram: &Ram, at: u64) -> String {
    let mut bytes = vec![0; 256];
    ram.read_slice(&mut bytes, GuestAddress(at)).unwrap();
    let end = bytes.iter().position(|&b| b == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

fn word(ram: &Ram, at: u64) -> u32 {
    ram.read_obj(GuestAddress(at)).unwrap()
}

#[test]
fn bzimage_boots_at_its_preferred_address_in_64_bit_mode() {
    let ram = ram(64);
    let mut images = images(Kind::BzImage, &bzimage(), Some(&[7; 5000]), "quiet");
    let entry = images.load(&ram, Some(GuestAddress(0xe_0000))).unwrap();
    assert_eq!((entry.rip, entry.rsi), (0x100_0200, 0x7000));
    assert_eq!(ram.read_obj::<u8>(GuestAddress(0x100_0000)).unwrap(), 0xc3);
    assert_eq!(text(&ram, 0x2_0000), "console=ttyS0 quiet");
    // Zero page: RSDP at 0x70, e820 entries at 0x1e8, loader type at 0x210, initrd at 0x218 and 0x21c, command line at 0x228.
    assert_eq!(word(&ram, 0x7070), 0xe_0000);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(0x71e8)).unwrap(), 6);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(0x7210)).unwrap(), 0xff);
    assert_eq!(word(&ram, 0x7218), 0x3ff_e000);
    assert_eq!(word(&ram, 0x721c), 5000);
    assert_eq!(word(&ram, 0x7228), 0x2_0000);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(0x3ff_e000)).unwrap(), 7);
}

#[test]
fn bzimage_page_tables_map_4_gib_one_to_one() {
    let ram = ram(64);
    let entry = images(Kind::BzImage, &bzimage(), None, "")
        .load(&ram, None)
        .unwrap();
    assert_eq!(
        entry.mode,
        Mode::Long64 {
            pml4: GuestAddress(0x9000)
        }
    );
    assert_eq!(ram.read_obj::<u64>(GuestAddress(0x9000)).unwrap(), 0xa003);
    assert_eq!(ram.read_obj::<u64>(GuestAddress(0xa018)).unwrap(), 0xe003);
    assert_eq!(
        ram.read_obj::<u64>(GuestAddress(0xeff8)).unwrap(),
        0xffe0_0083
    );
}

#[test]
fn bzimage_cut_short_is_an_error_that_names_the_sizes() {
    let mut file = bzimage();
    file.truncate(1024 + 40);
    let error = images(Kind::BzImage, &file, None, "")
        .load(&ram(64), None)
        .unwrap_err();
    assert_eq!(error.status(), 2);
    assert!(
        error.to_string().contains("truncated: 1064 bytes of 1088"),
        "{error}"
    );
    file.truncate(0x220);
    assert!(
        images(Kind::BzImage, &file, None, "")
            .load(&ram(64), None)
            .is_err()
    );
}

#[test]
fn bzimage_without_room_or_64_bit_entry_is_an_error() {
    let load = |file: &[u8], initrd, mib| {
        images(Kind::BzImage, file, initrd, "")
            .load(&ram(mib), None)
            .unwrap_err()
            .to_string()
    };
    assert!(load(&bzimage(), None, 8).contains("--memory"));
    assert!(load(&bzimage(), None, 40).contains("--memory"));
    assert!(load(&bzimage(), Some(&[0; 0x10_1000][..]), 49).contains("--memory"));
    let mut old = bzimage();
    put(&mut old, 0x206, &0x20bu16.to_le_bytes());
    assert!(load(&old, None, 64).contains("boot protocol 2.11"));
    let mut narrow = bzimage();
    put(&mut narrow, 0x236, &0u16.to_le_bytes());
    assert!(load(&narrow, None, 64).contains("32-bit"));
    let mut astray = bzimage();
    put(&mut astray, 0x258, &u64::MAX.to_le_bytes());
    assert!(load(&astray, None, 64).contains("prefers to run"));
}

#[test]
fn cmdline_longer_than_the_kernel_takes_is_an_error() {
    let long = "x".repeat(2048);
    let error = images(Kind::BzImage, &bzimage(), None, &long)
        .load(&ram(64), None)
        .unwrap_err();
    assert!(error.to_string().contains("--cmdline"), "{error}");
}

#[test]
fn cmdline_with_a_console_is_left_alone() {
    let images = images(Kind::BzImage, &bzimage(), None, "a console=hvc0");
    assert_eq!(images.linux_cmdline(), "a console=hvc0");
}

#[test]
fn multiboot_loads_segment_module_map_and_information() {
    let ram = ram(16);
    ram.write_obj(u64::MAX, GuestAddress(0x40_0004)).unwrap();
    let mut images = images(Kind::Multiboot, &elf32(), Some(b"NR_CPUS=2\n"), "one two");
    let name = images.kernel.path.display().to_string();
    let entry = images.load(&ram, None).unwrap();
    assert_eq!(entry.mode, Mode::Protected32);
    assert_eq!(
        (entry.rip, entry.rax, entry.rbx),
        (0x40_0000, 0x2bad_b002, 0x7000)
    );
    assert_eq!(word(&ram, 0x40_0000), 0xf490_9090);
    assert_eq!(word(&ram, 0x40_0004), 0, "the tail of the segment");
    // Information: flags, mem_upper (KiB), command line, modules, memory map.
    assert_eq!(word(&ram, 0x7000), 0x4d);
    assert_eq!(word(&ram, 0x7008), 15 * 1024);
    assert_eq!(
        text(&ram, word(&ram, 0x7010).into()),
        format!("{name} one two")
    );
    assert_eq!(word(&ram, 0x7014), 1);
    let module = u64::from(word(&ram, 0x7018));
    assert_eq!(
        (word(&ram, module), word(&ram, module + 4)),
        (0x40_1000, 0x40_100a)
    );
    assert_eq!(text(&ram, 0x40_1000), "NR_CPUS=2\n");
    let map = u64::from(word(&ram, 0x7030));
    assert_eq!(word(&ram, 0x702c), 6 * 24);
    assert_eq!(
        (word(&ram, map), word(&ram, map + 12), word(&ram, map + 20)),
        (20, 0x9_fc00, 1)
    );
}

#[test]
fn multiboot_hostile_headers_are_errors() {
    let load = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = elf32();
        change(&mut file);
        images(Kind::Multiboot, &file, None, "")
            .load(&ram(16), None)
            .unwrap_err()
            .status()
    };
    assert_eq!(load(&|f| f.truncate(86)), 2, "truncated segment");
    assert_eq!(load(&|f| f.truncate(60)), 2, "truncated program header");
    assert_eq!(
        load(&|f| put(f, 28, &u32::MAX.to_le_bytes())),
        2,
        "table beyond the file"
    );
    assert_eq!(
        load(&|f| put(f, 56, &u32::MAX.to_le_bytes())),
        2,
        "offset that wraps"
    );
    assert_eq!(
        load(&|f| put(f, 64, &0xffff_fff0u32.to_le_bytes())),
        2,
        "address beyond RAM"
    );
    assert_eq!(
        load(&|f| put(f, 64, &0x500u32.to_le_bytes())),
        2,
        "address below 1 MiB"
    );
    assert_eq!(
        load(&|f| put(f, 72, &2u32.to_le_bytes())),
        2,
        "memory smaller than file"
    );
    assert_eq!(
        load(&|f| put(f, 44, &0u16.to_le_bytes())),
        2,
        "no program headers"
    );
    assert_eq!(
        load(&|f| put(f, 18, &62u16.to_le_bytes())),
        2,
        "another machine"
    );
}

/// An ELF64 of one load segment at 2 MiB and one note segment with the given note type.
fn elf64(note: u32) -> Vec<u8> {
    let mut file = vec![0; 216];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 18, &62u16.to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 54, &56u16.to_le_bytes());
    put(&mut file, 56, &2u16.to_le_bytes());
    let load = [(1u64 | 7 << 32), 176, 0, 0x20_0000, 8, 0x40, 0];
    let notes = [4u64, 184, 0, 0, 20, 20, 4];
    for (at, program) in [(64, load), (120, notes)] {
        for (index, word) in program.iter().enumerate() {
            put(&mut file, at + index * 8, &word.to_le_bytes());
        }
    }
    put(&mut file, 176, &[0xf4; 8]);
    for (index, word) in [4, 4, note].iter().enumerate() {
        put(&mut file, 184 + index * 4, &word.to_le_bytes());
    }
    put(&mut file, 196, b"Xen\0");
    put(&mut file, 200, &0x20_0004u32.to_le_bytes());
    file
}

#[test]
fn pvh_starts_at_the_note_with_start_info() {
    let ram = ram(16);
    let mut images = images(Kind::Pvh, &elf64(18), Some(&[9; 100]), "");
    let entry = images.load(&ram, Some(GuestAddress(0xf_0000))).unwrap();
    assert_eq!(
        (entry.mode, entry.rip, entry.rbx),
        (Mode::Protected32, 0x20_0004, 0x7000)
    );
    // hvm_start_info: magic, version, modules, then 64-bit addresses of modules, command line, RSDP and map.
    assert_eq!((word(&ram, 0x7000), word(&ram, 0x7004)), (0x336e_c578, 1));
    assert_eq!(word(&ram, 0x700c), 1);
    let modules = u64::from(word(&ram, 0x7010));
    assert_eq!(
        (word(&ram, modules), word(&ram, modules + 8)),
        (0xff_f000, 100)
    );
    assert_eq!(text(&ram, word(&ram, 0x7018).into()), "console=ttyS0");
    assert_eq!(word(&ram, 0x7020), 0xf_0000);
    let map = u64::from(word(&ram, 0x7028));
    assert_eq!((word(&ram, map + 8), word(&ram, map + 16)), (0x9_fc00, 1));
    assert_eq!(word(&ram, 0x7030), 6);
}

#[test]
fn pvh_without_a_note_says_so() {
    let error = images(Kind::Pvh, &elf64(1), None, "")
        .load(&ram(16), None)
        .unwrap_err();
    assert!(error.to_string().contains("without a PVH note"), "{error}");
    assert_eq!(error.status(), 2);
}

#[test]
fn pvh_segment_over_the_firmware_tables_is_an_error() {
    let mut file = elf64(18);
    put(&mut file, 64 + 24, &0xe_0000u64.to_le_bytes());
    let error = images(Kind::Pvh, &file, None, "").load(&ram(16), None);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("0xe0000, below 1 MiB"), "{text}");
}

#[test]
fn pvh_cut_short_or_too_large_is_an_error() {
    for cut in [40, 100, 180, 190] {
        let mut file = elf64(18);
        file.truncate(cut);
        let error = images(Kind::Pvh, &file, None, "")
            .load(&ram(16), None)
            .unwrap_err();
        assert_eq!(error.status(), 2, "{cut}: {error}");
    }
    assert!(
        images(Kind::Pvh, &elf64(18), None, "")
            .load(&ram(1), None)
            .is_err()
    );
}
