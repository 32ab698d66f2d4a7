/* SPDX-License-Identifier: MIT */
/* qcow2_crash.c: after a power failure an image may leak clusters, but is never corrupt, and what
 * was flushed is there.
 *
 * Method: the image lies on a disk in memory with a volatile cache. Several writers change it at
 * random (writes, zeroes, discards, flushes), requests on the disk complete late and out of
 * order, and some fail. At random moments the power fails on a copy: of what was written since
 * the last flush an arbitrary part, sector by sector, survives. An independent reader then checks
 * the structure and compares each guest sector with the values that it may have. Between rounds snapshots are
 * made, applied and deleted: a power failure leaves all of the old state or all of the new one, and every
 * snapshot shows what the disk held.
 *
 * Environment: QCOW2_CRASH_SEED runs one seed, QCOW2_CRASH_SEEDS that many (default 150).
 */
#include "block/snapshot.h"
#include "tests/unit/driver_util.h"
#include "tests/unit/qcow2_image.h"

#define SECTOR 512

/* ---- the disk ---- */

typedef struct PendingWrite {
    uint64_t offset, bytes, generation;
    uint8_t *data;
} PendingWrite;

typedef struct Disk {
    GByteArray *now;            /* as it reads */
    GByteArray *durable;
    GPtrArray *pending;         /* PendingWrite, not yet durable, in order of completion */
} Disk;

/* The second is for an external data file. */
static Disk disks[2];

static struct {
    Prng prng;
    unsigned fail_one_in;       /* 0: never */
    bool quiet;                 /* no failures, no crashes: setting up, or ending */
    void (*after_write)(void);
} disk;

static Disk *disk_of(BlockDriverState *bs)
{
    return *(Disk **)bs->opaque;
}

static void bytes_put(GByteArray *a, uint64_t offset, const uint8_t *data, uint64_t bytes)
{
    if (a->len < offset + bytes) {
        guint old = a->len;

        g_byte_array_set_size(a, offset + bytes);
        memset(a->data + old, 0, a->len - old);
    }
    memcpy(a->data + offset, data, bytes);
}

static void pending_free(gpointer p)
{
    g_free(((PendingWrite *)p)->data);
    g_free(p);
}

static bool disk_fails(void)
{
    return !disk.quiet && disk.fail_one_in && !prng_below(&disk.prng, disk.fail_one_in);
}

/* Others may overtake. */
static void coroutine_fn disk_co_delay(void)
{
    for (unsigned i = prng_below(&disk.prng, 4); i > 0; i--) {
        aio_co_yield_fair();
    }
}

static int coroutine_fn disk_co_put(Disk *d, uint64_t offset, uint8_t *data, uint64_t bytes)
{
    PendingWrite *w = g_new(PendingWrite, 1);

    disk_co_delay();
    bool failed = disk_fails();

    if (failed) {
        /* Part of it may have been done all the same. */
        bytes = prng_below(&disk.prng, bytes / SECTOR + 1) * SECTOR;
    }
    *w = (PendingWrite) { .offset = offset, .bytes = bytes, .data = data };
    bytes_put(d->now, offset, data, bytes);
    g_ptr_array_add(d->pending, w);
    if (!disk.quiet && disk.after_write) {
        disk.after_write();
    }
    disk_co_delay();
    return failed ? -EIO : 0;
}

static int coroutine_fn disk_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    uint8_t *data = g_malloc(bytes);

    qemu_iovec_to_buf(qiov, qiov_offset, data, bytes);
    return disk_co_put(disk_of(bs), offset, data, bytes);
}

static int coroutine_fn disk_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              BdrvRequestFlags flags)
{
    return disk_co_put(disk_of(bs), offset, g_malloc0(bytes), bytes);
}

static int coroutine_fn disk_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    /* Garbage, not zeroes: nobody may rely on what was given back. */
    uint8_t *data = g_malloc(bytes);

    memset(data, 0xdd, bytes);
    bytes = MIN(bytes, (int64_t)disk_of(bs)->now->len - offset);
    if (bytes <= 0) {
        g_free(data);
        return 0;
    }
    return disk_co_put(disk_of(bs), offset, data, bytes);
}

