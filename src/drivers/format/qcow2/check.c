/* SPDX-License-Identifier: MIT */
/* check.c: walk all that refers to clusters: header, L1 and L2 tables, those of snapshots, bitmaps,
 * the refcount structure; see check.h. Texts and counts as the peer has them. */
#include "drivers/format/qcow2/check.h"
#include "drivers/format/qcow2/snapshot.h"

#define BATCH_BYTES     (8 * MiB)

#define BITMAPS_MAX     65535
#define DIRECTORY_MAX   (64 * MiB)
#define L1_PIECE        (1 * MiB)
/* Snapshots may refer to so many times the file's length in L1 tables; more is damage, or malice. */
#define L1_BYTES_FACTOR 4
/* Pages of counters that are always granted (60 MiB), and what each further one needs of the file. */
#define PAGES_FREE      12288
#define CHECK_BLOCK     4096

void check_say(Qcow2Check *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (c->res->report) {
        g_autofree char *text = g_strdup_vprintf(fmt, ap);

        c->res->report(c->res->opaque, text);
    }
    va_end(ap);
}

bool check_region(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t n)
{
    Qcow2State *s = c->s;
    uint64_t end = offset + bytes;

    if (!bytes) {
        return true;
    }
    if (unlikely(c->refs.n_made > c->pages_max)) {
        c->scattered = true;
        return false;
    }
    if (end < offset || end > (uint64_t)c->file_bytes + s->cluster_size - 1) {
        check_say(c, "ERROR: counting reference for region exceeding the end of the file by one cluster or more: "
                  "offset 0x%" PRIx64 " size 0x%" PRIx64, offset, bytes);
        c->res->corruptions += n;
        return false;
    }
    for (uint64_t k = offset >> s->cluster_bits; k <= (end - 1) >> s->cluster_bits; k++) {
        check_counts_add(&c->refs, k, n);
    }
    return true;
}

/* ---- reading ---- */

typedef struct Batch {
    Qcow2Check *c;
    Coroutine *waiter;
    unsigned reads;             /* under way */
    bool waiting;
} Batch;

typedef struct BatchRead {
    Batch *batch;
    uint64_t offset, bytes;
    uint8_t *to;
    int *ret;                   /* of each cluster */
    size_t n;
} BatchRead;

static int coroutine_fn co_read(Qcow2Check *c, uint64_t offset, uint64_t bytes, void *to)
{
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, to, bytes);
    return qcow2_co_read_file(c->bs, offset, bytes, &qiov, 0, 0);
}

static void coroutine_fn batch_read_co(void *opaque)
{
    BatchRead *r = opaque;
    Batch *b = r->batch;
    int ret = co_read(b->c, r->offset, r->bytes, r->to);

    for (size_t i = 0; i < r->n; i++) {
        r->ret[i] = ret;
    }
    g_free(r);
    if (--b->reads == 0 && b->waiting) {
        aio_co_wake(b->waiter);
    }
}

/* Read tables [0, n) into @buf, neighbours at once. */
static void coroutine_fn batch_co_read(Qcow2Check *c, const uint64_t *offsets, size_t n, uint8_t *buf, int *ret)
{
    uint32_t size = c->s->cluster_size;
    Batch b = { c, qemu_coroutine_self(), 1 };

    for (size_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && offsets[i + run] == offsets[i] + run * size; run++) {
        }
        BatchRead *r = g_new(BatchRead, 1);

        *r = (BatchRead) { &b, offsets[i], (uint64_t)run * size, buf + i * size, ret + i, run };
        b.reads++;
        qemu_coroutine_enter(qemu_coroutine_create(batch_read_co, r));
    }
    if (--b.reads) {
        b.waiting = true;
        qemu_coroutine_yield();
    }
}

