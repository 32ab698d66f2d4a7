/* SPDX-License-Identifier: MIT */
/* qcow2.h: the qcow2 format, for the files of this folder only.
 *
 *   header.c        the header: reading, checking, writing back
 *   open.c          open, close, reopen, options, the driver table
 *   cache.c         tables in memory: slices of L2 tables, refcount blocks
 *   map.c           guest offset -> where the data lies; making L2 tables
 *   alloc.c         finding free clusters
 *   refcount.c      refcount blocks and their table
 *   commit.c        writing metadata back, in the right order; freeing clusters
 *   read.c write.c  guest data
 *   compressed.c    reading compressed clusters; what was unpacked last
 *   compress.c      writing them
 *   codec.c         one cluster to a stream and back
 *   zero_discard.c  zero clusters, discard
 *   grow.c          length
 *   prealloc.c      preallocation
 *   crypt.c         encryption
 *   bitmap*.c       dirty bitmaps stored in the image; see bitmap.h
 *   snapshot*.c     snapshots inside the image; see snapshot.h
 *   amend*.c        another version, width of refcounts ...; see amend.h
 *   overlap.c       no write lands on metadata; see overlap.h
 *   clean.c         tables that nobody uses leave the memory
 *   check*.c repair.c  finding and mending errors; see check.h
 *   create.c info.c creating an image; what it says about itself
 *
 * WHAT MUST HOLD ON DISK AT ANY MOMENT (power may fail; of what was written since the last
 * flush of the file any part may survive, in any order, down to single sectors):
 *   I1  every cluster that a table on disk refers to has a refcount on disk of at least the
 *       number of such references. (More is a leak, which is allowed.)
 *   I2  what an entry refers to holds, on disk, what the guest may see there.
 *   I3  what the guest flushed is there.
 *
 * HOW IT IS KEPT. Tables change in memory only, and reach the file in commits
 * (commit.c). A commit takes, at one instant under `lock`, copies of all that is dirty:
 *
 *   1  write refcount blocks                      (increments; decrements, see below)
 *   2  if the refcount table gained blocks:       flush; write its new entries
 *   3  flush                                      <- the barrier
 *   4  write L2 slices and L1 entries
 *   5  flush, if anything waits for it            (the caller's, for a guest flush)
 *   6  clusters that lost their last reference in 4 get their refcounts decremented, in
 *      memory: a later commit writes that in its step 1.
 *
 * I1: a reference written in 4 had its refcount written in 1 and made durable in 3. A
 *     refcount goes down in memory only after the removal of the reference is durable (5).
 * I2: an entry changes in memory only when its data has been written (or reads as it did
 *     before, see "fresh" below), so the copies taken contain no entry whose data the flush
 *     in 3 does not cover. Entries that change while the commit runs are in the next one. A
 *     new L2 table is filled in the file (zeroes, or a copy) before its L1 entry changes in
 *     memory; its own slices and the L1 entry may then be written together in 4.
 *     A new refcount block is on disk (1) before the table points to it (2).
 * I3: a guest flush is a commit and a flush after it.
 * One commit runs at a time; flushes that arrive meanwhile share the next one.
 *
 * FRESH CLUSTERS. What lies behind the end of the file, and was never written, reads as
 * zeroes, after a power failure too. Where the guest would see zeroes as well (nothing
 * allocated, no backing there), a fresh cluster is entered into the L2 table first and
 * written afterwards: there is nothing to copy, nobody has to wait, and neighbours in the
 * same cluster write at the same time. `fresh_from` is the first cluster of that kind.
 * No entry ever names what the file does not reach to, not even for an instant, and not if the
 * disk is full: before such clusters are given out the file is made longer (a sector of zeroes
 * at its new end, which nobody has yet; `grown_to`). If that fails, or the file cannot grow, they
 * take the other way. A data write that fails leaves a cluster that reads as zeroes, as before.
 * What was too much is cut off at the end.
 *
 * OTHER ALLOCATIONS (copy on write, reused clusters) read what the guest's write leaves out,
 * write head, data and tail in one request, and then change the L2 entries. Meanwhile
 * they are listed in `allocs`; whoever wants to change or allocate in the same range waits.
 *
 * FREED CLUSTERS must not be given out while a request that found them in a table still
 * uses them; nor may one that is zeroed and kept be filled anew. Such requests are counted in `in_use[epoch]` for the time of their data
 * I/O. A commit that frees flips the epoch, and the clusters are freed when the requests of
 * the old epoch are gone (step 6 is put off until then).
 *
 * EXTERNAL DATA FILE. Guest clusters lie in another file (s->data_file), each at its guest
 * offset, and are not counted: nothing has to be found or freed for them, but nothing is known
 * of what the file holds there either, so none is fresh. A commit flushes that file too before
 * entries are written (step 3). A raw one is kept such that it reads as the disk does: zeroes
 * and discards write to it before they change an entry.
 *
 * SUBCLUSTERS (extended L2 entries). An entry is two words: the cluster, and a bit each for
 * "has data" and "reads as zeroes" for each of 32 parts; a part with neither shows the
 * backing file, whether there is a cluster or not. Where there are none, a cluster is its only
 * part: `subcluster_size` is the cluster's, and the second word reads as 0.
 *
 * LOCKS. `lock` is a plain mutex, held for instants, never over a suspension: it guards
 * all tables and lists here. Three coroutine locks make rare things one at a time; order:
 * l1_lock (making L2 tables, moving the L1 table) > alloc_lock (finding the next free
 * piece, refcount blocks and table) > commit_lock > lock. No coroutine lock is held over
 * data I/O, and requests on allocated clusters take none.
 *
 * Hostile images: every offset and size of the file is checked where it is used; memory is
 * bounded by the limits below and the cache sizes. A damaged table makes requests on it
 * fail with -EIO, and marks the image corrupt (qcow2_damaged).
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_H
#define LIVEBLK_DRIVERS_QCOW2_H

#include <pthread.h>
#include "base/osdep.h"
#include "block/block.h"

#define QCOW2_MAGIC             0x514649fb      /* "QFI\xfb" */
#define QCOW2_MIN_CLUSTER_BITS  9
#define QCOW2_MAX_CLUSTER_BITS  21
#define QCOW2_V2_HEADER_BYTES   72
#define QCOW2_V3_HEADER_BYTES   104             /* the least a v3 header has */
#define QCOW2_V3_HEADER_WRITTEN 112             /* what we write: with compression type */
#define QCOW2_MAX_L1_BYTES      (32 * MiB)
#define QCOW2_MAX_REFTABLE_BYTES (8 * MiB)
#define QCOW2_MAX_SNAPSHOTS     65536
#define QCOW2_MAX_BACKING_NAME  1023

