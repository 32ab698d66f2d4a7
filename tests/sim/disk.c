/* SPDX-License-Identifier: MIT */
/* disk.c: files in memory, with a volatile cache; see sim.h.
 *
 * Each write stays in `pending` until a flush that began after it makes it durable. A power cut keeps an
 * arbitrary part of what is pending, by whole sectors: so writes are lost, torn and reordered. A length
 * that was set survives or not, as a whole.
 */
#include "sim.h"
#include <fcntl.h>

#define LOCKS 256

struct HostFile {
    SimFile *f;
    bool direct, writable;
    uint8_t lock[LOCKS];        /* HostLockType */
};

typedef struct SimWrite {
    uint64_t seq;
    int64_t offset, bytes;
    uint8_t *data;              /* NULL: zeroes */
    bool truncate;              /* to offset */
} SimWrite;

static GPtrArray *files;        /* SimFile */
static GPtrArray *handles;      /* HostFile */
static uint64_t write_seq;

static void write_free(gpointer p)
{
    g_free(((SimWrite *)p)->data);
    g_free(p);
}

static void bytes_resize(GByteArray *a, int64_t bytes)
{
    guint old = a->len;

    g_byte_array_set_size(a, bytes);
    if (a->len > old) {
        memset(a->data + old, 0, a->len - old);
    }
}

static void bytes_put(GByteArray *a, int64_t offset, const uint8_t *data, int64_t bytes)
{
    if (a->len < offset + bytes) {
        bytes_resize(a, offset + bytes);
    }
    if (data) {
        memcpy(a->data + offset, data, bytes);
    } else {
        memset(a->data + offset, 0, bytes);
    }
}

static void bytes_copy(GByteArray *to, const GByteArray *from)
{
    g_byte_array_set_size(to, 0);
    g_byte_array_append(to, from->data, from->len);
}

/* ---- files ---- */

SimFile *sim_file_find(const char *name)
{
    for (guint i = 0; files && i < files->len; i++) {
        SimFile *f = files->pdata[i];

        if (!strcmp(f->name, name)) {
            return f;
        }
    }
    return NULL;
}

static void file_free(gpointer p)
{
    SimFile *f = p;

    g_byte_array_unref(f->now);
    g_byte_array_unref(f->durable);
    g_byte_array_unref(f->allocated);
    g_ptr_array_free(f->pending, true);
    g_free(f->name);
    g_free(f);
}

void sim_file_remove(const char *name)
{
    SimFile *f = sim_file_find(name);

    if (f) {
        g_assert_cmpuint(f->opens, ==, 0);
        g_ptr_array_remove(files, f);
    }
}

SimFile *sim_file_new(const char *name, int64_t bytes, uint8_t byte)
{
    SimFile *f = g_new0(SimFile, 1);

    sim_file_remove(name);
    if (!files) {
        files = g_ptr_array_new_with_free_func(file_free);
        handles = g_ptr_array_new();
    }
    f->name = g_strdup(name);
    f->align_bytes = SECTOR;
    f->now = g_byte_array_new();
    f->durable = g_byte_array_new();
    f->allocated = g_byte_array_new();
    f->pending = g_ptr_array_new_with_free_func(write_free);
    bytes_resize(f->now, bytes);
    bytes_resize(f->allocated, DIV_ROUND_UP(bytes, SIM_BLOCK));
    if (byte) {
        memset(f->now->data, byte, bytes);
        memset(f->allocated->data, 1, f->allocated->len);
    }
    bytes_copy(f->durable, f->now);
    g_ptr_array_add(files, f);
    return f;
}

static void file_make_durable(SimFile *f, uint64_t up_to)
{
    guint n = 0;

    while (n < f->pending->len && ((SimWrite *)f->pending->pdata[n])->seq <= up_to) {
        SimWrite *w = f->pending->pdata[n++];

        if (w->truncate) {
            bytes_resize(f->durable, w->offset);
        } else {
            bytes_put(f->durable, w->offset, w->data, w->bytes);
        }
    }
    if (n) {
        g_ptr_array_remove_range(f->pending, 0, n);
    }
}

uint64_t sim_write_seq(void)
{
    return write_seq;
}

void sim_files_sync(void)
{
    for (guint i = 0; files && i < files->len; i++) {
        file_make_durable(files->pdata[i], UINT64_MAX);
    }
}

unsigned sim_files_open(void)
{
    return handles ? handles->len : 0;
}

/* ---- changes ---- */

