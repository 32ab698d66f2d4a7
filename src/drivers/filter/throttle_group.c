/* SPDX-License-Identifier: MIT */
/* throttle_group.c: see throttle_group.h.
 *
 * In each direction one request of a group is at the head: it sleeps until it may go on, and then hands its place to the
 * first that waits at the next member that has any. All others wait in the queues of their members.
 */
#include "drivers/filter/throttle_group.h"

enum { READ, WRITE, DIRECTIONS };

/* A drain that begins just before the head falls asleep is noticed so much later. */
#define SLEEP_NS_MAX    (50 * 1000 * 1000LL)

typedef struct Waiter {
    Coroutine *co;
    bool head;                  /* it is its turn; else it was let go without */
    TAILQ_ENTRY(Waiter) next;
} Waiter;

struct ThrottleMember {
    ThrottleGroup *group;
    bool unlimited;             /* the next two under the group's lock */
    TAILQ_HEAD(, Waiter) queue[DIRECTIONS];
    QemuCoSleep sleep[DIRECTIONS];
    TAILQ_ENTRY(ThrottleMember) link;
};

struct ThrottleGroup {
    char *id;
    LIST_ENTRY(ThrottleGroup) registered;
    pthread_mutex_t lock;       /* over all below; held for instants */
    ThrottleState state;
    bool has_head[DIRECTIONS];
    TAILQ_HEAD(, ThrottleMember) members;
};

static LIST_HEAD(, ThrottleGroup) groups = LIST_HEAD_INITIALIZER(groups);

/* ---- settings ---- */

/* A negative setting is one out of range, and found to be. Where a setting goes: @limits wins over the older x- form, which is a member of its own. */
#define TAKE(to, name)                                                                      \
    do {                                                                                    \
        if (p->has_x_##name) {                                                              \
            (to) = p->x_##name;                                                             \
        }                                                                                   \
        if (p->limits && p->limits->has_##name) {                                           \
            (to) = p->limits->name;                                                         \
        }                                                                                   \
    } while (0)

