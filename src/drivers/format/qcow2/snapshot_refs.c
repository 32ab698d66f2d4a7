/* SPDX-License-Identifier: MIT */
/* snapshot_refs.c: what a whole tree of tables refers to, and the refcounts of all that; see snapshot.h.
 *
 * Tables are read in the order of the file, neighbours in one request of up to WALK_BYTES, some requests at once, and
 * those that were changed are written back in the same way.
 */
#include "drivers/format/qcow2/snapshot.h"

/* What is on its way fits into a processor's cache, and costs few pages. */
#define WALK_BYTES   (256 * KiB)
#define WALK_WORKERS 4
#define LOOP         64

/* ---- walking over tables ---- */

static int place_compare(const void *a, const void *b)
{
    const Qcow2Place *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int coroutine_fn walk_co_write(BlockDriverState *bs, const Qcow2Place *p, uint8_t *buf, const bool *changed, guint n)
{
    Qcow2State *s = bs->opaque;
    int ret = 0;

    for (guint i = 0, run; i < n && !ret; i += run) {
        for (run = 1; i + run < n && changed[i + run] == changed[i]; run++) {
        }
        if (changed[i]) {
            ret = bdrv_co_pwrite(bs->file, p[i].offset, (uint64_t)run << s->cluster_bits,
                                 buf + ((uint64_t)i << s->cluster_bits), 0);
        }
    }
    return ret;
}

typedef struct Walk {
    BlockDriverState *bs;
    GArray *places;
    Qcow2WalkFn *fn;
    void *opaque;
    Coroutine *waiter;
    guint next;                 /* place that nobody has taken */
    unsigned workers;           /* and the caller, until it waits */
    bool waiting;
    int ret;
} Walk;

/* Take neighbours, read them, look at them, write them, until none is left. */
static int coroutine_fn walk_co_work(Walk *w, uint8_t *buf, bool *changed, guint at_once)
{
    Qcow2State *s = w->bs->opaque;

    while (w->next < w->places->len && !w->ret) {
        const Qcow2Place *p = &g_array_index(w->places, Qcow2Place, w->next);
        guint left = w->places->len - w->next, n;
        QEMUIOVector qiov;
        int ret;

        for (n = 1; n < MIN(at_once, left) && p[n].offset == p[n - 1].offset + s->cluster_size; n++) {
        }
        w->next += n;
        qemu_iovec_init_buf(&qiov, buf, (uint64_t)n << s->cluster_bits);
        ret = qcow2_co_read_file(w->bs, p->offset, qiov.size, &qiov, 0, 0);
        ret = ret ? ret : w->ret;       /* what went wrong is told once */
        for (guint k = 0; k < n && !ret; k++) {
            changed[k] = false;
            ret = w->fn(w->opaque, p[k].index, buf + ((uint64_t)k << s->cluster_bits), &changed[k]);
        }
        if (!ret) {
            ret = walk_co_write(w->bs, p, buf, changed, n);
        }
        if (ret) {
            return ret;
        }
    }
    return 0;
}

static void coroutine_fn walk_worker_co(void *opaque)
{
    Walk *w = opaque;
    Qcow2State *s = w->bs->opaque;
    guint at_once = MIN(MAX(WALK_BYTES >> s->cluster_bits, 1), w->places->len);
    g_autofree bool *changed = g_new(bool, at_once);
    uint8_t *buf = qemu_try_blockalign(w->bs->file->bs, (uint64_t)at_once << s->cluster_bits);
    int ret = buf ? walk_co_work(w, buf, changed, at_once) : -ENOMEM;

    qemu_vfree(buf);
    w->ret = w->ret ? w->ret : ret;
    if (--w->workers == 0 && w->waiting) {
        aio_co_wake(w->waiter);
    }
}

int coroutine_fn qcow2_co_walk_tables(BlockDriverState *bs, GArray *places, unsigned workers, Qcow2WalkFn *fn,
                                      void *opaque)
{
    Walk w = { .bs = bs, .places = places, .fn = fn, .opaque = opaque, .waiter = qemu_coroutine_self(), .workers = 1 };

    g_array_sort(places, place_compare);
    for (unsigned i = 0; i < workers && w.next < places->len && !w.ret; i++) {
        w.workers++;
        qemu_coroutine_enter(qemu_coroutine_create(walk_worker_co, &w));
    }
    if (--w.workers) {
        w.waiting = true;
        qemu_coroutine_yield();
    }
    return w.ret;
}

/* ---- counting ---- */

bool qcow2_refs_init(Qcow2State *s, Qcow2Refs *r)
{
    *r = (Qcow2Refs) { .clusters = MIN(s->reftable_size * s->rb_entries, s->cluster_max) };
    r->freed = g_array_new(false, false, sizeof(Qcow2Run));
    return check_counts_init(&r->counts, r->clusters);
}

void qcow2_refs_free(Qcow2Refs *r)
{
    check_counts_free(&r->counts);
    g_array_free(r->freed, true);
}

int qcow2_refs_count_range(Qcow2State *s, Qcow2Refs *r, uint64_t offset, uint64_t bytes, const char *what, Error **errp)
{
    uint64_t first = offset >> s->cluster_bits;
    uint64_t n = bytes ? DIV_ROUND_UP((offset & (s->cluster_size - 1)) + bytes, s->cluster_size) : 0;

    if (first > r->clusters || n > r->clusters - first) {
        error_setg(errp, "The offset of %s, %#" PRIx64 ", is invalid", what, offset);
        error_append_hint(errp, "The image is damaged; `liveblk check` tells more.\n");
        return -EIO;
    }
    for (uint64_t k = first; k < first + n; k++) {
        check_counts_add(&r->counts, k, 1);
    }
    return 0;
}

static const char too_scattered[] = "The image refers to more places than its file can hold";

/* The distinct L2 tables of @l1, and how often each is named. */
static GArray *tables_of_l1(Qcow2State *s, const uint64_t *l1, uint32_t l1_size, uint64_t clusters, CheckCounts *times,
                            uint64_t pages_max, Error **errp)
{
    GArray *places = g_array_new(false, false, sizeof(Qcow2Place));

    for (uint32_t i = 0; i < l1_size; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK, cluster = offset >> s->cluster_bits;
        Qcow2Place p = { offset, cluster };

        if (!offset) {
            continue;
        }
        if (qcow2_in_cluster(s, offset) || cluster >= clusters) {
            error_setg(errp, "L2 table offset %#" PRIx64 " invalid (L1 index: %#x)", offset, i);
            g_array_free(places, true);
            return NULL;
        }
        if (times->n_made > pages_max) {
            error_setg(errp, "%s", too_scattered);
            g_array_free(places, true);
            return NULL;
        }
        if (!check_counts_get(times, cluster)) {
            g_array_append_val(places, p);
        }
        check_counts_add(times, cluster, 1);
    }
    return places;
}

typedef struct TreeWalk {
    Qcow2State *s;
    Qcow2Refs *r;
    CheckCounts times;          /* how often an L2 table is named */
    uint64_t pages_max;         /* of counters */
    Error **errp;
} TreeWalk;

static int count_entry(TreeWalk *w, uint64_t entry, uint32_t times)
{
    Qcow2State *s = w->s;
    uint64_t offset = entry & QCOW2_OFFSET_MASK, last;
    uint32_t bytes;

    if (entry & QCOW2_COMPRESSED) {
        qcow2_packed_place(s, entry, &offset, &bytes);
        last = (offset + bytes - 1) >> s->cluster_bits;
    } else if (!offset) {
        return 0;
    } else {
        w->r->flags_seen |= (entry & QCOW2_COPIED) != 0;
        last = offset >> s->cluster_bits;
    }
    if (last >= w->r->clusters || (!(entry & QCOW2_COMPRESSED) && qcow2_in_cluster(s, offset))) {
        error_setg(w->errp, "Cluster allocation offset %#" PRIx64 " invalid", offset);
        return -EIO;
    }
    if (w->r->counts.n_made > w->pages_max) {
        error_setg(w->errp, "%s", too_scattered);
        return -EFBIG;
    }
    for (uint64_t k = offset >> s->cluster_bits; k <= last; k++) {
        check_counts_add(&w->r->counts, k, times);
    }
    return 0;
}

/* How many of @max words continue @entry, each naming the cluster behind that of the one before. */
static uint32_t words_in_a_row(const Qcow2State *s, const uint64_t *words, uint64_t entry, uint32_t max)
{
    uint32_t n = 1;

    while (n < max && words[n] == GUINT64_TO_BE(entry + ((uint64_t)n << s->cluster_bits))) {
        n++;
    }
    return n;
}

/* Count @n clusters once more, all of one page of bytes; false, and nothing is done, if one is at its end. */
static bool count_in_a_row(uint8_t *count, uint32_t n)
{
    bool full = false;

    for (uint32_t i = 0; i < n; i++) {
        full |= count[i] == UINT8_MAX;
    }
    for (uint32_t i = 0; i < n && !full; i++) {
        count[i]++;
    }
    return !full;
}

static int count_table_fn(void *opaque, uint64_t cluster, void *table, bool *changed)
{
    TreeWalk *w = opaque;
    uint32_t times = check_counts_get(&w->times, cluster);
    const uint64_t *words = table;
    unsigned step = 1u << w->s->ext_l2;
    uint64_t page_at = 0;
    CheckPage *page = NULL;
    int ret = 0;

    check_counts_add(&w->r->counts, cluster, times);
    for (uint32_t i = 0; i < w->s->cluster_size / 8 && !ret; i += step) {
        uint64_t entry = GUINT64_FROM_BE(words[i]), k = (entry & QCOW2_OFFSET_MASK) >> w->s->cluster_bits;

        /* The usual one: plain, in the page of the one before, counted in a byte. */
        if (page && !(entry & QCOW2_COMPRESSED) && !qcow2_in_cluster(w->s, entry & QCOW2_OFFSET_MASK) &&
            k >> CHECK_PAGE_BITS == page_at && !page->order && times == 1 && k) {
            uint32_t in = k & (CHECK_PAGE - 1), left = (w->s->cluster_size / 8 - i) / step;
            uint32_t n = step > 1 ? 1 : words_in_a_row(w->s, words + i, entry, MIN(left, CHECK_PAGE - in));

            if (count_in_a_row((uint8_t *)page->count + in, n)) {
                w->r->flags_seen |= (entry & QCOW2_COPIED) != 0;
                i += (n - 1) * step;
                continue;
            }
        }
        if (entry) {
            ret = count_entry(w, entry, times);
        }
        if (entry && !ret && k < w->r->clusters) {
            page_at = k >> CHECK_PAGE_BITS;
            page = w->r->counts.pages[page_at];
        }
    }
    return ret;
}

int coroutine_fn qcow2_co_refs_count_tree(BlockDriverState *bs, Qcow2Refs *r, const uint64_t *l1, uint32_t l1_size,
                                          Error **errp)
{
    Error *err = NULL;
    TreeWalk w = { .s = bs->opaque, .r = r, .errp = &err };
    GArray *places;
    int ret = -EIO;

    if (!r->counts.pages || !check_counts_init(&w.times, r->clusters)) {
        error_setg_errno(errp, ENOMEM, "Could not count the references of the image");
        return -ENOMEM;
    }
    w.pages_max = check_co_pages_max(bs);
    places = tables_of_l1(w.s, l1, l1_size, r->clusters, &w.times, w.pages_max, &err);
    if (places) {
        ret = qcow2_co_walk_tables(bs, places, WALK_WORKERS, count_table_fn, &w);
        g_array_free(places, true);
    }
    for (uint32_t i = 0; i < l1_size; i++) {
        r->flags_seen |= (l1[i] & QCOW2_COPIED) != 0;
    }
    check_counts_free(&w.times);
    if (err) {
        error_append_hint(&err, "The image is damaged; `liveblk check` tells more.\n");
        error_propagate(errp, err);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read the L2 tables");
    }
    return ret;
}

/* ---- refcounts ---- */

typedef struct RefsWalk {
    Qcow2State *s;
    Qcow2Refs *r;
    Qcow2RefsStep step;
    uint64_t max;               /* that a refcount can say */
    Error **errp;
} RefsWalk;

/* Is anything counted in [from, to)? */
static bool range_is_counted(const CheckCounts *c, uint64_t from, uint64_t to)
{
    for (uint64_t p = from >> CHECK_PAGE_BITS; p <= (to - 1) >> CHECK_PAGE_BITS && p < c->n_pages; p++) {
        if (c->pages[p]) {
            return true;
        }
    }
    return false;
}

static int refs_check(RefsWalk *w, uint64_t cluster, uint64_t count, uint32_t n)
{
    if (w->step == REFS_CAN_ADD && (!count || n > w->max - MIN(count, w->max))) {
        if (count) {
            error_setg(w->errp, "The refcounts of this image are too narrow: the cluster at offset %#" PRIx64 " has %"
                       PRIu64 " references, and %u bits cannot say %" PRIu64, cluster << w->s->cluster_bits, count,
                       1u << w->s->refcount_order, count + n);
            error_append_hint(w->errp, "Delete snapshots, or copy the image to one with wider refcounts "
                              "(refcount_bits).\n");
            return -EINVAL;
        }
    } else if (w->step != REFS_CAN_SUB || count >= n) {
        return 0;
    }
    error_setg(w->errp, "Refcount of cluster at offset %#" PRIx64 " is too low", cluster << w->s->cluster_bits);
    error_append_hint(w->errp, "The image is damaged; `liveblk check` tells more.\n");
    return -EIO;
}

static void refs_freed(Qcow2Refs *r, uint64_t cluster)
{
    Qcow2Run run = { .cluster = cluster, .n = 1 };
    Qcow2Run *last = r->freed->len ? &g_array_index(r->freed, Qcow2Run, r->freed->len - 1) : NULL;

    if (last && last->cluster + last->n == cluster) {
        last->n++;
    } else {
        g_array_append_val(r->freed, run);
    }
}

static void refs_change(RefsWalk *w, CheckPage *p, void *block, uint64_t i, uint64_t cluster, uint64_t count, uint32_t n)
{
    unsigned in = cluster & (CHECK_PAGE - 1);

    count = w->step == REFS_ADD ? count + n : count - n;
    qcow2_refcount_set(block, w->s->refcount_order, i, count);
    if (w->step == REFS_SUB && !count) {
        refs_freed(w->r, cluster);
    } else if (w->step == REFS_SUB && count == 1) {
        p->copied[in / 8] |= 1 << (in % 8);
    }
}

/* REFS_CAN_ADD for @n clusters: no count of one that is referred to is 0 or too large. */
static bool refs_bad_to_add(const uint16_t *block, const uint8_t *refs, unsigned n)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < n; i++) {
        uint16_t count = GUINT16_FROM_BE(block[i]);

        bad |= (refs[i] != 0) & ((count == 0) | (count > UINT16_MAX - UINT8_MAX));
    }
    return bad;
}