int coroutine_fn check_co_tables(Qcow2Check *c, const uint64_t *offsets, size_t n,
                                 int coroutine_fn (*fn)(Qcow2Check *c, size_t i, void *table, void *opaque), void *opaque)
{
    uint32_t size = c->s->cluster_size;
    size_t at_once = MIN(MAX(BATCH_BYTES / size, 1), n);
    g_autofree int *rets = g_new0(int, MAX(at_once, 1));
    uint8_t *buf;
    int ret = 0;

    if (!n) {
        return 0;
    }
    buf = qemu_try_blockalign(c->bs->file->bs, at_once * size);
    if (!buf) {
        return -ENOMEM;
    }
    for (size_t from = 0; from < n && ret >= 0; from += at_once) {
        size_t now = MIN(at_once, n - from);

        batch_co_read(c, offsets + from, now, buf, rets);
        for (size_t i = 0; i < now && ret >= 0; i++) {
            if (rets[i] < 0) {
                check_say(c, "ERROR: could not read the table at 0x%" PRIx64 ": %s", offsets[from + i],
                          strerror(-rets[i]));
                c->res->check_errors++;
                continue;
            }
            ret = fn(c, from + i, buf + i * size, opaque);
        }
    }
    qemu_vfree(buf);
    return ret;
}

/* ---- L2 ---- */

typedef struct L2Walk {
    uint32_t mult;              /* how many L1 entries name the table */
    bool active;
    uint64_t next;              /* where the next cluster would lie if nothing were fragmented */
} L2Walk;

static void note_flag(Qcow2Check *c, uint64_t offset, bool copied)
{
    uint64_t cluster = offset >> c->s->cluster_bits;
    unsigned i = cluster & (CHECK_PAGE - 1);
    CheckPage *p;

    if (cluster >= c->clusters) {
        c->suspect_flags = true;
        return;
    }
    p = check_counts_page(&c->refs, cluster);
    (copied ? p->copied : p->plain)[i / 8] |= 1 << (i % 8);
}

static void l2_packed(Qcow2Check *c, L2Walk *w, uint64_t entry)
{
    uint64_t host;
    uint32_t bytes;

    if (entry & QCOW2_COPIED) {
        check_say(c, "ERROR: coffset=0x%" PRIx64 ": copied flag must never be set for compressed clusters",
                  entry & ((UINT64_C(1) << (62 - (c->s->cluster_bits - 8))) - 1));
        if (w->active && (c->fix & BDRV_FIX_ERRORS)) {
            c->suspect_flags = true;        /* mended there */
        } else {
            c->res->corruptions += w->mult;
        }
    }
    if (c->s->incompatible & QCOW2_INCOMPAT_DATA_FILE) {
        check_say(c, "ERROR compressed cluster with data file, entry=0x%" PRIx64, entry);
        c->res->corruptions += w->mult;
        return;
    }
    qcow2_packed_place(c->s, entry, &host, &bytes);
    check_region(c, host, bytes, w->mult);
    if (w->active) {
        c->res->allocated_clusters++;
        c->res->compressed_clusters++;
        /* The peer counts all of them as fragmented. */
        c->res->fragmented_clusters++;
    }
}

static void l2_standard(Qcow2Check *c, L2Walk *w, uint64_t entry, uint64_t offset, bool zero)
{
    Qcow2State *s = c->s;

    if (qcow2_in_cluster(s, offset)) {
        check_say(c, "ERROR offset=%" PRIx64 ": %s is not properly aligned; L2 entry corrupted.", offset,
                  zero ? "Preallocated zero cluster" : "Data cluster");
        c->res->corruptions += w->mult;
        if (w->active) {
            c->suspect_flags = true;
        }
    }
    if (w->active) {
        c->res->allocated_clusters++;
        c->res->fragmented_clusters += w->next && offset != w->next;
        w->next = offset + s->cluster_size;
    }
    if (s->incompatible & QCOW2_INCOMPAT_DATA_FILE) {
        if (w->active && !(entry & QCOW2_COPIED)) {
            c->suspect_flags = true;
        }
        return;
    }
    check_region(c, offset, s->cluster_size, w->mult);
    if (w->active) {
        note_flag(c, offset, entry & QCOW2_COPIED);
    }
}