static int coroutine_fn disk_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    Disk *d = disk_of(bs);

    disk_co_delay();
    int64_t n = CLAMP((int64_t)d->now->len - offset, 0, bytes);

    qemu_iovec_from_buf(qiov, qiov_offset, d->now->data + offset, n);
    qemu_iovec_memset(qiov, qiov_offset + n, 0, bytes - n);
    disk_co_delay();
    return disk_fails() ? -EIO : 0;
}

static int coroutine_fn disk_co_flush(BlockDriverState *bs)
{
    Disk *d = disk_of(bs);
    guint n = d->pending->len;

    disk_co_delay();
    if (disk_fails()) {
        return -EIO;
    }
    n = MIN(n, d->pending->len);
    for (guint i = 0; i < n; i++) {
        PendingWrite *w = d->pending->pdata[i];

        bytes_put(d->durable, w->offset, w->data, w->bytes);
    }
    if (n) {
        g_ptr_array_remove_range(d->pending, 0, n);
    }
    disk_co_delay();
    return 0;
}

static int64_t coroutine_fn disk_co_getlength(BlockDriverState *bs)
{
    return disk_of(bs)->now->len;
}

static int coroutine_fn disk_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                         PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    Disk *d = disk_of(bs);
    guint old = d->now->len;

    g_assert_cmpint(prealloc, ==, PREALLOC_MODE_OFF);
    g_byte_array_set_size(d->now, offset);
    if (d->now->len > old) {
        memset(d->now->data + old, 0, d->now->len - old);
    }
    return 0;
}

static int coroutine_fn disk_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags,
                                     Error **errp)
{
    return 0;
}

static void disk_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    bl->request_alignment = SECTOR;
}

static const BlockDriver disk_driver = {
    .format_name = "test-disk",
    .kind = BLOCK_DRIVER_PROTOCOL,
    .instance_size = sizeof(Disk *),
    .schema_driver = BLOCKDEV_DRIVER__MAX,
    .co_open = disk_co_open,
    .refresh_limits = disk_refresh_limits,
    .co_preadv = disk_co_preadv,
    .co_pwritev = disk_co_pwritev,
    .co_pwrite_zeroes = disk_co_pwrite_zeroes,
    .co_pdiscard = disk_co_pdiscard,
    .co_flush = disk_co_flush,
    .co_getlength = disk_co_getlength,
    .co_truncate = disk_co_truncate,
};

/* What a power failure leaves, now. */
static GByteArray *disk_after_crash(const Disk *d)
{
    GByteArray *image = g_byte_array_new();
    unsigned keep_of_16 = prng_below(&disk.prng, 17);

    bytes_put(image, 0, d->durable->data, d->durable->len);
    for (guint i = 0; i < d->pending->len; i++) {
        PendingWrite *w = d->pending->pdata[i];

        for (uint64_t at = 0; at < w->bytes; at += SECTOR) {
            if (prng_below(&disk.prng, 16) < keep_of_16) {
                bytes_put(image, w->offset + at, w->data + at, MIN(SECTOR, w->bytes - at));
            }
        }
    }
    return image;
}

/* ---- the guest ---- */

/* What a sector may hold: the values written to it, numbered from 0 on. Before `known` - 1 they
 * cannot be read any more; before `durable` not even after a crash. Each write has its own value;
 * one that failed, or a discard, leaves open whether the value before it is still there. */
typedef struct Sector {
    GArray *values;             /* uint64_t; the first has number `first` */
    uint64_t first, known;
    bool busy;                  /* a request on it is on its way: guests do not race themselves */
} Sector;

/* What a snapshot has to show. */
typedef struct Snap {
    uint64_t id, *values;       /* a value a sector */
    bool coming, going;         /* it may be there, or not */
} Snap;

static struct {
    GPtrArray *snaps;
    Snap *applying;             /* the disk may show this one, as a whole */
    uint64_t n, n_backing;      /* sectors */
    Sector *sectors;
    uint64_t next_value, seed, crashes;
    unsigned workers, ops, crash_one_in;
    BdrvChild *root;
    uint64_t cluster;           /* 0: nothing is compressed */
} guest;

static uint64_t backing_value(uint64_t sector)
{
    return sector < guest.n_backing ? sector * 2654435761u + 1 : 0;
}

static bool sector_may_be(const Sector *sec, uint64_t from, uint64_t value)
{
    for (uint64_t i = MAX(from, sec->first); i < sec->first + sec->values->len; i++) {
        if (g_array_index(sec->values, uint64_t, i - sec->first) == value) {
            return true;
        }
    }
    return false;
}