/* Bits of L1 and L2 entries */
#define QCOW2_COPIED            (UINT64_C(1) << 63)  /* refcount is exactly one */
#define QCOW2_COMPRESSED        (1ULL << 62)
#define QCOW2_ZERO              1ULL
#define QCOW2_OFFSET_MASK       UINT64_C(0x00fffffffffffe00)

/* Incompatible features */
#define QCOW2_INCOMPAT_DIRTY    (1ULL << 0)
#define QCOW2_INCOMPAT_CORRUPT  (1ULL << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ULL << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ULL << 3)
#define QCOW2_INCOMPAT_EXT_L2   (1ULL << 4)
#define QCOW2_INCOMPAT_KNOWN    (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT | \
                                 QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION | \
                                 QCOW2_INCOMPAT_EXT_L2)
#define QCOW2_COMPAT_LAZY       (1ULL << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ULL << 0)  /* the bitmaps are right, or marked */
#define QCOW2_AUTOCLEAR_RAW     (1ULL << 1)  /* the external data file is the disk, byte for byte */

#define QCOW2_AUTOCLEAR_KNOWN   (QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW)

/* The second word of an extended L2 entry */
#define QCOW2_SUBCLUSTERS       32
#define QCOW2_EXT_L2_CLUSTER_BITS_MIN 14
#define QCOW2_BITS_DATA         UINT64_C(0x00000000ffffffff)
#define QCOW2_BITS_ZERO         UINT64_C(0xffffffff00000000)

/* Header extensions */
#define QCOW2_CRYPT_AES         1
#define QCOW2_CRYPT_LUKS        2

#define QCOW2_EXT_END           0
#define QCOW2_EXT_BACKING_FMT   0xe2792aca
#define QCOW2_EXT_FEATURES      0x6803f857
#define QCOW2_EXT_CRYPTO        0x0537be77
#define QCOW2_EXT_BITMAPS       0x23852875
#define QCOW2_EXT_DATA_FILE     0x44415441

#define QCOW2_OVERLAP_PAGE_BITS 9

typedef enum Qcow2Kind {
    QCOW2_UNALLOCATED,      /* the backing file, or zeroes */
    QCOW2_ZERO_PLAIN,
    QCOW2_ZERO_ALLOC,       /* reads as zeroes, has a cluster */
    QCOW2_NORMAL,
    QCOW2_PACKED,           /* compressed */
} Qcow2Kind;

