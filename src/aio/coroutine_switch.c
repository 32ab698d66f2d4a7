/* SPDX-License-Identifier: MIT */
/* coroutine_switch.c: lay out a fresh stack so that the first switch to it calls
 * a function; see coroutine_switch.h.
 */
#include "aio/coroutine_switch.h"

#ifdef CONFIG_COROUTINE_ASM

void co_switch_first(void);     /* assembly */

void co_switch_init(CoSwitch *sw, void *stack, size_t size, void (*fn)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)15;

#if defined(__x86_64__)
    /* What co_switch_asm pops, lowest first: r15 r14 r13 r12 rbx rbp, address.
     * After it, rsp == top, aligned as a call wants it. */
    uint64_t *frame = (uint64_t *)top - 7;
    memset(frame, 0, 7 * sizeof(*frame));
    frame[2] = (uintptr_t)fn;
    frame[3] = (uintptr_t)arg;
    frame[6] = (uintptr_t)co_switch_first;
#elif defined(__aarch64__)
    uint64_t *frame = (uint64_t *)top - 20;
    memset(frame, 0, 20 * sizeof(*frame));
    frame[0] = (uintptr_t)arg;              /* x19 */
    frame[1] = (uintptr_t)fn;               /* x20 */
    frame[11] = (uintptr_t)co_switch_first; /* x30 */
#else
#error "no assembly switch for this processor"
#endif
    sw->sp = frame;
}

#else

/* makecontext() passes ints: hand the two pointers over in halves. */
static void co_switch_trampoline(unsigned fn_hi, unsigned fn_lo, unsigned arg_hi, unsigned arg_lo)
{
    void (*fn)(void *) = (void (*)(void *))(uintptr_t)((uint64_t)fn_hi << 32 | fn_lo);
    void *arg = (void *)(uintptr_t)((uint64_t)arg_hi << 32 | arg_lo);

    fn(arg);
    abort();
}

void co_switch_init(CoSwitch *sw, void *stack, size_t size, void (*fn)(void *arg), void *arg)
{
    uint64_t f = (uintptr_t)fn, a = (uintptr_t)arg;

    if (getcontext(&sw->uc) != 0) {
        abort();
    }
    sw->uc.uc_stack.ss_sp = stack;
    sw->uc.uc_stack.ss_size = size;
    sw->uc.uc_link = NULL;
    makecontext(&sw->uc, (void (*)(void))co_switch_trampoline, 4,
                (unsigned)(f >> 32), (unsigned)f, (unsigned)(a >> 32), (unsigned)a);
}

#endif