static uint64_t image_value(const Image *im, uint64_t sector)
{
    uint64_t value;

    return image_sector(im, sector, &value) ? value : backing_value(sector);
}

static void guest_check_snapshots(Image *im)
{
    uint64_t at = im->snapshots_offset, seen = 0;
    Image view;

    for (uint64_t k = 0; k < im->n_snapshots; k++) {
        uint64_t id = image_snapshot(im, &at, &view);
        Snap *snap = NULL;

        for (guint i = 0; i < guest.snaps->len; i++) {
            Snap *s = guest.snaps->pdata[i];

            snap = s->id == id ? s : snap;
        }
        if (!snap) {
            g_error("seed %" PRIu64 ": snapshot %" PRIu64 " should not be there", guest.seed, id);
        }
        seen += !snap->coming && !snap->going;
        for (uint64_t i = 0; i < guest.n; i++) {
            if (image_value(&view, i) != snap->values[i]) {
                g_error("seed %" PRIu64 ": sector %" PRIu64 " of snapshot %" PRIu64 " holds %#" PRIx64 ", not %#" PRIx64,
                        guest.seed, i, id, image_value(&view, i), snap->values[i]);
            }
        }
    }
    for (guint i = 0; i < guest.snaps->len; i++) {
        const Snap *s = guest.snaps->pdata[i];

        seen -= !s->coming && !s->going;
    }
    g_assert_cmpuint(seen, ==, 0);
}

/* Does the disk show the snapshot that is being applied? */
static bool guest_shows_applied(const Image *im)
{
    for (uint64_t i = 0; guest.applying && i < guest.n; i++) {
        if (image_value(im, i) != guest.applying->values[i]) {
            return false;
        }
    }
    return guest.applying;
}

static void guest_check_image(const GByteArray *image, const GByteArray *data_file, bool leaks_allowed)
{
    Image im;

    image_init(&im, image->data, image->len);
    if (im.external) {
        im.guest_data = data_file->data;
        im.guest_bytes = data_file->len;
    }
    image_check(&im);
    if (im.errors || (im.leaks && !leaks_allowed)) {
        g_error("seed %" PRIu64 ": %" PRIu64 " errors, %" PRIu64 " leaks: %s", guest.seed, im.errors, im.leaks,
                im.first_error);
    }
    guest_check_snapshots(&im);
    if (guest_shows_applied(&im)) {
        return;
    }
    for (uint64_t i = 0; i < guest.n; i++) {
        const Sector *sec = &guest.sectors[i];
        uint64_t value = image_value(&im, i);

        if (!sector_may_be(sec, 0, value)) {
            g_error("seed %" PRIu64 ": sector %" PRIu64 " holds %#" PRIx64 " after the crash; %u values are "
                    "allowed, the oldest %#" PRIx64, guest.seed, i, value, sec->values->len,
                    g_array_index(sec->values, uint64_t, 0));
        }
    }
}

static void guest_maybe_crash(void)
{
    if (prng_below(&disk.prng, guest.crash_one_in)) {
        return;
    }
    GByteArray *image = disk_after_crash(&disks[0]), *data_file = disk_after_crash(&disks[1]);

    guest.crashes++;
    guest_check_image(image, data_file, true);
    g_byte_array_unref(image);
    g_byte_array_unref(data_file);
}

/* A request on [at, +n) begins that will leave @value there. */
static void sectors_begin(uint64_t at, uint64_t n, bool changes, uint64_t value)
{
    for (Sector *sec = &guest.sectors[at]; sec < &guest.sectors[at + n]; sec++) {
        sec->busy = true;
        if (changes) {
            g_array_append_val(sec->values, value);
        }
    }
}

static void sectors_end(uint64_t at, uint64_t n, bool certain)
{
    for (Sector *sec = &guest.sectors[at]; sec < &guest.sectors[at + n]; sec++) {
        sec->busy = false;
        if (certain) {
            sec->known = sec->first + sec->values->len;
        }
    }
}

static void coroutine_fn guest_co_write(uint64_t at, uint64_t n, bool compressed)
{
    uint64_t value = guest.next_value++, *buf = g_new(uint64_t, n * SECTOR / 8);

    for (uint64_t i = 0; i < n * SECTOR / 8; i++) {
        buf[i] = GUINT64_TO_BE(value);
    }
    sectors_begin(at, n, true, value);
    sectors_end(at, n, !bdrv_co_pwrite(guest.root, at * SECTOR, n * SECTOR, buf, compressed ? BDRV_REQ_WRITE_COMPRESSED : 0));
    g_free(buf);
}

