/* SPDX-License-Identifier: MIT */
/* host.c: loops, clock and requests of the simulated machine; see sim.h. */
#include "sim.h"

#define TIME_MAX_NS (7200 * 1000 * MS)  /* two hours: longer than any policy's patience */
#define TRACE_WIDTH 160

Sim sim;
bool sim_verbose;

/* ---- trace ---- */

static char (*trace_ring)[TRACE_WIDTH];
static unsigned trace_lines = 60;
static uint64_t trace_len, trace_hash;
uint64_t sim_stop_at;

void sim_trace_keep(unsigned lines)
{
    trace_lines = MAX(lines, 1);
}

void sim_trace(const char *fmt, ...)
{
    char *line = trace_ring[trace_len++ % trace_lines];
    va_list ap;
    int n = snprintf(line, TRACE_WIDTH, "%12.6f ms %6" PRIu64 "  ", (double)sim.now_ns / MS, sim.steps);

    va_start(ap, fmt);
    vsnprintf(line + n, TRACE_WIDTH - n, fmt, ap);
    va_end(ap);
    for (const char *c = line; *c; c++) {
        trace_hash = (trace_hash ^ (uint8_t)*c) * 0x100000001b3ULL;
    }
    if (sim_verbose) {
        fprintf(stderr, "%s\n", line);
    }
}

uint64_t sim_trace_hash(void)
{
    return trace_hash;
}

void sim_trace_last(FILE *to)
{
    for (uint64_t i = trace_len > trace_lines ? trace_len - trace_lines : 0; i < trace_len; i++) {
        fprintf(to, "# %s\n", trace_ring[i % trace_lines]);
    }
}

void sim_fail(const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fprintf(stderr, "# seed %" PRIu64 ": %s\n", sim.seed, text);
    abort();
}

/* ---- loops and what is on its way ---- */

struct HostLoop {
    AioContext *ctx;
    bool threaded;
};

typedef struct SimEvent {
    int64_t due_ns;
    AioContext *ctx;
    HostRequest *req;           /* NULL: work */
    bool executed;
    uint64_t flush_seq;
    int (*func)(void *);
    void *arg, *opaque;
    void (*done)(void *opaque, int ret);
} SimEvent;

static GPtrArray *events;       /* SimEvent */
static GPtrArray *loops;        /* HostLoop */

void sim_init(uint64_t seed)
{
    sim = (Sim) { .seed = seed, .prng = { seed }, .steps_max = 400000, .now_ns = 1000 * MS };
    sim.noise = prng_split(&sim.prng);
    events = g_ptr_array_new();
    loops = g_ptr_array_new();
    trace_ring = g_malloc0_n(trace_lines, TRACE_WIDTH);
    trace_len = 0;
    trace_hash = 0xcbf29ce484222325ULL;
}

static int64_t sim_clock_ns(QEMUClockType type)
{
    return sim.now_ns;
}

static void sim_random(void *buf, size_t len)
{
    prng_fill(&sim.noise, buf, len);
}

static HostLoop *sim_loop_new(AioContext *ctx, Error **errp)
{
    HostLoop *l = g_new0(HostLoop, 1);

    l->ctx = ctx;
    g_ptr_array_add(loops, l);
    return l;
}

static void sim_loop_free(HostLoop *l)
{
    for (guint i = 0; i < events->len; i++) {
        g_assert_true(((SimEvent *)events->pdata[i])->ctx != l->ctx);
    }
    g_ptr_array_remove(loops, l);
    g_free(l);
}

/* When @e is due: never, as long as its file hangs. */
static int64_t event_due_ns(const SimEvent *e)
{
    return e->req && sim_file_of(e->req->file)->hung ? INT64_MAX : e->due_ns;
}

unsigned sim_file_requests(const SimFile *f)
{
    unsigned n = 0;

    for (guint i = 0; i < events->len; i++) {
        const SimEvent *e = events->pdata[i];

        n += e->req && (!f || sim_file_of(e->req->file) == f);
    }
    return n;
}

/* One of @l's events that are due, by lot. */
static SimEvent *event_take_due(HostLoop *l)
{
    SimEvent *found = NULL;
    guint seen = 0;

    for (guint i = 0; i < events->len; i++) {
        SimEvent *e = events->pdata[i];

        if (e->ctx == l->ctx && event_due_ns(e) <= sim.now_ns && !prng_below(&sim.prng, ++seen)) {
            found = e;
        }
    }
    if (found) {
        g_ptr_array_remove(events, found);      /* keeps the order */
    }
    return found;
}