static void l2_walk(Qcow2Check *c, L2Walk *w, const uint64_t *table)
{
    Qcow2State *s = c->s;
    bool extended = s->incompatible & QCOW2_INCOMPAT_EXT_L2;
    unsigned step = extended ? 2 : 1;
    uint64_t words = s->cluster_size / 8;

    for (uint64_t i = 0; i < words; i += step) {
        uint64_t entry = GUINT64_FROM_BE(table[i]), bits = extended ? GUINT64_FROM_BE(table[i + 1]) : 0;

        if (!(entry | bits)) {
            continue;
        }
        if (entry & QCOW2_COMPRESSED) {
            l2_packed(c, w, entry);
            continue;
        }
        if (entry & ~(QCOW2_COPIED | QCOW2_OFFSET_MASK | (s->version >= 3 && !extended ? QCOW2_ZERO : 0))) {
            check_say(c, "ERROR found l2 entry with reserved bits set: %" PRIx64, entry);
            c->res->corruptions += w->mult;
        }
        if (extended && (bits >> 32) & (uint32_t)bits) {
            check_say(c, "ERROR L2 entry %" PRIx64 " has subclusters that are both allocated and zero: %" PRIx64,
                      entry, bits);
            c->res->corruptions += w->mult;
        }
        /* In a data file cluster 0 is one like the others. */
        if (!(entry & QCOW2_OFFSET_MASK) &&
            !((s->incompatible & QCOW2_INCOMPAT_DATA_FILE) && (entry & QCOW2_COPIED))) {
            if (extended && (uint32_t)bits) {
                check_say(c, "ERROR L2 entry %" PRIx64 " has allocated subclusters and no cluster: %" PRIx64,
                          entry, bits);
                c->res->corruptions += w->mult;
            }
            continue;
        }
        l2_standard(c, w, entry, entry & QCOW2_OFFSET_MASK, !extended && (entry & QCOW2_ZERO));
    }
}

static int coroutine_fn l2_table_fn(Qcow2Check *c, size_t i, void *table, void *opaque)
{
    const uint64_t *offsets = opaque;
    uint64_t cluster = offsets[i] >> c->s->cluster_bits;
    CheckPage *p = check_counts_page(&c->tables, cluster);
    unsigned bit = cluster & (CHECK_PAGE - 1);
    L2Walk w = { .mult = check_page_get(p, bit), .active = p->copied[bit / 8] >> (bit % 8) & 1 };

    l2_walk(c, &w, table);
    return 0;
}

/* ---- L1 ---- */

/* Count what an L1 table names; new L2 tables go to @found. */
static void l1_walk(Qcow2Check *c, const uint64_t *l1, uint32_t n, bool active, GArray *found)
{
    Qcow2State *s = c->s;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t entry = l1[i], offset = entry & QCOW2_OFFSET_MASK, cluster = offset >> s->cluster_bits;

        if (!entry) {
            continue;
        }
        if (entry & ~(QCOW2_COPIED | QCOW2_OFFSET_MASK)) {
            check_say(c, "ERROR found L1 entry with reserved bits set: %" PRIx64, entry);
            c->res->corruptions++;
        }
        if (!offset) {
            continue;
        }
        if (qcow2_in_cluster(s, offset)) {
            check_say(c, "ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", offset);
            c->res->corruptions++;
            continue;
        }
        if (!check_region(c, offset, s->cluster_size, 1)) {
            continue;
        }
        if (!check_counts_get(&c->tables, cluster)) {
            g_array_append_val(found, offset);
        }
        check_counts_add(&c->tables, cluster, 1);
        if (active) {
            CheckPage *p = check_counts_page(&c->tables, cluster);

            p->copied[(cluster & (CHECK_PAGE - 1)) / 8] |= 1 << (cluster % 8);
            note_flag(c, offset, entry & QCOW2_COPIED);
        }
    }
}

/* ---- snapshots ---- */

typedef struct SnapshotHead {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint16_t id_len, name_len;
    uint32_t date_s, date_ns;
    uint64_t clock_ns;
    uint32_t vm_state_bytes, extra_bytes;
} __attribute__((packed)) SnapshotHead;