static void coroutine_fn guest_co_read(uint64_t at, uint64_t n)
{
    uint64_t *buf = g_new(uint64_t, n * SECTOR / 8);

    sectors_begin(at, n, false, 0);
    if (!bdrv_co_pread(guest.root, at * SECTOR, n * SECTOR, buf, 0)) {
        for (uint64_t i = 0; i < n; i++) {
            Sector *sec = &guest.sectors[at + i];
            uint64_t value = GUINT64_FROM_BE(buf[i * SECTOR / 8]);

            if (!sector_may_be(sec, sec->known - 1, value)) {
                g_error("seed %" PRIu64 ": sector %" PRIu64 " reads %#" PRIx64 ", not %#" PRIx64, guest.seed,
                        at + i, value, g_array_index(sec->values, uint64_t, sec->values->len - 1));
            }
        }
    }
    sectors_end(at, n, false);
    g_free(buf);
}

/* What was known before the flush cannot be undone after it. */
static void coroutine_fn guest_co_flush(void)
{
    uint64_t *known = g_new(uint64_t, guest.n);

    for (uint64_t i = 0; i < guest.n; i++) {
        known[i] = guest.sectors[i].known;
    }
    if (!bdrv_co_flush(guest.root->bs)) {
        for (uint64_t i = 0; i < guest.n; i++) {
            Sector *sec = &guest.sectors[i];

            if (known[i] - 1 > sec->first) {
                g_array_remove_range(sec->values, 0, known[i] - 1 - sec->first);
                sec->first = known[i] - 1;
            }
        }
    }
    g_free(known);
}

static bool guest_is_busy(uint64_t at, uint64_t n)
{
    for (uint64_t i = at; i < at + n; i++) {
        if (guest.sectors[i].busy) {
            return true;
        }
    }
    return false;
}

static void coroutine_fn guest_co_op(void)
{
    uint64_t at = prng_below(&disk.prng, guest.n);
    uint64_t n = 1 + prng_below(&disk.prng, prng_below(&disk.prng, 8) ? 16 : 600);
    unsigned what = prng_below(&disk.prng, 100);
    bool compressed = guest.cluster && what < 60 && what % 3 == 0;

    if (compressed) {
        at = QEMU_ALIGN_DOWN(at, guest.cluster);
        n = QEMU_ALIGN_UP(MIN(n, 2 * guest.cluster), guest.cluster);
    }
    n = MIN(n, guest.n - at);
    if (what >= 97) {
        guest_co_flush();
    } else if (guest_is_busy(at, n)) {
        aio_co_yield_fair();
    } else if (what < 60) {
        guest_co_write(at, n, compressed);
    } else if (what < 75) {
        guest_co_read(at, n);
    } else if (what < 88) {
        sectors_begin(at, n, true, 0);
        sectors_end(at, n, !bdrv_co_pwrite_zeroes(guest.root, at * SECTOR, n * SECTOR,
                                                  what & 1 ? BDRV_REQ_MAY_UNMAP : 0));
    } else {
        sectors_begin(at, n, true, 0);
        bdrv_co_pdiscard(guest.root, at * SECTOR, n * SECTOR);
        sectors_end(at, n, false);
    }
}

static void coroutine_fn guest_co_worker(void *opaque)
{
    for (unsigned i = 0; i < guest.ops; i++) {
        guest_co_op();
    }
    guest.workers--;
    aio_wait_kick();
}

/* ---- snapshots ---- */

static void snap_free(gpointer p)
{
    g_free(((Snap *)p)->values);
    g_free(p);
}

static char *snap_id(const Snap *s)
{
    return g_strdup_printf("%" PRIu64, s->id);
}

/* What the disk shows, at rest. */
static void coroutine_fn guest_co_look(uint64_t *values)
{
    uint64_t *buf = g_new(uint64_t, guest.n * SECTOR / 8);

    g_assert_cmpint(bdrv_co_pread(guest.root, 0, guest.n * SECTOR, buf, 0), ==, 0);
    for (uint64_t i = 0; i < guest.n; i++) {
        values[i] = GUINT64_FROM_BE(buf[i * SECTOR / 8]);
    }
    g_free(buf);
}