#define TAKE_BUCKET(kind, name)                                                             \
    do {                                                                                    \
        TAKE(s->buckets[kind].avg, name);                                                   \
        TAKE(s->buckets[kind].max, name##_max);                                             \
        TAKE(s->buckets[kind].burst_seconds, name##_max_length);                            \
    } while (0)

static void take_settings(ThrottleState *s, const ThrottleGroupProperties *p)
{
    for (int i = 0; i < THROTTLE_KINDS; i++) {
        s->buckets[i] = (ThrottleBucket) { .burst_seconds = 1 };
    }
    TAKE_BUCKET(THROTTLE_BPS_TOTAL, bps_total);
    TAKE_BUCKET(THROTTLE_BPS_READ, bps_read);
    TAKE_BUCKET(THROTTLE_BPS_WRITE, bps_write);
    TAKE_BUCKET(THROTTLE_IOPS_TOTAL, iops_total);
    TAKE_BUCKET(THROTTLE_IOPS_READ, iops_read);
    TAKE_BUCKET(THROTTLE_IOPS_WRITE, iops_write);
    TAKE(s->iops_size, iops_size);
    s->last_ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* ---- groups ---- */

ThrottleGroup *throttle_group_by_id(const char *id)
{
    ThrottleGroup *g;

    LIST_FOREACH(g, &groups, registered) {
        if (!strcmp(g->id, id)) {
            return g;
        }
    }
    return NULL;
}

ThrottleGroup *throttle_group_create(const char *id, const ThrottleGroupProperties *props, Error **errp)
{
    ThrottleState state = { .last_ns = 0 };

    take_settings(&state, props);
    if (!throttle_is_valid(&state, errp)) {
        return NULL;
    }
    ThrottleGroup *g = g_new0(ThrottleGroup, 1);

    g->id = g_strdup(id);
    g->state = state;
    pthread_mutex_init(&g->lock, NULL);
    TAILQ_INIT(&g->members);
    LIST_INSERT_HEAD(&groups, g, registered);
    return g;
}

int throttle_group_destroy(ThrottleGroup *g, Error **errp)
{
    if (!TAILQ_EMPTY(&g->members)) {
        error_setg(errp, "object '%s' is in use, can not be deleted", g->id);
        return -EBUSY;
    }
    LIST_REMOVE(g, registered);
    pthread_mutex_destroy(&g->lock);
    g_free(g->id);
    g_free(g);
    return 0;
}

/* ---- members ---- */

ThrottleMember *throttle_member_new(ThrottleGroup *g)
{
    ThrottleMember *m = g_new0(ThrottleMember, 1);

    m->group = g;
    for (int d = 0; d < DIRECTIONS; d++) {
        TAILQ_INIT(&m->queue[d]);
    }
    pthread_mutex_lock(&g->lock);
    TAILQ_INSERT_TAIL(&g->members, m, link);
    pthread_mutex_unlock(&g->lock);
    return m;
}

void throttle_member_free(ThrottleMember *m)
{
    ThrottleGroup *g = m->group;

    pthread_mutex_lock(&g->lock);
    g_assert(TAILQ_EMPTY(&m->queue[READ]) && TAILQ_EMPTY(&m->queue[WRITE]));
    TAILQ_REMOVE(&g->members, m, link);
    pthread_mutex_unlock(&g->lock);
    g_free(m);
}

/* Lock held. */
static void let_go(ThrottleMember *m, int d, bool head)
{
    Waiter *w = TAILQ_FIRST(&m->queue[d]);

    TAILQ_REMOVE(&m->queue[d], w, next);
    w->head = head;
    /* Queued: it runs when the lock is free. */
    aio_co_enter(qemu_coroutine_get_aio_context(w->co), w->co);
}

void throttle_member_set_unlimited(ThrottleMember *m, bool unlimited)
{
    pthread_mutex_lock(&m->group->lock);
    m->unlimited = unlimited;
    for (int d = 0; d < DIRECTIONS && unlimited; d++) {
        while (!TAILQ_EMPTY(&m->queue[d])) {
            let_go(m, d, false);
        }
    }
    pthread_mutex_unlock(&m->group->lock);
    /* Not under the lock: the sleeper may run at once. */
    for (int d = 0; d < DIRECTIONS && unlimited; d++) {
        co_sleep_wake(&m->sleep[d]);
    }
}

/* ---- requests ---- */

/* The head's place goes to the member after @m, all of them in turn, @m itself last. Lock held. */
static void hand_on(ThrottleGroup *g, ThrottleMember *m, int d)
{
    ThrottleMember *next = m;

    do {
        next = TAILQ_NEXT(next, link) ? TAILQ_NEXT(next, link) : TAILQ_FIRST(&g->members);
        if (!TAILQ_EMPTY(&next->queue[d])) {
            let_go(next, d, true);
            return;
        }
    } while (next != m);
    g->has_head[d] = false;
}

/* Lock held, may be dropped. Until the buckets have room. */
static void coroutine_fn wait_at_head(ThrottleMember *m, int d)
{
    ThrottleGroup *g = m->group;
    int64_t ns;

    while (!m->unlimited &&
           (ns = throttle_wait_ns(&g->state, d == WRITE, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL))) > 0) {
        pthread_mutex_unlock(&g->lock);
        co_sleep_ns_wakeable(&m->sleep[d], MIN(ns, SLEEP_NS_MAX));
        pthread_mutex_lock(&g->lock);
    }
}

void coroutine_fn throttle_co_wait(ThrottleMember *m, int64_t bytes, bool is_write)
{
    ThrottleGroup *g = m->group;
    int d = is_write ? WRITE : READ;
    bool head = false;

    pthread_mutex_lock(&g->lock);
    if (!m->unlimited && g->has_head[d]) {
        Waiter w = { .co = qemu_coroutine_self() };

        TAILQ_INSERT_TAIL(&m->queue[d], &w, next);
        pthread_mutex_unlock(&g->lock);
        qemu_coroutine_yield();
        pthread_mutex_lock(&g->lock);
        head = w.head;
    } else if (!m->unlimited) {
        head = g->has_head[d] = true;
    }
    if (head) {
        wait_at_head(m, d);
    }
    throttle_account(&g->state, is_write, bytes);
    if (head) {
        hand_on(g, m, d);
    }
    pthread_mutex_unlock(&g->lock);
}