/* The usual case in loops that a compiler can make short: refcounts of 16 bits, less than 256 references to a
 * cluster. Clusters [@k, +@n), of one page. False: there is something wrong, look at them one by one. */
static bool refs_usual(RefsWalk *w, CheckPage *p, uint16_t *block, uint64_t k, uint64_t n)
{
    const uint8_t *refs = (const uint8_t *)p->count + (k & (CHECK_PAGE - 1));
    bool bad = false;

    switch (w->step) {
    case REFS_CAN_ADD:
        /* Of a length that compilers know. */
        for (; n >= LOOP; n -= LOOP, block += LOOP, refs += LOOP) {
            bad |= refs_bad_to_add(block, refs, LOOP);
        }
        return !bad && !refs_bad_to_add(block, refs, n);
    case REFS_CAN_SUB:
        for (uint64_t i = 0; i < n; i++) {
            bad |= GUINT16_FROM_BE(block[i]) < refs[i];
        }
        return !bad;
    case REFS_ADD:
        for (; n >= LOOP; n -= LOOP, block += LOOP, refs += LOOP) {
            for (unsigned i = 0; i < LOOP; i++) {
                block[i] = GUINT16_TO_BE(GUINT16_FROM_BE(block[i]) + refs[i]);
            }
        }
        for (uint64_t i = 0; i < n; i++) {
            block[i] = GUINT16_TO_BE(GUINT16_FROM_BE(block[i]) + refs[i]);
        }
        return true;
    default:
        for (uint64_t i = 0; i < n; i++) {
            uint16_t count = GUINT16_FROM_BE(block[i]) - refs[i];

            block[i] = GUINT16_TO_BE(count);
            if (refs[i] && !count) {
                refs_freed(w->r, k + i);
            } else if (refs[i] && count == 1) {
                p->copied[((k + i) & (CHECK_PAGE - 1)) / 8] |= 1 << ((k + i) % 8);
            }
        }
        return true;
    }
}