/* A piece of a table in memory, in the byte order of the file. */
typedef struct Qcow2Table {
    uint64_t offset;                    /* in the file; key in the cache */
    void *data;
    bool loading;                       /* being read; `data` is not valid yet */
    bool cached;                        /* in its cache: found by offset */
    bool used;                          /* since the last round of clean.c */
    int error;                          /* loading failed */
    unsigned pins;                      /* not to be evicted */
    uint32_t dirty_from, dirty_to;      /* bytes to be written; empty when from >= to */
    CoQueue waiters;                    /* for loading to end */
    TAILQ_ENTRY(Qcow2Table) lru;        /* clean or dirty, the least recently used first */
    TAILQ_ENTRY(Qcow2Table) dirty;
} Qcow2Table;

typedef struct Qcow2Cache {
    GHashTable *tables;                 /* offset -> Qcow2Table */
    uint32_t table_bytes;
    unsigned n_max;                     /* kept, as far as they are clean and not in use */
    unsigned n_dirty;
    TAILQ_HEAD(, Qcow2Table) lru, dirty;
} Qcow2Cache;

/* A copy-on-write allocation on its way. On its writer's stack. */
typedef struct Qcow2Alloc {
    uint64_t guest_from, guest_to;
    CoQueue waiters;
    LIST_ENTRY(Qcow2Alloc) next;
} Qcow2Alloc;

/* A decompressed cluster that is kept; compressed.c. */
typedef struct Qcow2Unpacked Qcow2Unpacked;

/* A run of clusters. */
typedef struct Qcow2Run {
    uint64_t cluster, n;
    bool discard;                       /* give the space back to the file's storage */
} Qcow2Run;

typedef struct Qcow2Ext {
    uint32_t magic, len;
    uint8_t *data;
} Qcow2Ext;

typedef struct Qcow2State {
    /* ---- constant after open ---- */
    unsigned version, cluster_bits, l2_bits, refcount_order;
    uint32_t cluster_size;
    uint64_t l2_entries, rb_entries;    /* in an L2 table, in a refcount block */
    uint32_t slice_bytes, slice_entries;
    bool ext_l2;                        /* entries have two words */
    unsigned subcluster_bits;
    uint32_t subcluster_size;           /* of the cluster, without extended entries */
    bool fixed_length;                  /* the file cannot grow (a device): free clusters may hold anything */
    bool external;                      /* guest data lies in a file of its own */
    bool raw_data;                      /* ... which reads as the disk does */
    unsigned crypt_method;              /* QCOW2_CRYPT_* */
    struct Qcow2Crypt *crypt;           /* of an encrypted image; crypt.h */
    char *data_file_name;               /* as the header has it; or NULL */
    BdrvChild *data_file;               /* where guest data lies: bs->file, or the external file; NULL:
                                         * opened without guest data (BDRV_O_NO_IO) */
    uint64_t cluster_max;               /* clusters that an offset can name */
    unsigned compression_type;          /* 0 zlib, 1 zstd */

    /* ---- the rest of the header; main thread, or l1_lock ---- */
    uint64_t incompatible, compatible, autoclear;
    bool autoclear_pending;             /* atomic: something to be done before the first change */
    uint32_t header_length;
    uint8_t *header_extra;              /* behind byte 112, kept as it is */
    bool header_lost;                   /* a write failed: which header is on disk is not known; so until it is closed */
    char *name_written;                 /* the backing file's name in the header on disk, or NULL, and */
    uint32_t name_offset, header_end;   /* where it stands; up to where that header may go */
    uint8_t *header_tail;               /* what that header has behind its first sector, up to */
    uint32_t tail_bytes;                /* so many bytes of it */
    GArray *extensions;                 /* Qcow2Ext; but not the backing format */
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    GPtrArray *snapshots;               /* Qcow2Snapshot, as many; NULL: they could not be read (BDRV_O_CHECK) */
    uint64_t snapshots_bytes;           /* length of their table */
    bool viewing_snapshot;              /* l1_table is that of a snapshot; read-only */

    struct Qcow2Bitmaps *bitmaps;       /* stored in the image; bitmap.h */

    bool sparse_data;                   /* atomic: the file has holes below allocated clusters */

    /* ---- options; changed on a drained node ---- */
    bool discard_request, discard_snapshot, discard_other;
    bool discard_no_unref;              /* the guest's discards keep the clusters */
    unsigned overlap_check;             /* OVERLAP_ bits */
    QEMUTimer clean_timer;              /* of the main thread; see clean.c */
    uint64_t clean_interval_s;          /* 0: off */

    pthread_mutex_t lock;               /* guards all below */
    uint64_t length_bytes;              /* of the guest's disk */
    uint64_t *l1_table;                 /* host byte order */
    uint32_t l1_size;                   /* entries */
    uint64_t l1_offset;
    uint32_t l1_dirty_from, l1_dirty_to;        /* entries */
    uint64_t *reftable;
    uint32_t reftable_size;             /* entries */
    uint64_t reftable_offset;
    uint32_t reftable_dirty_from, reftable_dirty_to;
    Qcow2Cache l2, rb;
    bool left_dirty;                    /* the header said so before this step: an earlier one failed half way */
    bool corrupt;                       /* no more writing */
    char *damage;                       /* what was found; not told yet */
    uint64_t damage_offset, damage_bytes;       /* where; 0 bytes: not said */
    uint16_t **overlap_pages;           /* what each cluster holds; see overlap.h */
    uint64_t overlap_n_pages, overlap_n_made;
    bool cut_off;                       /* an entry behind the end of the file was found */

    LIST_HEAD(, Qcow2Alloc) allocs;

    TAILQ_HEAD(Qcow2UnpackedList, Qcow2Unpacked) unpacked;
    unsigned n_unpacked;
    uint64_t pack_next;                 /* where the next compressed stream may begin, inside a cluster
                                         * of streams; 0: nowhere */
    uint64_t pack_ticket, pack_turn;    /* streams get their places in the order of tickets */
    CoQueue pack_waiters;
    struct Qcow2PackBatch *pack_spare;  /* kept for the next request */
    unsigned n_pack_spare;

    /* Free clusters: the window is a part of one block that is being given out. */
    Qcow2Table *win_rb;                 /* pinned; NULL: no window */
    uint64_t win_next, win_end;         /* clusters */
    uint64_t scan_next;                 /* where the search goes on behind the window */
    uint64_t scan_again;                /* freed but not remembered in freed_runs: from here */
    GArray *freed_runs;                 /* Qcow2Run: freed in this session, to be used first */
    uint64_t fresh_from;
    uint64_t grown_to;                  /* bytes; the file was made to reach here; 0: not yet */

    /* Clusters that lost a reference. */
    GArray *frees;                      /* Qcow2Run: in memory, not yet in a commit */
    GArray *frees_durable;              /* the removal is durable; waiting for the epoch */
    unsigned epoch;                     /* 0 or 1 */
    unsigned in_use[2];                 /* atomic; requests that use what they found */

    CoMutex l1_lock, alloc_lock, commit_lock;
} Qcow2State;

