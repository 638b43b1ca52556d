# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# Entry points of the payload, in AT&T syntax: multiboot (version 1) entry, start of the other CPUs, interrupt stubs.
#
# Multiboot enters at _start in 32-bit protected mode without paging, EBX = address of the information structure.
# The low 4 GiB are mapped one to one with 2 MiB pages, the last GiB (device registers) uncached.

.set CR0_PG_WP_MP_PE, 0x80010003
.set CR4_PAE_FXSR,    0x00000620
.set MSR_EFER,        0xC0000080
.set EFER_LME,        0x00000100
.set AP_BASE,         0x8000

.section .multiboot, "a"
.balign 4
    .long 0x1BADB002
    .long 0
    .long -0x1BADB002

.section .text.boot, "ax"
.code32
.globl _start
_start:
    cli
    cld
    movl $boot_stack_top, %esp
    movl %ebx, multiboot_info

    # 2048 leaves of 2 MiB; the last 512 get PCD and PWT.
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax
    cmpl $1536, %ecx
    jb 2f
    orl $0x18, %eax
2:  movl %eax, page_directories(, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jb 1b

    movl $page_directories + 3, %eax
    xorl %ecx, %ecx
3:  movl %eax, page_pointers(, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jb 3b
    movl $page_pointers + 3, page_root

    lgdt gdt_pointer
    call enter_long_mode
    ljmp $0x08, $start64

# Turns on paging and 64-bit mode; the caller then jumps to a 64-bit code segment. Changes eax, ecx, edx.
enter_long_mode:
    movl $page_root, %eax
    movl %eax, %cr3
    movl $CR4_PAE_FXSR, %eax
    movl %eax, %cr4
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl $CR0_PG_WP_MP_PE, %eax
    movl %eax, %cr0
    ret

# The other CPUs arrive here from the trampoline, all at once and without a stack.
ap32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $page_root, %eax
    movl %eax, %cr3
    movl $CR4_PAE_FXSR, %eax
    movl %eax, %cr4
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl $CR0_PG_WP_MP_PE, %eax
    movl %eax, %cr0
    ljmp $0x08, $ap64

.code64
start64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $boot_stack_top, %esp
    movl multiboot_info, %edi
    call payload_main
1:  cli
    hlt
    jmp 1b

ap64:
    movl $1, %eax
    lock xaddl %eax, ap_stacks_taken
    incl %eax
    shll $12, %eax
    addl ap_stacks, %eax
    movl %eax, %esp
    call ap_main
1:  cli
    hlt
    jmp 1b

# Real-mode code for the other CPUs: copied to AP_BASE, which the start-up IPI names.
.section .rodata.trampoline, "a"
.code16
.globl trampoline
.globl trampoline_end
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl AP_BASE + trampoline_gdt - trampoline
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x18, $ap32
.balign 4
trampoline_gdt:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

# One 16-byte stub a vector: the CPU pushes an error code for some exceptions, the stub pushes 0 for the others.
.section .text.stubs, "ax"
.code64
.balign 16
.globl interrupt_stubs
interrupt_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17 || vector == 21
    .else
    pushq $0
    .endif
    pushq $vector
    jmp interrupt_common
    .set vector, vector + 1
.endr

interrupt_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    movq 72(%rsp), %rdi     # vector
    movq 80(%rsp), %rsi     # error code
    movq 88(%rsp), %rdx     # rip
    cld
    call interrupt_entry
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

.section .data.gdt, "aw"
.balign 16
.globl gdt
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF    # 0x08 64-bit code
    .quad 0x00CF93000000FFFF    # 0x10 data
    .quad 0x00CF9B000000FFFF    # 0x18 32-bit code
    .quad 0, 0                  # 0x20 task state of the first CPU
    .quad 0, 0                  # 0x30 task state of the CPU that takes an interrupt besides the first
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

.section .bss.boot, "aw", @nobits
.balign 4096
page_root:        .skip 4096
page_pointers:    .skip 4096
page_directories: .skip 4 * 4096
boot_stack:       .skip 64 * 1024
boot_stack_top:
multiboot_info:   .skip 4
.globl ap_stacks_taken
ap_stacks_taken:  .skip 4
.globl ap_stacks
ap_stacks:        .skip 4