static int refs_block_fn(void *opaque, uint64_t r, void *block, bool *changed)
{
    RefsWalk *w = opaque;
    Qcow2State *s = w->s;
    uint64_t base = r * s->rb_entries, end = MIN(base + s->rb_entries, w->r->clusters);
    uint16_t *wide = s->refcount_order == 4 ? block : NULL;

    for (uint64_t k = base; k < end; k++) {
        CheckPage *p = w->r->counts.pages[k >> CHECK_PAGE_BITS];
        uint32_t n;

        if (!p) {
            k |= CHECK_PAGE - 1;
            continue;
        }
        if (wide && !p->order && refs_usual(w, p, wide + (k - base), k, MIN(end, (k | (CHECK_PAGE - 1)) + 1) - k)) {
            *changed |= w->step == REFS_ADD || w->step == REFS_SUB;
            k = MIN(end, (k | (CHECK_PAGE - 1)) + 1) - 1;
            continue;
        }
        n = check_page_get(p, k & (CHECK_PAGE - 1));
        if (!n) {
            continue;
        }
        uint64_t count = block ? qcow2_refcount_get(block, s->refcount_order, k - base) : 0;
        int ret = refs_check(w, k, count, n);

        if (ret < 0) {
            return ret;
        }
        if (w->step == REFS_ADD || w->step == REFS_SUB) {
            refs_change(w, p, block, k - base, k, count, n);
            *changed = true;
        }
    }
    return 0;
}

