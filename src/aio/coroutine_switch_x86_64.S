/* SPDX-License-Identifier: MIT */
/* Stack switch for x86-64, System V ABI.
 *
 * Kept over a switch: rbx, rbp, r12-r15, rsp. The control bits of MXCSR and the
 * x87 control word are callee-saved too in the ABI; nothing here changes them.
 * The return address is popped and jumped to instead of `ret`: the return
 * predictor has paired it with another call and would always be wrong.
 * No property note is emitted on purpose: it keeps the linker from promising
 * shadow stacks, which this switch does not maintain.
 */
    .text

    .globl  co_switch_asm
    .hidden co_switch_asm
    .type   co_switch_asm, @function
    .balign 16
co_switch_asm:                      /* rdi: where to save rsp, rsi: rsp to load */
    .cfi_startproc
    pushq   %rbp
    pushq   %rbx
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movq    %rsp, (%rdi)
    movq    %rsi, %rsp
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbx
    popq    %rbp
    popq    %rcx
    jmp     *%rcx
    .cfi_endproc
    .size   co_switch_asm, . - co_switch_asm

    /* First switch to a stack made by co_switch_init(): r12 = arg, r13 = fn. */
    .globl  co_switch_first
    .hidden co_switch_first
    .type   co_switch_first, @function
    .balign 16
co_switch_first:
    .cfi_startproc
    .cfi_undefined rip              /* outermost frame: backtraces end here */
    xorl    %ebp, %ebp
    movq    %r12, %rdi
    call    *%r13
    ud2
    .cfi_endproc
    .size   co_switch_first, . - co_switch_first

    .section .note.GNU-stack, "", @progbits