static const char *const op_names[] = {
    "read", "write", "flush", "zero", "discard", "allocate", "truncate", "status", "copy", "stat",
};

static void event_complete(SimEvent *e)
{
    if (!e->req) {
        e->done(e->opaque, e->func(e->arg));
        return;
    }
    HostRequest *req = e->req;

    if (!e->executed) {
        req->ret = sim_file_execute(req, e->flush_seq);
    } else if (sim.off) {
        req->ret = -EIO;
    }
    sim_trace("%s %s %" PRId64 "+%" PRId64 " = %" PRId64, sim_file_name(req->file), op_names[req->op],
              req->offset, req->bytes, req->ret);
    req->complete(req);
}

static bool run_due(HostLoop *l)
{
    unsigned max = 1 + prng_below(&sim.prng, 4);
    bool progress = false;
    SimEvent *e;

    while (max-- && (e = event_take_due(l))) {
        event_complete(e);
        g_free(e);
        progress = true;
    }
    return progress;
}

static bool loop_has_due(HostLoop *l)
{
    for (guint i = 0; i < events->len; i++) {
        SimEvent *e = events->pdata[i];

        if (e->ctx == l->ctx && event_due_ns(e) <= sim.now_ns) {
            return true;
        }
    }
    return aio_has_bhs(l->ctx) || aio_next_timer_ns(l->ctx) == 0;
}

static bool loop_turn(HostLoop *l)
{
    AioContext *before = aio_set_current(l->ctx);
    bool progress = aio_poll(l->ctx, false);

    aio_set_current(before);
    return progress;
}

/* Iothreads that have something to do get a turn each, or not yet. */
static bool run_threads(bool all)
{
    bool progress = false;

    for (guint i = 0; i < loops->len; i++) {
        HostLoop *l = loops->pdata[i];

        if (l->threaded && loop_has_due(l) && (all || prng_below(&sim.prng, 2))) {
            progress |= loop_turn(l);
        }
    }
    return progress;
}

static void sim_tick(void)
{
    sim.now_ns += 100 + prng_below(&sim.prng, 2000);
    if (++sim.steps > sim.steps_max) {
        sim_fail("too many steps: something spins");
    }
    if (sim.now_ns > TIME_MAX_NS) {
        sim_fail("too much time: something hangs");
    }
    if (sim.cut_at && !sim.off && !sim.calm && sim.steps >= sim.cut_at) {
        sim_power_cut();
    }
    if (sim_stop_at && sim.steps >= sim_stop_at) {
        printf("# seed %" PRIu64 " at step %" PRIu64 "; what came before:\n", sim.seed, sim.steps);
        sim_trace_last(stdout);
        exit(SIM_STOPPED);
    }
}

static bool sim_wait(HostLoop *l, int64_t timeout_ns)
{
    int64_t next = timeout_ns > 0 ? sim.now_ns + timeout_ns : INT64_MAX;

    sim_tick();
    if (l->threaded) {
        return run_due(l);
    }
    bool progress = run_threads(false);

    progress |= run_due(l);

    if (timeout_ns == 0 || progress) {
        return progress;
    }
    for (guint i = 0; i < events->len; i++) {
        next = MIN(next, event_due_ns(events->pdata[i]));
    }
    for (guint i = 0; i < loops->len; i++) {
        HostLoop *other = loops->pdata[i];
        int64_t timer_ns = other->threaded ? aio_next_timer_ns(other->ctx) : -1;

        if (other->threaded && aio_has_bhs(other->ctx)) {
            next = sim.now_ns;
        } else if (timer_ns >= 0) {
            next = MIN(next, sim.now_ns + timer_ns);
        }
    }
    if (next == INT64_MAX) {
        sim_fail("nothing will ever happen again: something hangs");
    }
    sim.now_ns = MAX(sim.now_ns, next);
    progress = run_threads(true);
    return run_due(l) || progress;
}

static void sim_notify(HostLoop *l)
{
    /* Whoever waits is looked at again anyway. */
}