/* Where a piece of the guest's disk lies. */
typedef struct Qcow2Extent {
    Qcow2Kind kind;
    uint64_t bytes;             /* of the guest, from the offset asked for */
    uint64_t host;              /* NORMAL, ZERO_ALLOC: byte in the file; PACKED: of the stream */
    uint32_t packed_bytes;      /* at most so long is the stream */
    unsigned epoch;             /* to be given back with qcow2_use_end() */
} Qcow2Extent;

/* ---- small things ---- */
static inline uint64_t be64_at(const void *table, uint64_t i)
{
    return GUINT64_FROM_BE(((const uint64_t *)table)[i]);
}

static inline uint64_t qcow2_l1_index(Qcow2State *s, uint64_t offset)
{
    return offset >> (s->cluster_bits + s->l2_bits);
}

static inline uint64_t qcow2_l2_index(Qcow2State *s, uint64_t offset)
{
    return (offset >> s->cluster_bits) & (s->l2_entries - 1);
}

static inline uint64_t qcow2_in_cluster(Qcow2State *s, uint64_t offset)
{
    return offset & (s->cluster_size - 1);
}

/* L1 entries that a disk of @bytes needs. */
static inline uint64_t qcow2_l1_needed(Qcow2State *s, uint64_t bytes)
{
    unsigned shift = s->cluster_bits + s->l2_bits;

    return (bytes >> shift) + !!(bytes & ((1ULL << shift) - 1));
}

/* The two words of entry @i of a slice. */
static inline uint64_t qcow2_entry(const Qcow2State *s, const void *slice, uint64_t i)
{
    return be64_at(slice, i << s->ext_l2);
}

static inline uint64_t qcow2_bits(const Qcow2State *s, const void *slice, uint64_t i)
{
    return s->ext_l2 ? be64_at(slice, 2 * i + 1) : 0;
}