int coroutine_fn qcow2_co_refs_step(BlockDriverState *bs, Qcow2Refs *refs, Qcow2RefsStep step, Error **errp)
{
    Qcow2State *s = bs->opaque;
    GArray *places = g_array_new(false, false, sizeof(Qcow2Place));
    Error *err = NULL;
    RefsWalk w = { s, refs, step, s->refcount_order == 6 ? UINT64_MAX : (1ULL << (1u << s->refcount_order)) - 1, &err };
    int ret = 0;

    for (uint64_t r = 0; r < s->reftable_size && r * s->rb_entries < refs->clusters && !ret; r++) {
        Qcow2Place p = { s->reftable[r], r };
        bool unused = false;

        if (!range_is_counted(&refs->counts, r * s->rb_entries, (r + 1) * s->rb_entries)) {
            continue;
        }
        if (!p.offset || (p.offset & ~QCOW2_OFFSET_MASK) || qcow2_in_cluster(s, p.offset)) {
            if (step == REFS_CAN_ADD || step == REFS_CAN_SUB) {
                ret = refs_block_fn(&w, r, NULL, &unused);      /* nothing may be counted there */
            }
            continue;
        }
        g_array_append_val(places, p);
    }
    if (!ret) {
        ret = qcow2_co_walk_tables(bs, places, WALK_WORKERS, refs_block_fn, &w);
    }
    g_array_free(places, true);
    if (err) {
        error_propagate(errp, err);
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not update the refcounts");
    }
    return ret;
}