static void file_set_allocated(SimFile *f, int64_t offset, int64_t bytes, bool allocated)
{
    int64_t first = allocated ? offset / SIM_BLOCK : DIV_ROUND_UP(offset, SIM_BLOCK);
    int64_t end = allocated ? DIV_ROUND_UP(offset + bytes, SIM_BLOCK) : (offset + bytes) / SIM_BLOCK;

    if (end > f->allocated->len) {
        bytes_resize(f->allocated, end);
    }
    if (end > first) {
        memset(f->allocated->data + first, allocated, end - first);
    }
}

/* Takes over @data; NULL: zeroes. */
static void file_put(SimFile *f, int64_t offset, int64_t bytes, uint8_t *data)
{
    SimWrite *w = g_new0(SimWrite, 1);

    *w = (SimWrite) { .seq = ++write_seq, .offset = offset, .bytes = bytes, .data = data };
    bytes_put(f->now, offset, data, bytes);
    file_set_allocated(f, offset, bytes, true);
    g_ptr_array_add(f->pending, w);
}

static void file_truncate(SimFile *f, int64_t bytes)
{
    SimWrite *w = g_new0(SimWrite, 1);

    *w = (SimWrite) { .seq = ++write_seq, .offset = bytes, .truncate = true };
    bytes_resize(f->now, bytes);
    bytes_resize(f->allocated, DIV_ROUND_UP(bytes, SIM_BLOCK));
    g_ptr_array_add(f->pending, w);
}

static bool file_has_space(SimFile *f, int64_t offset, int64_t bytes)
{
    if (!f->full) {
        return true;
    }
    for (int64_t b = offset / SIM_BLOCK; b * SIM_BLOCK < offset + bytes; b++) {
        if (b >= f->allocated->len || !f->allocated->data[b]) {
            return false;
        }
    }
    return true;
}

static uint8_t *iov_flatten(const struct iovec *iov, int niov, int64_t bytes)
{
    uint8_t *buf = g_malloc(bytes);
    int64_t at = 0;

    for (int i = 0; i < niov && at < bytes; i++) {
        int64_t n = MIN((int64_t)iov[i].iov_len, bytes - at);

        memcpy(buf + at, iov[i].iov_base, n);
        at += n;
    }
    g_assert_cmpint(at, ==, bytes);
    return buf;
}

/* Each sector of a write is done or not. */
static void file_put_part(SimFile *f, int64_t offset, int64_t bytes, const uint8_t *data)
{
    unsigned keep_of_16 = prng_below(&sim.prng, 17);

    for (int64_t at = 0; at < bytes;) {
        int64_t n = MIN(SECTOR - (offset + at) % SECTOR, bytes - at);

        if (prng_below(&sim.prng, 16) < keep_of_16) {
            file_put(f, offset + at, n, data ? g_memdup2(data + at, n) : NULL);
        }
        at += n;
    }
}

/* ---- requests ---- */

static int64_t do_read(HostRequest *req, int64_t bytes)
{
    SimFile *f = req->file->f;
    int64_t n = CLAMP((int64_t)f->now->len - req->offset, 0, bytes), at = 0;

    for (int i = 0; i < req->niov && at < n; i++) {
        int64_t part = MIN((int64_t)req->iov[i].iov_len, n - at);

        memcpy(req->iov[i].iov_base, f->now->data + req->offset + at, part);
        at += part;
    }
    return n;
}

static int64_t do_write(HostRequest *req, int64_t bytes, bool fails)
{
    SimFile *f = req->file->f;
    uint8_t *data;

    g_assert_true(req->file->writable);
    if (!file_has_space(f, req->offset, bytes)) {
        sim.faults_made++;
        return -ENOSPC;
    }
    data = iov_flatten(req->iov, req->niov, bytes);
    if (fails) {
        file_put_part(f, req->offset, bytes, data);
        g_free(data);
        return -EIO;
    }
    file_put(f, req->offset, bytes, data);
    if (req->flags & HOST_FLAG_FUA) {
        file_make_durable(f, write_seq);
    }
    return bytes;
}

static int64_t do_zero(HostRequest *req, bool fails)
{
    SimFile *f = req->file->f;
    bool hole = req->op == HOST_DISCARD || (req->flags & HOST_FLAG_MAY_UNMAP) || prng_below(&sim.prng, 2);
    /* None of these changes the length. */
    int64_t bytes = MIN(req->bytes, (int64_t)f->now->len - req->offset);

    g_assert_true(req->file->writable);
    if (req->op == HOST_DISCARD ? f->no_discard : f->no_zero) {
        return -ENOTSUP;
    }
    if (req->op == HOST_ZERO && !(req->flags & HOST_FLAG_MAY_UNMAP) && !file_has_space(f, req->offset, req->bytes)) {
        sim.faults_made++;
        return -ENOSPC;
    }
    if (bytes > 0 && fails) {
        file_put_part(f, req->offset, bytes, NULL);
    } else if (bytes > 0) {
        file_put(f, req->offset, bytes, NULL);
        if (hole) {
            file_set_allocated(f, req->offset, bytes, false);
        }
    }
    return fails ? -EIO : 0;
}