/* The bits for "has data" of subclusters [@from, @to). */
static inline uint64_t qcow2_bits_range(unsigned from, unsigned to)
{
    return ((1ULL << to) - 1) & ~((1ULL << from) - 1);
}

/* Does an entry that is not compressed name a cluster? At 0 there can be one only outside. */
static inline bool qcow2_entry_has_cluster(const Qcow2State *s, uint64_t entry)
{
    return (entry & QCOW2_OFFSET_MASK) || (s->external && (entry & QCOW2_COPIED));
}

/* ... of its own, that may be written to? What lies outside is not shared. */
static inline bool qcow2_entry_is_own(const Qcow2State *s, uint64_t entry)
{
    return s->external || (entry & QCOW2_COPIED);
}

static inline void qcow2_lock(Qcow2State *s)
{
    pthread_mutex_lock(&s->lock);
}

static inline void qcow2_unlock(Qcow2State *s)
{
    pthread_mutex_unlock(&s->lock);
}

/* Count a request that is about to use clusters it found in a table. `lock` held. */
static inline unsigned qcow2_use_begin(Qcow2State *s)
{
    __atomic_fetch_add(&s->in_use[s->epoch], 1, __ATOMIC_RELAXED);
    return s->epoch;
}

static inline void qcow2_use_end(Qcow2State *s, unsigned epoch)
{
    __atomic_fetch_sub(&s->in_use[epoch], 1, __ATOMIC_RELEASE);
}

/* Is any request using what it found? `lock` held: none begins meanwhile. */
static inline bool qcow2_in_use(Qcow2State *s)
{
    return __atomic_load_n(&s->in_use[0], __ATOMIC_ACQUIRE) || __atomic_load_n(&s->in_use[1], __ATOMIC_ACQUIRE);
}

static inline bool table_is_dirty(const Qcow2Table *t)
{
    return t->dirty_from < t->dirty_to;
}

/* ---- header.c; main thread, coroutine ---- */
int coroutine_fn qcow2_co_read_header(BlockDriverState *bs, int flags, Error **errp);
/* The bytes of the header for the state and these names (may be NULL); NULL if they do not
 * fit. The caller unrefs. */
GByteArray *qcow2_header_build(Qcow2State *s, const char *backing_file, const char *backing_fmt);
/* Write @header over the one of @s (NULL: there is none): the first sector as a whole, and last. */
int coroutine_fn qcow2_co_put_header(BdrvChild *file, Qcow2State *s, const GByteArray *header);
/* Write it from the state, with the names it has. */
int coroutine_fn qcow2_co_write_header(BlockDriverState *bs);
void qcow2_free_header(Qcow2State *s);
/* The table of feature names that new images have; the caller frees. */
uint8_t *qcow2_feature_names(uint32_t *len);

/* ---- cache.c; all with `lock` held ---- */
void qcow2_cache_init(Qcow2Cache *c, uint32_t table_bytes, uint64_t limit_bytes);
void qcow2_cache_destroy(Qcow2Cache *c);
/* All tables; none is pinned, what is dirty is lost. */
void qcow2_cache_forget(Qcow2Cache *c);
/* All but those that are dirty; of those that go none is pinned. */
void qcow2_cache_forget_clean(Qcow2Cache *c);
/* The table at @offset if it is in memory, unpinned; else NULL. Never suspends. */
Qcow2Table *qcow2_cache_peek(Qcow2Cache *c, uint64_t offset);
/* The table at @offset, pinned. May drop `lock` to read it: then *dropped is set, and what
 * was looked up before must be looked up again. 0 or -errno. */
int coroutine_fn qcow2_co_cache_get(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset,
                                    Qcow2Table **table, bool *dropped);
/* A new table of zeroes that need not be read, pinned, clean. What was known of the place
 * is forgotten. */
Qcow2Table *qcow2_cache_new(BlockDriverState *bs, Qcow2Cache *c, uint64_t offset);
void qcow2_cache_put(Qcow2Cache *c, Qcow2Table *t);
/* Bytes [from, to) changed. */
void qcow2_cache_dirty(Qcow2Cache *c, Qcow2Table *t, uint32_t from, uint32_t to);
void qcow2_cache_clean(Qcow2Cache *c, Qcow2Table *t);
/* The place was freed: forget its tables, dirty or not. */
void qcow2_cache_drop(Qcow2Cache *c, uint64_t offset, uint64_t bytes);

/* Forget tables that nobody has used since the last time. `lock` held. */
void qcow2_cache_age(Qcow2Cache *c);

/* ---- clean.c; main thread ---- */
void qcow2_clean_start(BlockDriverState *bs, uint64_t interval_s);
void qcow2_clean_stop(Qcow2State *s);