/* The disk shows @values for certain, also after a crash. */
static void guest_shows(const uint64_t *values)
{
    for (uint64_t i = 0; i < guest.n; i++) {
        Sector *sec = &guest.sectors[i];

        sec->first += sec->values->len;
        sec->known = sec->first + 1;
        g_array_set_size(sec->values, 0);
        g_array_append_val(sec->values, values[i]);
    }
}

static void coroutine_fn snap_co_create(void)
{
    QEMUSnapshotInfo info = { .name = "s" };
    Snap *snap = g_new0(Snap, 1);
    Error *err = NULL;

    snap->values = g_new(uint64_t, guest.n);
    snap->coming = true;
    snap->id = 1;
    for (guint i = 0; i < guest.snaps->len; i++) {
        snap->id = MAX(snap->id, ((Snap *)guest.snaps->pdata[i])->id + 1);
    }
    guest_co_look(snap->values);
    g_ptr_array_add(guest.snaps, snap);
    if (bdrv_snapshot_create(guest.root->bs, &info, &err) < 0) {
        /* Refcounts of a few bits. */
        g_assert_nonnull(strstr(error_get_pretty(err), "too narrow"));
        error_free(err);
        g_ptr_array_remove(guest.snaps, snap);
        return;
    }
    g_assert_cmpuint(g_ascii_strtoull(info.id_str, NULL, 10), ==, snap->id);
    snap->coming = false;
    guest_shows(snap->values);          /* making one flushes */
}

static void coroutine_fn snap_co_apply(Snap *snap)
{
    g_autofree char *id = snap_id(snap);
    Error *err = NULL;

    guest.applying = snap;
    if (bdrv_snapshot_goto(guest.root->bs, id, &err) < 0) {
        g_assert_nonnull(strstr(error_get_pretty(err), "too narrow"));
        error_free(err);
    } else {
        guest_shows(snap->values);
    }
    guest.applying = NULL;
}

static void coroutine_fn snap_co_delete(Snap *snap)
{
    g_autofree char *id = snap_id(snap);

    snap->going = true;
    bdrv_snapshot_delete(guest.root->bs, id, NULL, &error_abort);
    g_ptr_array_remove(guest.snaps, snap);
}

static void coroutine_fn guest_co_snapshots(void *opaque)
{
    unsigned fail = disk.fail_one_in, crash = guest.crash_one_in;

    control_co_lock();
    disk.fail_one_in = 0;       /* with errors nothing is promised but what a crash leaves */
    guest.crash_one_in = 4;
    for (unsigned i = 1 + prng_below(&disk.prng, 3); i > 0; i--) {
        unsigned what = prng_below(&disk.prng, 4);
        guint n = guest.snaps->len;

        if (!n || (what < 2 && n < 4)) {
            snap_co_create();
        } else if (what == 2) {
            snap_co_apply(guest.snaps->pdata[prng_below(&disk.prng, n)]);
        } else {
            snap_co_delete(guest.snaps->pdata[prng_below(&disk.prng, n)]);
        }
    }
    disk.fail_one_in = fail;
    guest.crash_one_in = crash;
    control_co_unlock();
}

static bool guest_is_running(void *opaque)
{
    return guest.workers > 0;
}

/* ---- one run ---- */

static BlockDriverState *disk_new(Disk *d, const char *name)
{
    BlockDriverState *bs = bdrv_new_open_driver(&disk_driver, name, BDRV_O_RDWR | BDRV_O_UNMAP, &error_abort);

    *d = (Disk) {
        .now = g_byte_array_new(), .durable = g_byte_array_new(),
        .pending = g_ptr_array_new_with_free_func(pending_free),
    };
    *(Disk **)bs->opaque = d;
    return bs;
}

static void disk_free(Disk *d)
{
    g_byte_array_unref(d->now);
    g_byte_array_unref(d->durable);
    g_ptr_array_free(d->pending, true);
}

static void guest_new(uint64_t seed)
{
    guest.seed = seed;
    guest.next_value = 1ULL << 40;
    guest.sectors = g_new0(Sector, guest.n);
    for (uint64_t i = 0; i < guest.n; i++) {
        uint64_t value = backing_value(i);

        guest.sectors[i].values = g_array_new(false, false, sizeof(uint64_t));
        g_array_append_val(guest.sectors[i].values, value);
        guest.sectors[i].known = 1;
    }
}