static int64_t do_status(HostRequest *req)
{
    SimFile *f = req->file->f;
    int64_t end = MIN(req->offset + req->bytes, (int64_t)f->now->len), at = req->offset;

    if (at >= end) {
        req->status.data = false;
        req->status.bytes = req->bytes;
        return 0;
    }
    bool data = f->allocated->data[at / SIM_BLOCK];

    while (at < end && !!f->allocated->data[at / SIM_BLOCK] == data) {
        at = (at / SIM_BLOCK + 1) * SIM_BLOCK;
    }
    req->status.data = data;
    req->status.bytes = MIN(at, end) - req->offset;
    return 0;
}

static int64_t do_copy(HostRequest *req, bool fails)
{
    SimFile *from = req->file->f, *to = req->file2->f;
    int64_t n = CLAMP((int64_t)from->now->len - req->offset, 0, req->bytes);

    if (n > SECTOR && prng_below(&sim.prng, 2)) {
        n = (1 + prng_below(&sim.prng, n / SECTOR)) * SECTOR;
    }
    if (fails) {
        return -EIO;
    }
    if (!file_has_space(to, req->offset2, n)) {
        sim.faults_made++;
        return -ENOSPC;
    }
    if (n) {
        file_put(to, req->offset2, n, g_memdup2(from->now->data + req->offset, n));
    }
    return n;
}

int64_t sim_file_execute(HostRequest *req, uint64_t flush_seq)
{
    SimFile *f = req->file->f;
    bool fails = sim.faults && sim_chance(sim.eio_one_in);
    int64_t bytes = req->bytes;

    if (sim.off) {
        return -EIO;
    }
    sim.faults_made += fails;
    int64_t unit = req->file->direct ? f->align_bytes : SECTOR;

    if ((req->op == HOST_READ || req->op == HOST_WRITE) && bytes > unit && sim_chance(sim.short_one_in)) {
        bytes = prng_range(&sim.prng, 1, bytes / unit) * unit;
    }
    switch (req->op) {
    case HOST_READ:
        return fails ? -EIO : do_read(req, bytes);
    case HOST_WRITE:
        return do_write(req, bytes, fails);
    case HOST_FLUSH:
        if (fails) {
            return -EIO;
        }
        file_make_durable(f, flush_seq);
        return 0;
    case HOST_ZERO:
    case HOST_DISCARD:
        return do_zero(req, fails);
    case HOST_ALLOCATE:
        if (!file_has_space(f, req->offset, req->bytes)) {
            sim.faults_made++;
            return -ENOSPC;
        }
        if (req->offset + req->bytes > f->now->len) {
            file_truncate(f, req->offset + req->bytes);
        }
        file_set_allocated(f, req->offset, req->bytes, true);
        return 0;
    case HOST_TRUNCATE:
        if (fails) {
            return -EIO;
        }
        file_truncate(f, req->offset);
        return 0;
    case HOST_STATUS:
        return fails ? -EIO : do_status(req);
    case HOST_COPY_RANGE:
        return do_copy(req, fails);
    case HOST_STAT:
        return sim_file_stat(req->file, &req->stat);
    }
    g_assert_not_reached();
}

/* ---- power ---- */

void sim_file_tear(HostRequest *req)
{
    SimFile *f = req->file->f;

    if (req->op == HOST_WRITE) {
        g_autofree uint8_t *data = iov_flatten(req->iov, req->niov, req->bytes);

        file_put_part(f, req->offset, req->bytes, data);
    } else if (req->op == HOST_ZERO && !f->no_zero && req->offset + req->bytes <= f->now->len) {
        file_put_part(f, req->offset, req->bytes, NULL);
    }
}

/* Of what is pending, each sector survives by chance; or only of what was written last: the worst for who
 * relies on an order. */