/* ---- flags ---- */

typedef struct FlagsWalk {
    Qcow2State *s;
    const Qcow2Refs *r;         /* NULL: flags go away */
} FlagsWalk;

static bool became_one(const Qcow2Refs *r, uint64_t cluster)
{
    const CheckPage *p = cluster < r->clusters ? r->counts.pages[cluster >> CHECK_PAGE_BITS] : NULL;
    unsigned i = cluster & (CHECK_PAGE - 1);

    return p && (p->copied[i / 8] & (1 << (i % 8)));
}

/* Without a branch for each. */
static bool flags_drop(uint64_t *words, uint32_t n, unsigned step)
{
    const uint64_t compressed = GUINT64_TO_BE(QCOW2_COMPRESSED), copied = GUINT64_TO_BE(QCOW2_COPIED);
    uint64_t dropped = 0;

    for (uint32_t i = 0; i < n; i += step) {
        uint64_t drop = words[i] & compressed ? 0 : words[i] & copied;

        words[i] ^= drop;
        dropped |= drop;
    }
    return dropped;
}

static int flags_table_fn(void *opaque, uint64_t index, void *table, bool *changed)
{
    FlagsWalk *w = opaque;
    uint64_t *words = table;
    unsigned step = 1u << w->s->ext_l2;

    if (!w->r) {
        *changed = flags_drop(words, w->s->cluster_size / 8, step);
        return 0;
    }
    for (uint32_t i = 0; i < w->s->cluster_size / 8; i += step) {
        uint64_t entry = GUINT64_FROM_BE(words[i]), offset = entry & QCOW2_OFFSET_MASK;

        if (!entry || (entry & QCOW2_COMPRESSED)) {
            continue;
        }
        if (offset && !(entry & QCOW2_COPIED) && became_one(w->r, offset >> w->s->cluster_bits)) {
            words[i] = GUINT64_TO_BE(entry | QCOW2_COPIED);
            *changed = true;
        }
    }
    return 0;
}