/* In pieces, without the holes of the file: many long tables that are none cost no time. */
static int coroutine_fn snapshot_co_l1(Qcow2Check *c, uint64_t offset, uint32_t size, GArray *found)
{
    uint64_t bytes = size * 8ULL, done = 0;
    uint64_t *l1;
    int ret = 0;

    if (!check_region(c, offset, bytes, 1) || !size) {
        return 0;
    }
    l1 = g_try_malloc(MIN(bytes, L1_PIECE));
    if (!l1) {
        return -ENOMEM;
    }
    while (done < bytes && ret >= 0) {
        int64_t n = 0;

        ret = bdrv_co_block_status(c->bs->file->bs, offset + done, bytes - done, &n, NULL, NULL);
        if (ret < 0 || !n || (n & 7)) {
            n = bytes - done;           /* reading tells */
        } else if (ret & BDRV_BLOCK_ZERO) {
            done += n;
            continue;
        }
        n = MIN(n, L1_PIECE);
        ret = co_read(c, offset + done, n, l1);
        for (int64_t i = 0; i < n / 8 && ret >= 0; i++) {
            l1[i] = GUINT64_FROM_BE(l1[i]);
        }
        if (ret >= 0) {
            l1_walk(c, l1, n / 8, false, found);
        }
        done += n;
    }
    if (ret < 0) {
        check_say(c, "ERROR: could not read the L1 table of a snapshot at 0x%" PRIx64 ": %s", offset, strerror(-ret));
        c->res->check_errors++;
    }
    g_free(l1);
    return 0;
}

/* Something that writing the table anew mends. */
static void snapshot_error(Qcow2Check *c)
{
    c->snapshot_errors++;
    c->res->corruptions++;
}

static void check_snapshot_entry(Qcow2Check *c, uint32_t i, uint32_t extra)
{
    bool fixing = c->fix & BDRV_FIX_ERRORS;

    /* Version 2 has no extra data; later ones say how long the disk was. */
    if (c->s->version >= 3 && extra < QCOW2_SNAPSHOT_EXTRA_MIN) {
        check_say(c, "%s snapshot table entry %u is incomplete", fixing ? "Repairing" : "ERROR", i);
        snapshot_error(c);
    } else if (extra > QCOW2_SNAPSHOT_EXTRA_MAX) {
        check_say(c, "%s too much extra metadata in snapshot table entry %u (%u > %d)", fixing ? "Discarding" : "ERROR", i,
                  extra, QCOW2_SNAPSHOT_EXTRA_MAX);
        snapshot_error(c);
    }
}

/* "1 (name)", for people; @at: of the entry. */
static char *coroutine_fn snapshot_co_title(Qcow2Check *c, uint64_t at, const SnapshotHead *h)
{
    uint16_t id = GUINT16_FROM_BE(h->id_len), name = GUINT16_FROM_BE(h->name_len);
    g_autofree char *text = g_malloc0(id + name + 1);

    if (co_read(c, at + sizeof(*h) + GUINT32_FROM_BE(h->extra_bytes), id + name, text) < 0) {
        return g_strdup("?");
    }
    return g_strdup_printf("%.*s (%.*s)", id, text, name, text + id);
}

