/* SPDX-License-Identifier: MIT */
/* coroutine_switch.h: the bare machine part of a coroutine: change stacks.
 *
 * Two implementations, chosen at configure time: assembly for x86-64 and aarch64
 * (a few nanoseconds: only the registers that a call preserves are kept, no
 * signal mask), and ucontext for everything else (two system calls a switch).
 * What sanitizers must be told is coroutine.c's business, the same for both.
 */
#ifndef LIVEBLK_AIO_COROUTINE_SWITCH_H
#define LIVEBLK_AIO_COROUTINE_SWITCH_H

#include "base/osdep.h"

#ifdef CONFIG_COROUTINE_ASM

typedef struct CoSwitch {
    void *sp;               /* of a suspended one: its saved registers lie there */
} CoSwitch;

/* Save the caller's registers and stack pointer to *@save_sp, go on at @load_sp. */
void co_switch_asm(void **save_sp, void *load_sp);

static inline void co_switch_to(CoSwitch *from, CoSwitch *to)
{
    co_switch_asm(&from->sp, to->sp);
}

#else

#include <ucontext.h>

typedef struct CoSwitch {
    ucontext_t uc;
} CoSwitch;

static inline void co_switch_to(CoSwitch *from, CoSwitch *to)
{
    swapcontext(&from->uc, &to->uc);
}

#endif

/* Prepare @sw so that the first switch to it calls @fn(@arg), which must never
 * return, on the stack [@stack, @stack + @size). */
void co_switch_init(CoSwitch *sw, void *stack, size_t size, void (*fn)(void *arg), void *arg);

#endif