static int coroutine_fn flags_co_walk(BlockDriverState *bs, const Qcow2Refs *r, const uint64_t *l1, uint32_t l1_size)
{
    Qcow2State *s = bs->opaque;
    uint64_t clusters = MIN(s->reftable_size * s->rb_entries, s->cluster_max);
    FlagsWalk w = { s, r };
    CheckCounts times;
    GArray *places;
    int ret = -EIO;

    if (!check_counts_init(&times, clusters)) {
        return -ENOMEM;
    }
    places = tables_of_l1(s, l1, l1_size, clusters, &times, check_co_pages_max(bs), NULL);
    if (places) {
        ret = qcow2_co_walk_tables(bs, places, WALK_WORKERS, flags_table_fn, &w);
        g_array_free(places, true);
    }
    check_counts_free(&times);
    return ret;
}

int coroutine_fn qcow2_co_flags_clear(BlockDriverState *bs, uint64_t *l1, uint32_t l1_size)
{
    int ret = flags_co_walk(bs, NULL, l1, l1_size);

    for (uint32_t i = 0; i < l1_size && !ret; i++) {
        l1[i] &= ~QCOW2_COPIED;
    }
    return ret;
}

int coroutine_fn qcow2_co_flags_set(BlockDriverState *bs, const Qcow2Refs *r, uint64_t *l1, uint32_t l1_size,
                                    bool *changed)
{
    Qcow2State *s = bs->opaque;
    int ret = flags_co_walk(bs, r, l1, l1_size);

    *changed = false;
    for (uint32_t i = 0; i < l1_size && !ret; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;

        if (offset && !(l1[i] & QCOW2_COPIED) && became_one(r, offset >> s->cluster_bits)) {
            l1[i] |= QCOW2_COPIED;
            *changed = true;
        }
    }
    return ret;
}
