/* SPDX-License-Identifier: MIT */
/* snapshot_table.c: the table of snapshots in an image; see snapshot.h.
 *
 * An entry: fixed fields, extra data (as long as it says: what we know of it, then what a later version
 * may have put there), id, name, padding to 8 bytes.
 */
#include "drivers/format/qcow2/snapshot.h"

#define READ_PIECE (64 * KiB)

/* Where fields lie in an entry, and in its extra data. */
enum {
    S_L1_OFFSET = 0, S_L1_SIZE = 8, S_ID_BYTES = 12, S_NAME_BYTES = 14, S_DATE_S = 16, S_DATE_NS = 20,
    S_CLOCK = 24, S_VM_STATE = 32, S_EXTRA_BYTES = 36,
    X_VM_STATE = 0, X_DISK = 8, X_ICOUNT = 16, X_KNOWN = 24,
};

static uint16_t get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static void put(GByteArray *out, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;) {
        uint8_t b = value >> (8 * i);

        g_byte_array_append(out, &b, 1);
    }
}

void qcow2_snapshot_free(gpointer snapshot)
{
    Qcow2Snapshot *sn = snapshot;

    g_free(sn->id);
    g_free(sn->name);
    g_free(sn->unknown);
    g_free(sn);
}

/* ---- reading ---- */

typedef struct TableReader {
    BlockDriverState *bs;
    GByteArray *data;           /* what was read so far */
} TableReader;

/* Have [0, @to) of the table in memory. */
static int coroutine_fn reader_co_need(TableReader *r, uint64_t to, Error **errp)
{
    Qcow2State *s = r->bs->opaque;
    uint64_t have = r->data->len, more;
    QEMUIOVector qiov;
    int ret;

    if (to <= have) {
        return 0;
    }
    if (to > QCOW2_SNAPSHOT_TABLE_MAX) {
        error_setg(errp, "Snapshot table is too large");
        return -EFBIG;
    }
    more = ROUND_UP(to - have, READ_PIECE);
    g_byte_array_set_size(r->data, have + more);
    qemu_iovec_init_buf(&qiov, r->data->data + have, more);
    ret = qcow2_co_read_file(r->bs, s->snapshots_offset + have, more, &qiov, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read snapshots");
    }
    return ret;
}

static Qcow2Snapshot *entry_parse(Qcow2State *s, const uint8_t *e)
{
    Qcow2Snapshot *sn = g_new0(Qcow2Snapshot, 1);
    uint32_t id_bytes = get16(e + S_ID_BYTES), name_bytes = get16(e + S_NAME_BYTES);
    uint32_t extra = get32(e + S_EXTRA_BYTES);
    const uint8_t *x = e + QCOW2_SNAPSHOT_HEAD_BYTES, *names = x + extra;

    extra = MIN(extra, QCOW2_SNAPSHOT_EXTRA_MAX);       /* more is there in damaged tables only */

    sn->l1_offset = get64(e + S_L1_OFFSET);
    sn->l1_size = get32(e + S_L1_SIZE);
    sn->date_s = get32(e + S_DATE_S);
    sn->date_ns = get32(e + S_DATE_NS);
    sn->vm_clock_ns = get64(e + S_CLOCK);
    sn->vm_state_bytes = extra >= X_DISK ? get64(x + X_VM_STATE) : get32(e + S_VM_STATE);
    sn->disk_bytes = extra >= X_ICOUNT ? get64(x + X_DISK) : s->length_bytes;
    sn->icount = extra >= X_KNOWN ? get64(x + X_ICOUNT) : UINT64_MAX;
    if (extra > X_KNOWN) {
        sn->unknown_bytes = extra - X_KNOWN;
        sn->unknown = g_memdup2(x + X_KNOWN, sn->unknown_bytes);
    }
    sn->id = g_strndup((const char *)names, id_bytes);
    sn->name = g_strndup((const char *)names + id_bytes, name_bytes);
    return sn;
}

static int coroutine_fn reader_co_entries(TableReader *r, GPtrArray *list, uint64_t *bytes, Error **errp)
{
    Qcow2State *s = r->bs->opaque;
    uint64_t at = 0;
    int ret = 0;

    for (uint32_t i = 0; i < s->nb_snapshots && !ret; i++) {
        uint64_t end = at + QCOW2_SNAPSHOT_HEAD_BYTES;
        uint32_t extra;

        ret = reader_co_need(r, end, errp);
        if (ret < 0) {
            break;
        }
        extra = get32(r->data->data + at + S_EXTRA_BYTES);
        if (extra > QCOW2_SNAPSHOT_EXTRA_MAX) {
            error_setg(errp, "Too much extra metadata in snapshot table entry %u", i);
            error_append_hint(errp, "You can force-remove this extra metadata with qemu-img check -r all\n");
            return -EFBIG;
        }
        end += extra + get16(r->data->data + at + S_ID_BYTES) + get16(r->data->data + at + S_NAME_BYTES);
        ret = reader_co_need(r, end, errp);
        if (!ret) {
            g_ptr_array_add(list, entry_parse(s, r->data->data + at));
            *bytes = end;
            at = ROUND_UP(end, 8);
        }
    }
    return ret;
}