static int coroutine_fn check_co_snapshots(Qcow2Check *c, GArray *found)
{
    Qcow2State *s = c->s;
    uint64_t at = s->snapshots_offset, budget = (uint64_t)c->file_bytes * L1_BYTES_FACTOR + MiB;

    if (s->nb_snapshots > QCOW2_MAX_SNAPSHOTS) {
        check_say(c, "%s %u overhanging snapshots", c->fix & BDRV_FIX_ERRORS ? "Discarding" : "ERROR",
                  s->nb_snapshots - QCOW2_MAX_SNAPSHOTS);
        snapshot_error(c);
    }
    for (uint32_t i = 0; i < MIN(s->nb_snapshots, QCOW2_MAX_SNAPSHOTS); i++) {
        SnapshotHead h;
        uint64_t offset, l1_bytes, entry = at;
        uint32_t size;
        int ret;

        ret = at > (uint64_t)c->file_bytes ? -EFBIG : co_read(c, at, sizeof(h), &h);
        if (ret < 0 && ret != -EFBIG && at + sizeof(h) <= (uint64_t)c->file_bytes) {
            check_say(c, "ERROR: could not read the snapshot table: %s", strerror(-ret));
            c->res->check_errors++;
            return 0;
        }
        if (ret < 0) {
            check_say(c, "%s snapshot table entry %u lies behind the end of the file",
                      c->fix & BDRV_FIX_ERRORS ? "Discarding" : "ERROR", i);
            snapshot_error(c);
            break;
        }
        check_snapshot_entry(c, i, GUINT32_FROM_BE(h.extra_bytes));
        offset = GUINT64_FROM_BE(h.l1_offset);
        size = GUINT32_FROM_BE(h.l1_size);
        l1_bytes = size * 8ULL;
        at += QEMU_ALIGN_UP(sizeof(h) + (uint64_t)GUINT32_FROM_BE(h.extra_bytes) + GUINT16_FROM_BE(h.id_len) +
                            GUINT16_FROM_BE(h.name_len), 8);
        if (qcow2_in_cluster(s, offset) || l1_bytes > QCOW2_MAX_L1_BYTES || l1_bytes > budget) {
            g_autofree char *title = snapshot_co_title(c, entry, &h);

            check_say(c, "ERROR snapshot %s l1_offset=%#" PRIx64 ": L1 table is %s; snapshot table entry corrupted", title,
                      offset, qcow2_in_cluster(c->s, offset) ? "not cluster aligned" : "too long");
            c->res->corruptions++;
            continue;
        }
        budget -= l1_bytes;
        ret = snapshot_co_l1(c, offset, size, found);
        if (ret < 0) {
            return ret;
        }
    }
    if (check_region(c, s->snapshots_offset, at - s->snapshots_offset, 1)) {
        c->snapshot_bytes = at - s->snapshots_offset;
    }
    return 0;
}

/* ---- bitmaps ---- */

static int coroutine_fn check_co_bitmap_table(Qcow2Check *c, uint64_t offset, uint32_t n)
{
    uint64_t *table;
    int ret;

    if (!check_region(c, offset, n * 8ULL, 1) || !n) {
        return 0;
    }
    table = g_try_malloc(n * 8ULL);
    if (!table) {
        return -ENOMEM;
    }
    ret = co_read(c, offset, n * 8ULL, table);
    for (uint32_t i = 0; i < n && ret >= 0; i++) {
        uint64_t entry = GUINT64_FROM_BE(table[i]), at = entry & QCOW2_OFFSET_MASK;

        if ((entry & ~(QCOW2_OFFSET_MASK | 1)) || ((entry & 1) && at) || qcow2_in_cluster(c->s, at)) {
            check_say(c, "ERROR bitmap table entry %u at 0x%" PRIx64 " is corrupted: %" PRIx64, i, offset, entry);
            c->res->corruptions++;
        } else if (at) {
            check_region(c, at, c->s->cluster_size, 1);
        }
    }
    g_free(table);
    if (ret < 0) {
        c->res->check_errors++;
    }
    return 0;
}

typedef struct BitmapHead {
    uint64_t table_offset;
    uint32_t table_size, flags;
    uint8_t type, granularity_bits;
    uint16_t name_bytes;
    uint32_t extra_bytes;
} __attribute__((packed)) BitmapHead;