/* ---- map.c ---- */
/* Of the cluster as a whole: with subclusters NORMAL says only that there is one. */
Qcow2Kind qcow2_entry_kind(Qcow2State *s, uint64_t entry);
/* Of subcluster @i of the cluster; without subclusters, of the cluster. */
Qcow2Kind qcow2_sub_kind(Qcow2State *s, uint64_t entry, uint64_t bits, unsigned i);
/* Check what an entry says of the cluster at @guest. `lock` held. False: the image was marked
 * corrupt. */
bool qcow2_entry_valid(BlockDriverState *bs, uint64_t guest, uint64_t entry, uint64_t bits);
/* Find @offset. The extent is at least one byte, at most @bytes. With kind NORMAL or PACKED it
 * is in use until qcow2_use_end(). Takes `lock`. 0 or -errno. */
int coroutine_fn qcow2_co_map(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                              Qcow2Extent *e);
/* The slice that holds the entry of @offset, pinned, in an L2 table that may be changed: made
 * or copied if need be. `lock` is held before and after, but may be dropped: see *dropped. */
int coroutine_fn qcow2_co_slice_for_write(BlockDriverState *bs, uint64_t offset,
                                          Qcow2Table **slice, uint32_t *index, bool *dropped);
/* Set entries; `lock` held, @slice pinned. Entry i is @first + i * @step; the second words,
 * if there are, become @bits. */
void qcow2_set_entries(Qcow2State *s, Qcow2Table *slice, uint32_t index, uint32_t n,
                       uint64_t first, uint64_t step, uint64_t bits);
/* The reference in @entry is gone from memory: free what it refers to, after the commit. */
void qcow2_free_entry(Qcow2State *s, uint64_t entry, bool discard);
/* Where the stream of a compressed entry lies. */
void qcow2_packed_place(Qcow2State *s, uint64_t entry, uint64_t *host, uint32_t *bytes);
/* Something in the image cannot be: no more writing. `lock` held. */
void qcow2_damaged(BlockDriverState *bs, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* An entry names data behind the end of the file: reading that fails, the rest goes on. `lock` held. */
void qcow2_found_cut_off(BlockDriverState *bs, uint64_t host);
/* After a request failed: if damage was found tell it, and put the corrupt bit into the header. */
void coroutine_fn qcow2_co_note_damage(BlockDriverState *bs);

/* ---- open.c; main thread, no request in flight ---- */
/* Write all that is in memory, with what waits to be freed, and give up the window. */
int coroutine_fn qcow2_co_settle(BlockDriverState *bs);
/* No table is in use: forget what is in memory of them, for they will be changed on disk. What is dirty, since it could not
 * be written, stays: counters of clusters that somebody will want to free. */
void qcow2_forget_tables(Qcow2State *s);
/* The file was changed: read the tables again. On failure nothing is written any more. */
int coroutine_fn qcow2_co_reload(BlockDriverState *bs);

/* ---- check.c; the same ---- */
int coroutine_fn qcow2_co_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix);

/* ---- alloc.c, refcount.c ---- */
uint64_t qcow2_refcount_get(const void *block, unsigned order, uint64_t i);
void qcow2_refcount_set(void *block, unsigned order, uint64_t i, uint64_t value);
/* Take up to @want neighbouring free clusters from the window. `lock` held; never suspends.
 * Returns how many; 0: call qcow2_co_alloc_refill() without `lock`, and try again. *fresh:
 * all of them are. */
uint64_t qcow2_alloc_try(BlockDriverState *bs, uint64_t want, uint64_t *cluster, bool *fresh);
int coroutine_fn qcow2_co_alloc_refill(BlockDriverState *bs);
/* One cluster or more, waiting as needed; takes `lock`. */
int coroutine_fn qcow2_co_alloc(BlockDriverState *bs, uint64_t want, uint64_t *cluster,
                                uint64_t *n, bool *fresh);
/* Exactly @n neighbouring clusters behind all that are used. */
int coroutine_fn qcow2_co_alloc_at_end(BlockDriverState *bs, uint64_t n, uint64_t *cluster);
/* The block that counts @cluster, pinned; *table NULL if there is none. `lock` held, may be
 * dropped. */
int coroutine_fn qcow2_co_refcount_block(BlockDriverState *bs, uint64_t cluster,
                                         Qcow2Table **table, bool *dropped);
/* Remember that clusters are free again. `lock` held. */
void qcow2_alloc_freed(Qcow2State *s, uint64_t cluster, uint64_t n);
/* The window goes back. `lock` held. */
void qcow2_alloc_close_window(Qcow2State *s);

