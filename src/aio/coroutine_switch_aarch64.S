/* SPDX-License-Identifier: MIT */
/* Stack switch for aarch64, AAPCS64.
 *
 * Kept over a switch: x19-x30, the low halves of v8-v15 (d8-d15), sp.
 */
    .text

    .globl  co_switch_asm
    .hidden co_switch_asm
    .type   co_switch_asm, %function
    .balign 16
co_switch_asm:                      /* x0: where to save sp, x1: sp to load */
    .cfi_startproc
    sub     sp, sp, #160
    stp     x19, x20, [sp, #0]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    stp     d8,  d9,  [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mov     x9, sp
    str     x9, [x0]
    mov     sp, x1
    ldp     x19, x20, [sp, #0]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    ldp     d8,  d9,  [sp, #96]
    ldp     d10, d11, [sp, #112]
    ldp     d12, d13, [sp, #128]
    ldp     d14, d15, [sp, #144]
    add     sp, sp, #160
    br      x30
    .cfi_endproc
    .size   co_switch_asm, . - co_switch_asm

    /* First switch to a stack made by co_switch_init(): x19 = arg, x20 = fn. */
    .globl  co_switch_first
    .hidden co_switch_first
    .type   co_switch_first, %function
    .balign 16
co_switch_first:
    .cfi_startproc
    .cfi_undefined x30              /* outermost frame: backtraces end here */
    mov     x29, xzr
    mov     x0, x19
    blr     x20
    brk     #1
    .cfi_endproc
    .size   co_switch_first, . - co_switch_first

    .section .note.GNU-stack, "", %progbits
