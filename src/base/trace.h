/* SPDX-License-Identifier: MIT */
/* trace.h: trace points, switched on at run time by module.
 *
 * Use:       TRACE(job, "%s: %s -> %s", job->id, from, to);   anywhere, nothing to declare
 *            trace_enable("file*,job");
 * Module:    a C identifier; those there are, with what they tell, are listed in trace.c.
 * Output:    "SECONDS.MICROSECONDS MODULE: TEXT", a line each, on standard error or where
 *            trace_set_output() says; without the time until a clock is set.
 * Cost:      while nothing is enabled, a load and a branch; the arguments are not evaluated.
 * Runs on:   any thread, coroutine or not; never suspends, never fails.
 */
#ifndef LIVEBLK_BASE_TRACE_H
#define LIVEBLK_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include "block/liveblk-export.h"

/* The names of all modules, NULL at the end. */
const char *const *trace_modules(void);

/* What a trace point remembers: for which configuration it asked, and the answer. */
typedef struct TraceSite {
    const char *module;
    unsigned state;             /* atomic: configuration << 1 | on */
} TraceSite;

/* Atomic: number of the configuration, 0 while nothing is enabled. */
extern unsigned trace_configuration;

#define TRACE(module_, ...)                                                     \
    do {                                                                        \
        static TraceSite trace_site_ = { .module = #module_ };                  \
        unsigned trace_now_ = __atomic_load_n(&trace_configuration, __ATOMIC_RELAXED); \
                                                                                \
        if (__builtin_expect(trace_now_ != 0, 0) &&                             \
            trace_site_is_on(&trace_site_, trace_now_)) {                       \
            trace_print(#module_, __VA_ARGS__);                                 \
        }                                                                       \
    } while (0)

/* Enable exactly the modules that @patterns names, from now on and in all threads: a list
 * separated by commas, `*` for any letters and `?` for one; a leading `-` takes away
 * ("*,-aio"); the last match decides. NULL or "": none. */
void trace_enable(const char *patterns);
/* Whether @module is enabled: for preparing what is costly to say. */
bool trace_is_enabled(const char *module);

/* The clock that stamps the lines, ns; NULL: no time. The simulator sets its own. */
void trace_set_clock(int64_t (*clock_ns)(void));
/* Have lines (without newline) go to @func; NULL: standard error. It is called under a lock:
 * it must not trace. */
typedef void TraceOutputFunc(const char *line, void *opaque);
void trace_set_output(TraceOutputFunc *func, void *opaque);

/* What TRACE() calls. */
bool trace_site_is_on(TraceSite *site, unsigned configuration);
void trace_print(const char *module, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);

#endif