static void make_backing(void)
{
    uint64_t *data = g_new0(uint64_t, MAX(guest.n_backing, 1) * SECTOR / 8);

    for (uint64_t i = 0; i < guest.n_backing * SECTOR / 8; i++) {
        data[i] = GUINT64_TO_BE(backing_value(i / (SECTOR / 8)));
    }
    g_file_set_contents("backing.raw", (char *)data, guest.n_backing * SECTOR, NULL);
    g_free(data);
}

static void run_seed(uint64_t seed)
{
    BlockDriverState *bs = disk_new(&disks[0], "disk"), *data = disk_new(&disks[1], "data");
    Prng *p = &disk.prng;

    disk.prng.state = seed;
    disk.quiet = true;
    disk.after_write = guest_maybe_crash;

    unsigned cluster_bits = 9 + prng_below(p, 8), refcount_bits = 1 << prng_below(p, 7);
    bool ext_l2 = !prng_below(p, 3), external = !prng_below(p, 4);
    bool raw = external && prng_below(p, 2);

    cluster_bits = ext_l2 ? 14 + cluster_bits % 3 : cluster_bits;
    guest.n = 1024 + prng_below(p, 3 * 1024);
    guest.n_backing = !raw && prng_below(p, 2) ? 1 + prng_below(p, guest.n + 500) : 0;
    guest.crash_one_in = 20 + prng_below(p, 100);
    /* In sectors; compressed writes are whole clusters. */
    guest.cluster = external || seed % 2 ? 0 : (1u << cluster_bits) / SECTOR;
    guest_new(seed);
    make_backing();

    g_autofree char *create = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"file\":\"disk\",\"size\":%" PRIu64 ",\"cluster-size\":%u,\"refcount-bits\":%u,"
        "\"extended-l2\":%s%s%s}",
        guest.n * SECTOR, 1u << cluster_bits, refcount_bits, ext_l2 ? "true" : "false",
        external ? ",\"data-file\":\"data\"" : "", raw ? ",\"data-file-raw\":true" : "");
    g_autofree char *open = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"file\":\"disk\",\"l2-cache-size\":%u,\"refcount-cache-size\":%u,\"backing\":%s%s}",
        prng_below(p, 2) ? 2048 : 1 << 20, 1u << cluster_bits,
        guest.n_backing ? "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"backing.raw\"}}" : "null",
        external ? ",\"data-file\":\"data\"" : "");

    g_assert_cmpint(test_create(create, &error_abort), ==, 0);
    guest.root = test_attach(test_open(open));
    disk.quiet = false;
    disk.fail_one_in = prng_below(p, 3) ? 0 : 50 + prng_below(p, 500);
    unsigned rounds = external ? 1 : 1 + prng_below(p, 4), workers = 1 + prng_below(p, 12);

    guest.snaps = g_ptr_array_new_with_free_func(snap_free);
    guest.ops = 600 / workers / rounds + 1;
    for (unsigned round = 0; round < rounds; round++) {
        if (round) {
            aio_co_run(guest_co_snapshots, NULL);
        }
        guest.workers = workers;
        for (unsigned i = workers; i > 0; i--) {
            aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(guest_co_worker, NULL));
        }
        aio_wait_while(guest_is_running, NULL);
    }
    disk.quiet = true;
    bdrv_root_unref_child(guest.root);
    guest_check_image(disks[0].now, disks[1].now, disk.fail_one_in != 0);
    bdrv_unref(bs);
    bdrv_unref(data);

    for (uint64_t i = 0; i < guest.n; i++) {
        g_array_free(guest.sectors[i].values, true);
    }
    g_free(guest.sectors);
    g_ptr_array_free(guest.snaps, true);
    disk_free(&disks[0]);
    disk_free(&disks[1]);
}

static void test_crashes(void)
{
    const char *one = getenv("QCOW2_CRASH_SEED"), *many = getenv("QCOW2_CRASH_SEEDS");
    uint64_t n = many ? g_ascii_strtoull(many, NULL, 0) : 150;

    if (one) {
        run_seed(g_ascii_strtoull(one, NULL, 0));
        return;
    }
    for (uint64_t seed = 1; seed <= n; seed++) {
        run_seed(seed);
    }
    g_test_message("%" PRIu64 " crashes", guest.crashes);
    g_assert_cmpint(guest.crashes, >, n);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/qcow2/crash", test_crashes);
    return test_end();
}