/* ---- commit.c ---- */
/* Write back what is dirty. @durable: the caller flushes the files afterwards (qcow2_co_flush_files(), or as the wrapper of a
 * flush does): what waits for that is freed. */
int coroutine_fn qcow2_co_commit(BlockDriverState *bs, bool durable);
/* The same with commit_lock held by the caller. */
int coroutine_fn qcow2_co_commit_locked(BlockDriverState *bs, bool durable);
/* Only the refcount blocks (step 1); commit_lock held. */
int coroutine_fn qcow2_co_commit_blocks(BlockDriverState *bs);
/* Before a request that changes something: clear the autoclear bits, once; commit if much is
 * dirty. */
int coroutine_fn qcow2_co_before_change(BlockDriverState *bs);
/* One reference less, after the next commit. `lock` held. */
void qcow2_free_clusters(Qcow2State *s, uint64_t cluster, uint64_t n, bool discard);
int coroutine_fn qcow2_co_flush(BlockDriverState *bs);
/* Make what was written to the file, and to the external data file, durable. */
int coroutine_fn qcow2_co_flush_files(BlockDriverState *bs);

/* ---- read.c, write.c, compressed.c, zero_discard.c ---- */
int coroutine_fn qcow2_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
/* Read what is allocated nowhere here: the backing file, and zeroes behind it. */
int coroutine_fn qcow2_co_read_backing(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                                       QEMUIOVector *qiov, size_t qiov_offset,
                                       BdrvRequestFlags flags);
/* Read the file, zeroes behind its end; or where guest data lies. */
int coroutine_fn qcow2_co_read_file(BlockDriverState *bs, uint64_t host, uint64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    BdrvRequestFlags flags);
int coroutine_fn qcow2_co_read_data(BlockDriverState *bs, uint64_t host, uint64_t bytes,
                                    QEMUIOVector *qiov, size_t qiov_offset,
                                    BdrvRequestFlags flags);
/* Is there something below, or will there be? */
static inline bool qcow2_has_backing(BlockDriverState *bs)
{
    return bs->backing || __atomic_load_n(&bs->backing_awaited, __ATOMIC_RELAXED);
}
/* Do unallocated clusters at [offset, +bytes) read as zeroes for certain? */
bool qcow2_backing_is_zero(BlockDriverState *bs, uint64_t offset, uint64_t bytes);
int coroutine_fn qcow2_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                       int64_t bytes, int64_t *pnum, int64_t *map,
                                       BlockDriverState **file);
int coroutine_fn qcow2_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                  QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);
/* Wait until no allocation is on its way in the range. `lock` held; true: it was dropped. */
bool coroutine_fn qcow2_co_wait_allocs(Qcow2State *s, uint64_t from, uint64_t to);
/* Decompress whole clusters from @offset on into @buf, of @bytes: @first, which is one, and some that follow. Ends their
 * use. *done: how many bytes that was. */
int coroutine_fn qcow2_co_read_packed_run(BlockDriverState *bs, const Qcow2Extent *first, uint64_t offset, uint64_t bytes,
                                          void *buf, uint64_t *done);
/* [@within, +@bytes) of a cluster, from what is kept if it is there. */
int coroutine_fn qcow2_co_read_packed_part(BlockDriverState *bs, uint64_t host, uint32_t packed_bytes,
                                           uint64_t within, uint64_t bytes, QEMUIOVector *qiov, size_t qiov_offset);
/* What was kept of streams in this place of the file is void. `lock` held. */
void qcow2_unpacked_forget(Qcow2State *s, uint64_t host, uint64_t bytes);
/* Whole clusters; the last one of the disk may be short. */
int coroutine_fn qcow2_co_pwritev_compressed(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                             QEMUIOVector *qiov, size_t qiov_offset);
/* What is kept of memory for compressed writes goes. */
void qcow2_pack_free(Qcow2State *s);
/* The next stream begins a cluster. `lock` held. */
void qcow2_pack_close(Qcow2State *s);
int coroutine_fn qcow2_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                        BdrvRequestFlags flags);
/* Forget clusters, whatever the backing file shows then: what is cut off. */
int coroutine_fn qcow2_co_unmap(BlockDriverState *bs, uint64_t offset, uint64_t bytes);
int coroutine_fn qcow2_co_make_empty(BlockDriverState *bs);
int coroutine_fn qcow2_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);