GPtrArray *coroutine_fn qcow2_co_salvage_snapshots(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;
    TableReader r = { bs, g_byte_array_new() };
    GPtrArray *list = g_ptr_array_new_with_free_func(qcow2_snapshot_free);
    int64_t file_bytes = bdrv_getlength_cached(bs->file->bs);
    uint64_t at = 0, end;

    for (uint32_t i = 0; i < MIN(s->nb_snapshots, QCOW2_MAX_SNAPSHOTS); i++, at = ROUND_UP(end, 8)) {
        end = at + QCOW2_SNAPSHOT_HEAD_BYTES;
        if (s->snapshots_offset + end > (uint64_t)file_bytes || reader_co_need(&r, end, NULL) < 0) {
            break;
        }
        end += (uint64_t)get32(r.data->data + at + S_EXTRA_BYTES) + get16(r.data->data + at + S_ID_BYTES) +
               get16(r.data->data + at + S_NAME_BYTES);
        if (s->snapshots_offset + end > (uint64_t)file_bytes || reader_co_need(&r, end, NULL) < 0) {
            break;
        }
        g_ptr_array_add(list, entry_parse(s, r.data->data + at));
    }
    g_byte_array_unref(r.data);
    return list;
}

int coroutine_fn qcow2_co_read_snapshots(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    TableReader r = { bs, g_byte_array_new() };
    GPtrArray *list = g_ptr_array_new_with_free_func(qcow2_snapshot_free);
    uint64_t bytes = 0;
    int ret = reader_co_entries(&r, list, &bytes, errp);

    g_byte_array_unref(r.data);
    g_clear_pointer(&s->snapshots, g_ptr_array_unref);
    if (ret < 0) {
        g_ptr_array_unref(list);
        return ret;
    }
    s->snapshots = list;
    s->snapshots_bytes = bytes;
    return 0;
}

uint64_t *coroutine_fn qcow2_co_snapshot_l1(BlockDriverState *bs, const Qcow2Snapshot *sn, uint32_t size, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = sn->l1_size * 8ULL, *l1;
    int64_t file_bytes = bdrv_getlength_cached(bs->file->bs);
    QEMUIOVector qiov;
    int ret;

    if (bytes > QCOW2_MAX_L1_BYTES) {
        error_setg(errp, "Snapshot L1 table too large");
        return NULL;
    }
    if (qcow2_in_cluster(s, sn->l1_offset)) {
        error_setg(errp, "Snapshot L1 table offset invalid");
        return NULL;
    }
    if (bytes && (sn->l1_offset > (uint64_t)file_bytes || bytes > (uint64_t)file_bytes - sn->l1_offset)) {
        error_setg(errp, "The L1 table of the snapshot lies beyond the end of the image file; is the file cut off?");
        return NULL;
    }
    l1 = g_try_new0(uint64_t, MAX(MAX(sn->l1_size, size), 1));
    if (!l1) {
        error_setg(errp, "Could not allocate memory for the L1 table of the snapshot");
        return NULL;
    }
    qemu_iovec_init_buf(&qiov, l1, bytes);
    ret = bytes ? qcow2_co_read_file(bs, sn->l1_offset, bytes, &qiov, 0, 0) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to read l1 table for snapshot");
        g_free(l1);
        return NULL;
    }
    for (uint32_t i = 0; i < sn->l1_size; i++) {
        l1[i] = GUINT64_FROM_BE(l1[i]);
    }
    return l1;
}

/* ---- writing ---- */

GByteArray *qcow2_snapshot_table_build(const GPtrArray *list)
{
    GByteArray *out = g_byte_array_new();

    for (guint i = 0; i < list->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(list, i);

        put(out, 0, ROUND_UP(out->len, 8) - out->len);
        put(out, sn->l1_offset, 8);
        put(out, sn->l1_size, 4);
        put(out, strlen(sn->id), 2);
        put(out, strlen(sn->name), 2);
        put(out, sn->date_s, 4);
        put(out, sn->date_ns, 4);
        put(out, sn->vm_clock_ns, 8);
        put(out, sn->vm_state_bytes > UINT32_MAX ? 0 : sn->vm_state_bytes, 4);
        put(out, X_KNOWN + sn->unknown_bytes, 4);
        put(out, sn->vm_state_bytes, 8);
        put(out, sn->disk_bytes, 8);
        put(out, sn->icount, 8);
        g_byte_array_append(out, sn->unknown, sn->unknown_bytes);
        g_byte_array_append(out, (const uint8_t *)sn->id, strlen(sn->id));
        g_byte_array_append(out, (const uint8_t *)sn->name, strlen(sn->name));
    }
    return out;
}

/* ---- finding ---- */

int qcow2_snapshot_find(Qcow2State *s, const char *id, const char *name)
{
    for (guint i = 0; s->snapshots && i < s->snapshots->len; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);

        if ((!id || !strcmp(sn->id, id)) && (!name || !strcmp(sn->name, name))) {
            return i;
        }
    }
    return -1;
}

int qcow2_snapshot_find_by_id_or_name(Qcow2State *s, const char *id_or_name)
{
    int i = qcow2_snapshot_find(s, id_or_name, NULL);

    return i >= 0 ? i : qcow2_snapshot_find(s, NULL, id_or_name);
}

int qcow2_snapshot_list(BlockDriverState *bs, QEMUSnapshotInfo **list)
{
    Qcow2State *s = bs->opaque;
    guint n = s->snapshots ? s->snapshots->len : 0;

    if (s->external) {
        *list = NULL;
        return 0;
    }
    *list = n ? g_new0(QEMUSnapshotInfo, n) : NULL;
    for (guint i = 0; i < n; i++) {
        const Qcow2Snapshot *sn = g_ptr_array_index(s->snapshots, i);
        QEMUSnapshotInfo *out = *list + i;

        g_strlcpy(out->id_str, sn->id, sizeof(out->id_str));
        g_strlcpy(out->name, sn->name, sizeof(out->name));
        out->vm_state_size = sn->vm_state_bytes;
        out->date_sec = sn->date_s;
        out->date_nsec = sn->date_ns;
        out->vm_clock_nsec = sn->vm_clock_ns;
        out->icount = sn->icount;
    }
    return n;
}
