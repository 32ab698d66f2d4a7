/* SPDX-License-Identifier: MIT */
/* trace.c: see trace.h. Patterns are matched once for each trace point and
 * configuration; the answer is kept in the point, stamped with the configuration's
 * number, so that a change needs no list of all points. */
#include "base/osdep.h"
#include "base/trace.h"

#include <fnmatch.h>
#include <pthread.h>

unsigned trace_configuration;

/* All below under trace_lock. */
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static char **trace_patterns;
static unsigned configurations;         /* how many there have been */
static int64_t (*trace_clock_ns)(void);
static TraceOutputFunc *trace_output;
static void *trace_output_opaque;

const char *const *trace_modules(void)
{
    static const char *const modules[] = {
        "drain",        /* nodes that are quiesced, and for how long */
        "export",       /* exports and clients that come and go */
        "graph",        /* nodes that are opened and closed */
        "host",         /* how I/O reaches the kernel */
        "job",          /* states of jobs */
        "mirror",       /* how a mirror keeps up */
        "nbd_client",   /* connections that are lost and made again */
        "qcow2",        /* commits of metadata, damage */
        "qmp",          /* commands and replies */
        NULL,
    };

    return modules;
}

void trace_enable(const char *patterns)
{
    bool any = patterns && *patterns;

    pthread_mutex_lock(&trace_lock);
    g_strfreev(trace_patterns);
    trace_patterns = any ? g_strsplit(patterns, ",", -1) : NULL;
    /* Half the range, as points store it shifted; 0 means off. */
    configurations = configurations == UINT_MAX >> 1 ? 1 : configurations + 1;
    __atomic_store_n(&trace_configuration, any ? configurations : 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&trace_lock);
}

static bool module_matches(const char *module)
{
    bool on = false;

    for (char **p = trace_patterns; p && *p; p++) {
        const char *pattern = g_strstrip(*p);
        bool take_away = *pattern == '-';

        if (fnmatch(pattern + take_away, module, 0) == 0) {
            on = !take_away;
        }
    }
    return on;
}

bool trace_is_enabled(const char *module)
{
    bool on;

    if (!__atomic_load_n(&trace_configuration, __ATOMIC_RELAXED)) {
        return false;
    }
    pthread_mutex_lock(&trace_lock);
    on = module_matches(module);
    pthread_mutex_unlock(&trace_lock);
    return on;
}

bool trace_site_is_on(TraceSite *site, unsigned configuration)
{
    unsigned state = __atomic_load_n(&site->state, __ATOMIC_RELAXED);

    if (state >> 1 != configuration) {
        /* The patterns may be newer than @configuration; then this is asked again. */
        state = configuration << 1 | trace_is_enabled(site->module);
        __atomic_store_n(&site->state, state, __ATOMIC_RELAXED);
    }
    return state & 1;
}

void trace_set_clock(int64_t (*clock_ns)(void))
{
    pthread_mutex_lock(&trace_lock);
    trace_clock_ns = clock_ns;
    pthread_mutex_unlock(&trace_lock);
}

void trace_set_output(TraceOutputFunc *func, void *opaque)
{
    pthread_mutex_lock(&trace_lock);
    trace_output = func;
    trace_output_opaque = opaque;
    pthread_mutex_unlock(&trace_lock);
}

void trace_print(const char *module, const char *fmt, ...)
{
    int saved_errno = errno;
    g_autofree char *text = NULL, *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    pthread_mutex_lock(&trace_lock);
    if (trace_clock_ns) {
        int64_t us = trace_clock_ns() / 1000;

        line = g_strdup_printf("%" PRId64 ".%06" PRId64 " %s: %s",
                               us / 1000000, us % 1000000, module, text);
    } else {
        line = g_strdup_printf("%s: %s", module, text);
    }
    if (trace_output) {
        trace_output(line, trace_output_opaque);
    } else {
        fprintf(stderr, "%s\n", line);
    }
    pthread_mutex_unlock(&trace_lock);
    errno = saved_errno;
}