/* Read @c, zeroes behind its end. */
int coroutine_fn qcow2_co_read_child(BdrvChild *c, uint64_t host, uint64_t bytes, QEMUIOVector *qiov, size_t qiov_offset,
                                     BdrvRequestFlags flags);

/* ---- crypt.c ---- */
typedef struct Qcow2Crypt Qcow2Crypt;
/* Guest data at @host of the file; with encryption whole sectors. */
int coroutine_fn qcow2_co_read_encrypted(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset);
int coroutine_fn qcow2_co_write_data(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset, BdrvRequestFlags flags);
/* Main thread. Get the key; or, where only the image itself is asked about, the header. */
/* The same of method 1, where the guest sees it at @guest. */
int coroutine_fn qcow2_co_read_aes(BlockDriverState *bs, uint64_t host, uint64_t guest, uint64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset);
int coroutine_fn qcow2_co_amend_keys(BlockDriverState *bs, QDict *options, bool force, Error **errp);
int coroutine_fn qcow2_co_crypt_open(BlockDriverState *bs, const BlockdevQcow2Encryption *opts, int flags, Error **errp);
void qcow2_crypt_free(Qcow2State *s);
ImageInfoSpecificQCow2Encryption *qcow2_crypt_info(Qcow2State *s);
/* Make an image encrypted that has no data yet. */
int coroutine_fn qcow2_co_crypt_create(BlockDriverState *bs, const QCryptoBlockCreateOptions *opts, Error **errp);

/* ---- bitmap.c; main thread, no request in flight ---- */
typedef struct Qcow2Bitmaps Qcow2Bitmaps;
/* Read the directory, and (unless only the image is asked about) the bitmaps, which the node has then. */
int coroutine_fn qcow2_co_bitmaps_open(BlockDriverState *bs, int flags, Error **errp);
/* Of an image opened for a check: what is wrong with their directory, or NULL; lent. */
const char *qcow2_bitmaps_broken(Qcow2State *s);
/* ... take what is damaged out of it. *dropped: how many bitmaps are gone. The clusters are leaks then. */
int coroutine_fn qcow2_co_bitmaps_mend(BlockDriverState *bs, unsigned *dropped);
/* The node has them no more. */
void qcow2_bitmaps_free(BlockDriverState *bs);
/* Have they to be marked as in use before the image changes? Do that, with l1_lock held, any thread. */
bool qcow2_bitmaps_to_mark(Qcow2State *s);
int coroutine_fn qcow2_co_bitmaps_mark(BlockDriverState *bs);
/* Write those that changed back, and unmark them. */
int coroutine_fn qcow2_co_bitmaps_store(BlockDriverState *bs, Error **errp);
/* May the disk change its length? */
int qcow2_bitmaps_check_resize(BlockDriverState *bs, Error **errp);
bool coroutine_fn qcow2_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name, uint32_t granularity,
                                                      Error **errp);
int coroutine_fn qcow2_co_remove_persistent_dirty_bitmap(BlockDriverState *bs, const char *name, Error **errp);
Qcow2BitmapInfoList *qcow2_bitmaps_info(BlockDriverState *bs);

/* ---- prealloc.c ---- */
/* Give each cluster of [from, to), which has none, a place behind the end of the file, with space as @prealloc says;
 * @from is a cluster's beginning. Where the backing file holds something the entries let it show. Coroutine; nothing else
 * changes the range meanwhile. */
int coroutine_fn qcow2_co_preallocate(BlockDriverState *bs, uint64_t from, uint64_t to, PreallocMode prealloc,
                                      Error **errp);

/* ---- grow.c, create.c, info.c ---- */
/* Write @n entries of an L1 table to @place, and make them durable. */
int coroutine_fn qcow2_co_write_l1(BlockDriverState *bs, uint64_t place, const uint64_t *table, uint32_t n);
int coroutine_fn qcow2_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                   PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
int coroutine_fn qcow2_co_create(BlockdevCreateOptions *opts, Error **errp);
/* A larger L1 table, of @size entries. */
int coroutine_fn qcow2_co_l1_grow(BlockDriverState *bs, uint64_t size);
int qcow2_probe(const uint8_t *buf, size_t len, const char *filename);
int qcow2_get_info(BlockDriverState *bs, BlockDriverInfo *info);

/* ---- vmstate.c ---- */
int coroutine_fn qcow2_co_load_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
int coroutine_fn qcow2_co_save_vmstate(BlockDriverState *bs, int64_t pos, QEMUIOVector *qiov);
ImageInfoSpecific *qcow2_get_specific_info(BlockDriverState *bs, Error **errp);
int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *backing_file,
                                              const char *backing_fmt, Error **errp);

#endif