static void file_power_cut(SimFile *f)
{
    unsigned keep_of_16 = prng_below(&sim.prng, 17);
    guint first = 0;

    if (f->pending->len && prng_below(&sim.prng, 2)) {
        first = f->pending->len - 1 - prng_below(&sim.prng, MIN(f->pending->len, 12));
        keep_of_16 = MAX(keep_of_16, 12);
    }

    for (guint i = 0; i < f->pending->len; i++) {
        SimWrite *w = f->pending->pdata[i];

        if (w->truncate) {
            if (prng_below(&sim.prng, 16) < keep_of_16) {
                bytes_resize(f->durable, w->offset);
            }
            continue;
        }
        if (i < first) {
            continue;
        }
        for (int64_t at = 0; at < w->bytes;) {
            int64_t n = MIN(SECTOR - (w->offset + at) % SECTOR, w->bytes - at);

            if (prng_below(&sim.prng, 16) < keep_of_16) {
                bytes_put(f->durable, w->offset + at, w->data ? w->data + at : NULL, n);
            }
            at += n;
        }
    }
    g_ptr_array_set_size(f->pending, 0);
}

void sim_files_power_cut(void)
{
    for (guint i = 0; files && i < files->len; i++) {
        SimFile *f = files->pdata[i];

        f->hung = false;
        file_power_cut(f);
    }
}

void sim_files_power_on(void)
{
    for (guint i = 0; files && i < files->len; i++) {
        SimFile *f = files->pdata[i];

        g_assert_cmpuint(f->opens, ==, 0);
        bytes_copy(f->now, f->durable);
        bytes_resize(f->allocated, DIV_ROUND_UP(f->now->len, SIM_BLOCK));
        /* Where data came back that had been given back before. */
        memset(f->allocated->data, 1, f->allocated->len);
        f->full = false;
    }
}

void sim_file_hang(SimFile *f, bool hung)
{
    f->hung = hung;
    sim_trace("%s %s", f->name, hung ? "hangs" : "goes on");
}

/* ---- handles ---- */

const SimFile *sim_file_of(const HostFile *file)
{
    return file->f;
}

bool sim_file_aligned(const HostRequest *req)
{
    int64_t align = req->file->f->align_bytes;

    if (!req->file->direct || (req->op != HOST_READ && req->op != HOST_WRITE)) {
        return true;
    }
    for (int i = 0; i < req->niov; i++) {
        if ((uintptr_t)req->iov[i].iov_base % SECTOR || req->iov[i].iov_len % SECTOR) {
            return false;
        }
    }
    return req->offset % align == 0 && req->bytes % align == 0;
}

HostFile *sim_file_open(const char *path, int flags, unsigned mode, int *ret)
{
    SimFile *f = sim_file_find(path);

    if (!f && (flags & O_CREAT)) {
        f = sim_file_new(path, 0, 0);
    } else if (!f || (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        *ret = f ? -EEXIST : -ENOENT;
        return NULL;
    }
    HostFile *file = g_new0(HostFile, 1);

    file->f = f;
    file->direct = flags & O_DIRECT;
    file->writable = (flags & O_ACCMODE) != O_RDONLY;
    if (flags & O_TRUNC) {
        file_truncate(f, 0);
    }
    f->opens++;
    g_ptr_array_add(handles, file);
    *ret = 0;
    return file;
}

void sim_file_close(HostFile *file)
{
    file->f->opens--;
    g_assert_true(g_ptr_array_remove(handles, file));
    g_free(file);
}

int sim_file_unlink(const char *path)
{
    if (!sim_file_find(path)) {
        return -ENOENT;
    }
    sim_file_remove(path);
    return 0;
}

static bool lock_conflicts(HostLockType a, HostLockType b)
{
    return a != HOST_UNLOCK && b != HOST_UNLOCK && (a == HOST_LOCK_EXCLUSIVE || b == HOST_LOCK_EXCLUSIVE);
}

int sim_file_lock(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test)
{
    g_assert_cmpint(start, >=, 0);
    g_assert_cmpint(start + len, <=, LOCKS);
    for (guint i = 0; i < handles->len; i++) {
        HostFile *other = handles->pdata[i];

        for (int64_t b = start; b < start + len; b++) {
            if (other != file && other->f == file->f && lock_conflicts(other->lock[b], type)) {
                return -EAGAIN;
            }
        }
    }
    if (!test) {
        memset(file->lock + start, type, len);
    }
    return 0;
}

int sim_file_stat(HostFile *file, HostStat *stat)
{
    unsigned blocks = 0;

    for (guint i = 0; i < file->f->allocated->len; i++) {
        blocks += file->f->allocated->data[i] != 0;
    }
    *stat = (HostStat) {
        .length_bytes = file->f->now->len, .allocated_bytes = (int64_t)blocks * SIM_BLOCK, .is_regular = true,
        .direct_align_bytes = file->direct ? file->f->align_bytes : 1,
        .direct_mem_align_bytes = file->direct ? SECTOR : 1,
    };
    return 0;
}

const char *sim_file_name(HostFile *file)
{
    return file->f->name;
}