static void sim_fd_set(HostLoop *l, int fd, IOHandler *rd, IOHandler *wr, void *opaque)
{
    g_assert_not_reached();     /* there are no descriptors here */
}

static void *sim_thread_start(const char *name, void (*run)(void *), void *opaque, AioContext *ctx)
{
    HostLoop *l = aio_host_loop(ctx);

    l->threaded = true;
    return l;
}

static void sim_thread_join(void *thread)
{
    while (loop_turn(thread)) {
        /* what was still on its way */
    }
}

/* ---- requests ---- */

static int64_t delay_ns(HostOp op)
{
    int64_t us = prng_below(&sim.prng, 8) ? prng_below(&sim.prng, 150) : prng_below(&sim.prng, 8000);

    if (sim.faults && sim_chance(sim.slow_one_in)) {
        us += prng_below(&sim.prng, 3000 * 1000);
    }
    return (op == HOST_FLUSH ? 5 * us : us) * 1000;
}

static bool sim_submit(HostLoop *l, HostRequest *req)
{
    SimEvent *e;

    req->ctx = l->ctx;
    sim.requests++;
    if (!sim_file_aligned(req)) {
        sim_fail("%s: %s of %" PRId64 " at %" PRId64 " is not aligned", sim_file_name(req->file), op_names[req->op],
                 req->bytes, req->offset);
    }
    if (req->op == HOST_FLUSH && sim.cut_flush && !--sim.cut_flush) {
        sim.cut_at = sim.steps + 1 + prng_below(&sim.prng, 12);
    }
    if ((req->flags & HOST_FLAG_GUEST) && (req->op == HOST_READ || req->op == HOST_WRITE) &&
        !sim_file_of(req->file)->hung && !prng_below(&sim.prng, 4)) {
        req->ret = sim_file_execute(req, 0);
        sim_trace("%s %s %" PRId64 "+%" PRId64 " at once = %" PRId64, sim_file_name(req->file), op_names[req->op],
                  req->offset, req->bytes, req->ret);
        return true;
    }
    e = g_new0(SimEvent, 1);
    *e = (SimEvent) {
        .due_ns = sim.now_ns + delay_ns(req->op), .ctx = l->ctx, .req = req, .flush_seq = sim_write_seq(),
    };
    if (req->op != HOST_FLUSH && !sim_file_of(req->file)->hung && !prng_below(&sim.prng, 3)) {
        e->executed = true;     /* done long before it is told */
        req->ret = sim_file_execute(req, 0);
    }
    g_ptr_array_add(events, e);
    return false;
}

static void sim_work(AioContext *ctx, int (*func)(void *), void *arg, void (*done)(void *opaque, int ret),
                     void *opaque)
{
    SimEvent *e = g_new0(SimEvent, 1);

    *e = (SimEvent) {
        .due_ns = sim.now_ns + delay_ns(HOST_READ), .ctx = ctx, .func = func, .arg = arg, .done = done,
        .opaque = opaque,
    };
    g_ptr_array_add(events, e);
}

static bool sim_path_is_device(const char *path)
{
    return false;
}

static int sim_fd(HostFile *file)
{
    return -1;
}

void sim_power_cut(void)
{
    sim_trace("power cut");
    for (guint i = 0; i < events->len; i++) {
        SimEvent *e = events->pdata[i];

        if (e->req && !e->executed) {
            sim_file_tear(e->req);
        }
    }
    sim_files_power_cut();
    sim.off = true;
}

void sim_power_on(void)
{
    g_assert_cmpuint(events->len, ==, 0);
    sim_files_power_on();
    sim.off = false;
    sim.cut_at = sim.cut_flush = 0;
    sim_trace("power on");
}

const HostOps host_ops_sim = {
    .name = "sim",
    .clock_ns = sim_clock_ns, .random_bytes = sim_random,
    .loop_new = sim_loop_new, .loop_free = sim_loop_free, .wait = sim_wait, .notify = sim_notify,
    .fd_set = sim_fd_set, .thread_start = sim_thread_start, .thread_join = sim_thread_join,
    .submit = sim_submit, .work = sim_work,
    .file_open = sim_file_open, .file_close = sim_file_close, .file_unlink = sim_file_unlink,
    .path_is_device = sim_path_is_device,
    .file_lock = sim_file_lock, .file_stat = sim_file_stat, .file_fd = sim_fd,
};