static int coroutine_fn check_co_bitmaps(Qcow2Check *c, const Qcow2Ext *ext)
{
    uint64_t budget = c->file_bytes;    /* no table lies where another does */
    struct { uint32_t n, reserved; uint64_t bytes, offset; } __attribute__((packed)) e;
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0, bytes, offset;

    if (ext->len < sizeof(e)) {
        return 0;
    }
    memcpy(&e, ext->data, sizeof(e));
    bytes = GUINT64_FROM_BE(e.bytes);
    offset = GUINT64_FROM_BE(e.offset);
    if (bytes > DIRECTORY_MAX || qcow2_in_cluster(c->s, offset)) {
        check_say(c, "ERROR the bitmap directory at 0x%" PRIx64 " of %" PRIu64 " bytes cannot be", offset, bytes);
        c->res->corruptions++;
        return 0;
    }
    if (!check_region(c, offset, bytes, 1)) {
        return 0;
    }
    dir = g_try_malloc(bytes);
    if (!dir || co_read(c, offset, bytes, dir) < 0) {
        c->res->check_errors++;
        return 0;
    }
    for (uint32_t i = 0; i < MIN(GUINT32_FROM_BE(e.n), BITMAPS_MAX); i++) {
        BitmapHead h;
        uint64_t len;

        if (at + sizeof(h) > bytes) {
            check_say(c, "ERROR the bitmap directory ends within entry %u", i);
            c->res->corruptions++;
            break;
        }
        memcpy(&h, dir + at, sizeof(h));
        len = QEMU_ALIGN_UP(sizeof(h) + (uint64_t)GUINT32_FROM_BE(h.extra_bytes) + GUINT16_FROM_BE(h.name_bytes), 8);
        uint64_t table_bytes = GUINT32_FROM_BE(h.table_size) * 8ULL;

        if (len > bytes - at || table_bytes > QCOW2_MAX_L1_BYTES || table_bytes > budget) {
            check_say(c, "ERROR entry %u of the bitmap directory is corrupted", i);
            c->res->corruptions++;
            break;
        }
        at += len;
        budget -= table_bytes;
        int ret = check_co_bitmap_table(c, GUINT64_FROM_BE(h.table_offset), GUINT32_FROM_BE(h.table_size));

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Bitmaps that are damaged go, before anything is counted: they only say what a backup may leave out. */
static int coroutine_fn check_co_mend_bitmaps(Qcow2Check *c)
{
    unsigned dropped;
    int ret = qcow2_co_bitmaps_mend(c->bs, &dropped);

    if (!ret && dropped) {
        check_say(c, "Repairing the bitmap directory: %u damaged bitmap%s dropped", dropped, dropped > 1 ? "s are" : " is");
        c->res->corruptions_fixed += dropped;
    }
    return ret;
}

static int coroutine_fn check_co_extensions(Qcow2Check *c)
{
    GArray *a = c->s->extensions;
    bool bitmaps = false, crypto = false;       /* a second one means nothing */
    int ret = 0;

    if (qcow2_bitmaps_broken(c->s)) {
        check_say(c, "ERROR %s", qcow2_bitmaps_broken(c->s));
        c->res->corruptions++;
    }
    for (guint i = 0; a && i < a->len && ret >= 0; i++) {
        const Qcow2Ext *ext = &g_array_index(a, Qcow2Ext, i);

        if (ext->magic == QCOW2_EXT_BITMAPS && !bitmaps) {
            bitmaps = true;
            ret = check_co_bitmaps(c, ext);
        } else if (ext->magic == QCOW2_EXT_CRYPTO && ext->len >= 16 && !crypto) {
            crypto = true;
            check_region(c, be64_at(ext->data, 0), be64_at(ext->data, 1), 1);
        }
    }
    return ret;
}

/* ---- all of it ---- */

static int coroutine_fn check_co_count(Qcow2Check *c)
{
    Qcow2State *s = c->s;
    GArray *found = g_array_new(false, false, sizeof(uint64_t));
    int ret;

    check_region(c, 0, s->cluster_size, 1);
    check_region(c, s->l1_offset, s->l1_size * 8ULL, 1);
    l1_walk(c, s->l1_table, s->l1_size, true, found);
    ret = check_co_snapshots(c, found);
    if (ret >= 0) {
        ret = check_co_tables(c, (uint64_t *)found->data, found->len, l2_table_fn, found->data);
    }
    g_array_free(found, true);
    if (ret >= 0) {
        ret = check_co_extensions(c);
    }
    if (ret >= 0) {
        check_refcount_structure(c, true);
    }
    if (ret >= 0 && c->scattered) {
        check_say(c, "ERROR: the image refers to more places than its file can hold");
        ret = -EFBIG;
    }
    return ret;
}

/* The features that said something is wrong, when nothing is any more. */
static int coroutine_fn clear_marks(Qcow2Check *c)
{
    uint64_t marks = QCOW2_INCOMPAT_CORRUPT | QCOW2_INCOMPAT_DIRTY;

    if (!(c->s->incompatible & marks)) {
        return 0;
    }
    c->s->incompatible &= ~marks;
    int ret = bdrv_co_flush(c->bs->file->bs);

    if (!ret) {
        ret = qcow2_co_write_header(c->bs);
    }
    return ret ? ret : bdrv_co_flush(c->bs->file->bs);
}

static int coroutine_fn check_co_run(Qcow2Check *c)
{
    bool fixing = c->fix & BDRV_FIX_ERRORS;
    int ret = fixing ? check_co_mend_bitmaps(c) : 0;

    if (!ret) {
        ret = check_co_count(c);
    }

    if (c->res->check_errors) {
        /* What the tables that could not be read refer to seems to be free. */
        c->fix &= ~BDRV_FIX_LEAKS;
        c->partial = true;
    }
    if (ret >= 0) {
        ret = check_co_refcounts(c);
    }
    if (ret >= 0 && fixing && c->rebuild && !c->partial) {
        ret = check_co_rebuild(c);
        c->suspect_flags = true;        /* the old structure may have shared clusters with data */
    }
    /* Lowering refcounts makes flags wrong; where all else is right they go with the leaks. */
    c->fix_flags = fixing || ((c->fix & BDRV_FIX_LEAKS) && !c->res->corruptions && !c->res->check_errors);
    if (ret >= 0 && c->suspect_flags) {
        ret = check_co_copied_flags(c);
    }
    if (ret >= 0 && c->downs && !(fixing && c->rebuild) && (c->fix & BDRV_FIX_LEAKS)) {
        ret = check_co_lower(c);
    }
    if (ret >= 0 && c->fix) {
        ret = bdrv_co_flush(c->bs->file->bs);
    }
    if (ret >= 0 && c->fix && !c->res->corruptions && !c->res->check_errors) {
        ret = clear_marks(c);
    }
    return ret;
}

/* When all else is right: the table of snapshots, in a place that is counted, as when one is made. */
static int coroutine_fn check_co_mend_snapshots(Qcow2Check *c)
{
    int ret = qcow2_co_snapshots_rewrite(c->bs, c->snapshot_bytes);

    if (!ret) {
        c->res->corruptions -= c->snapshot_errors;
        c->res->corruptions_fixed += c->snapshot_errors;
        ret = clear_marks(c);
    }
    return ret;
}

/* A cluster that is there takes a block of the file system at least, and tables name what is there, or
 * neighbours that were allocated together. */
uint64_t coroutine_fn check_co_pages_max(BlockDriverState *bs)
{
    int64_t allocated = bdrv_co_get_allocated_file_size(bs->file->bs);

    allocated = allocated < 0 ? bdrv_co_getlength(bs->file->bs) : allocated;
    return PAGES_FREE + MAX(allocated, 0) / CHECK_BLOCK;
}

int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix)
{
    Qcow2State *s = bs->opaque;
    Qcow2Check c = { .bs = bs, .s = s, .res = res, .fix = fix };
    int ret = fix && s->header_lost ? -EIO : 0;     /* it would be put in order for another header */

    if (!ret && !bs->read_only) {
        ret = qcow2_co_settle(bs);
    }
    c.file_bytes = bdrv_co_getlength(bs->file->bs);
    if (ret < 0 || c.file_bytes < 0) {
        return ret < 0 ? ret : c.file_bytes;
    }
    c.clusters = DIV_ROUND_UP(c.file_bytes, s->cluster_size);
    if (c.clusters > s->cluster_max) {
        return -EFBIG;
    }
    res->total_clusters = DIV_ROUND_UP(s->length_bytes, s->cluster_size);
    c.pages_max = check_co_pages_max(bs);
    if (!check_counts_init(&c.refs, c.clusters) || !check_counts_init(&c.tables, c.clusters)) {
        ret = -ENOMEM;
    } else {
        ret = check_co_run(&c);
    }
    check_counts_free(&c.refs);
    check_counts_free(&c.tables);
    if (fix) {
        int again = qcow2_co_reload(bs);

        ret = ret < 0 ? ret : again;
    }
    if (ret >= 0 && (fix & BDRV_FIX_ERRORS) && c.snapshot_errors && !res->check_errors &&
        res->corruptions == c.snapshot_errors) {
        int again;

        ret = check_co_mend_snapshots(&c);
        again = qcow2_co_reload(bs);
        ret = ret < 0 ? ret : again;
    }
    return ret < 0 ? ret : 0;
}
