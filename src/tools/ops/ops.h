/* SPDX-License-Identifier: MIT */
/* ops.h: operations on whole images, without printing: what several programs share.
 *
 * Context: a coroutine in the main thread that holds the control lock (see ops_run), unless
 * said otherwise. Errors: -errno and *errp set once.
 */
#ifndef LIVEBLK_OPS_OPS_H
#define LIVEBLK_OPS_OPS_H

#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/qdict.h"

/* Run @fn in a coroutine under the control lock, and wait. Main thread, outside coroutines. */
int ops_run(int coroutine_fn (*fn)(void *opaque, Error **errp), void *opaque, Error **errp);

/* ---- opening ---- */
typedef struct OpsSource {
    const char *name;           /* file name, or block options */
    const char *format;         /* NULL: probed */
    bool image_opts;            /* @name is block options */
    bool force_share;
    bool writable;
    bool check;                 /* to be checked: what is marked corrupt may be written, the backing chain stays closed */
    bool resize;                /* its length is to be changed */
    bool no_backing;            /* the backing chain stays closed */
    bool no_data;               /* only what the image says about itself is asked for */
} OpsSource;

/* Open; the caller unrefs. NULL and *errp. */
BlockBackend *coroutine_fn ops_open(const OpsSource *src, Error **errp);

/* ---- passwords ---- */
/* Make a secret of "FILE" or "[id=ID,]file=FILE[,format=base64]" (or data=, which warns). The first one is for all
 * encrypted images that are opened or made by name. Main thread, before anything is opened. */
int ops_secret_add(const char *text, Error **errp);
/* If the image @filename, opened with @options, is encrypted, add to them what opens it. Without a secret nothing. */
void coroutine_fn ops_secret_put(const char *filename, QDict *options);
/* The same for an image of @format that is to be made: if its options say that it is to be encrypted. */
void ops_secret_put_new(const char *format, QDict *options);
/* If *errp says that a password is missing, add how to give it. */
void ops_secret_hint(Error **errp);

/* ---- servers in TLS ---- */
/* By what names nbds://... are met that do not say it: the folder of certificates or of keys.psk, whose key, the name that
 * certificates have to have. Each may be NULL; lent. Any context, before anything is opened. */
void ops_tls_set(const char *folder, const char *user, const char *hostname);
/* Is @name that of an NBD server in TLS? Any context. */
bool ops_tls_is(const char *name);
/* Make its credentials, and options of its node, which opens it. A new reference, or NULL and *errp. Main thread. */
QDict *ops_tls_node(const char *name, Error **errp);
/* The same for another program: *creds is what object-add takes there; its id is the same for the same credentials. Both are
 * new references. Any context. */
QDict *ops_tls_describe(const char *name, QDict **creds, Error **errp);

/* ---- targets that cannot be made, only used as they are ---- */
/* Is @filename one: a device, an export of an NBD server? Any context. */
bool ops_place_is(const char *filename);
/* Options of its protocol node. A new reference, or NULL and *errp. Main thread. */
QDict *ops_place_options(const char *filename, Error **errp);
/* Look that it is there and holds @bytes; it is taken for nothing that it was (its first sector is zeroed). Coroutine, main
 * thread. 0 or -errno; -ENXIO: it could not be opened. */
int coroutine_fn ops_place_take(const char *filename, int64_t bytes, Error **errp);

/* Does @target, which was just made, read as zeroes? On a device or below a cipher that is not so by itself. Coroutine. */
bool coroutine_fn ops_new_is_zero(BlockBackend *target);

/* ---- creating ---- */
typedef struct OpsCreate {
    const char *filename;
    const char *format;         /* NULL: ops_format_for(filename) */
    int64_t size;               /* bytes; -1: of the backing image */
    const char *backing, *backing_format;
    const char *options;        /* "key=value,..." of blockdev-create, NULL: none */
    bool force;                 /* an existing file is replaced */
} OpsCreate;

/* A file that is made under another name beside @final, so that @final is never half written.
 * begin: the other name, lent until commit or abort, or NULL and *errp (@final exists and not @force).
 * A device or export is written in place: its own name. One at a time. Any context. */
typedef struct OpsTemp {
    char *name, *final;
    bool force, in_place;
} OpsTemp;
const char *ops_temp_begin(OpsTemp *t, const char *final, bool force, Error **errp);
int ops_temp_commit(OpsTemp *t, Error **errp);
void ops_temp_abort(OpsTemp *t);
/* Remove what is there half made: for handlers of signals that end the program. */
void ops_temp_on_signal(void);

/* An existing file that is to be replaced is not in use by another program, nor read-only; 0 where
 * there is none. */
int coroutine_fn ops_check_unused(const char *filename, Error **errp);

/* "raw" for *.img, *.raw, *.iso, devices and exports, else "qcow2". */
const char *ops_format_for(const char *filename);
/* Make it. On failure nothing is left behind; an existing file is as it was, but for errors while
 * it was being replaced in place (devices). */
int coroutine_fn ops_create(const OpsCreate *c, Error **errp);
/* The same without another name and without looking at the backing image: c->size is known, and
 * c->filename is the caller's to remove. */
int coroutine_fn ops_create_plain(const OpsCreate *c, Error **errp);
/* As blockdev-create takes it, for @filename in place of c->filename: for the file (*file NULL: a
 * device or export, which exists), and for the format (*image NULL: raw, nothing to do). @place: options of the protocol
 * node of a device or export, lent; NULL: a file. New references. Any context; c->size is known. */
int ops_create_options(const OpsCreate *c, const char *filename, QDict *place, QDict **file, QDict **image, Error **errp);
/* One blockdev-create, with values as key=value options have them. */
int coroutine_fn ops_create_one(QDict *options, Error **errp);
/* If @image has "data-file" as a name of a file, make that file too (devices exist), and put a
 * reference in the name's place. */
int coroutine_fn ops_create_data_file(QDict *image, Error **errp);
/* The file an image opened at @filename with backing file @backing finds it at. */
char *ops_backing_path(const char *filename, const char *backing);

/* ---- extents ---- */
typedef struct OpsExtent {
    int64_t start, length;
    int depth;                  /* images down the chain; 0: the image itself */
    bool present, zero, data, compressed;
    int64_t offset;             /* where in @file; -1: nowhere */
    const char *file;           /* lent while the graph stays */
} OpsExtent;

/* Call @fn for each extent, neighbours of one kind joined; it returns non-zero to stop, which is
 * returned. */
int coroutine_fn ops_map(BlockBackend *blk, int (*fn)(const OpsExtent *e, void *opaque), void *opaque, Error **errp);

/* The same for @bytes from @start on; no more than there is. */
int coroutine_fn ops_map_range(BlockBackend *blk, int64_t start, int64_t bytes,
                               int (*fn)(const OpsExtent *e, void *opaque), void *opaque, Error **errp);

/* ---- telling ---- */
/* What is known of @bs and of the nodes below, backing images apart. The caller frees. */
BlockGraphInfo *coroutine_fn ops_graph_info(BlockDriverState *bs);

/* Can bitmaps be stored in images as this one? */
bool ops_stores_bitmaps(BlockDriverState *bs);
/* What those that @bs stores would take in an image with such clusters, all bits written; bytes. */
uint64_t ops_measure_bitmaps(BlockDriverState *bs, uint64_t cluster_size);

/* Could @bs store a new bitmap @name? *@granularity: bytes a bit stands for; 0 becomes the usual one. Suspends. */
int coroutine_fn ops_bitmap_can_add(BlockDriverState *bs, const char *name, uint64_t *granularity, Error **errp);
/* Make one that is stored, and records what is written. NULL and *errp. Suspends. */
BdrvDirtyBitmap *coroutine_fn ops_bitmap_add(BlockDriverState *bs, const char *name, uint64_t granularity, Error **errp);
/* Mark in @to what @from marks of the first @length bytes. */
void ops_bitmap_mark(BdrvDirtyBitmap *to, BdrvDirtyBitmap *from, int64_t length);
/* Can the bitmaps stored in @source be copied? Those that are lost cannot: @skip_broken leaves them out. */
int ops_bitmaps_check(BlockDriverState *source, bool skip_broken, Error **errp);
/* Give @target, which can store them, those that @source stores; lost ones are left out with a warning. */
int ops_bitmaps_copy(BlockDriverState *source, BlockDriverState *target, Error **errp);
/* Write the bitmaps of an image to its file now, where closing it could only print that it failed. It is read-only then.
 * Control lock */
int ops_bitmaps_store(BlockBackend *blk, Error **errp);

/* The size of a file that holds an image. */
typedef struct OpsMeasure {
    bool qcow2;                 /* else raw, with bytes of a header before it */
    uint64_t header_bytes;      /* of encryption; 0: none */
    uint64_t size;              /* that the guest sees, bytes */
    BlockBackend *source;       /* what is to be copied; NULL: nothing */
    uint64_t cluster_size;
    unsigned refcount_bits;
    bool extended_l2, allocate_all;
    uint64_t required, fully_allocated;         /* out, bytes */
} OpsMeasure;
int coroutine_fn ops_measure(OpsMeasure *m, Error **errp);

/* ---- copying and comparing ---- */
/* Run @n coroutines of @fn, all in this thread, and wait until all have returned. */
typedef void coroutine_fn OpsWorker(void *opaque);
void coroutine_fn ops_run_workers(int n, OpsWorker *fn, void *opaque);

/* Copy bytes as they are, one after the other. The target may lie beyond its end, where it can grow. */
int coroutine_fn ops_copy_plain(BlockBackend *source, int64_t source_offset, BlockBackend *target, int64_t target_offset,
                                int64_t bytes, Error **errp);
typedef struct OpsProgress {
    int64_t done, total;        /* bytes of the disk; written in the main thread */
} OpsProgress;

/* Copy images, one behind the other, into one that is long enough. */
typedef struct OpsConvert {
    BlockBackend **sources;
    int n_sources;
    BlockBackend *target;
    int workers;                        /* 1..64 */
    bool in_order;                      /* the target is written from front to back */
    int64_t sparse_bytes;               /* runs of so many zeroes are not written; 0: all are */
    bool target_is_zero;                /* what is not written there reads as zeroes */
    bool target_has_backing;            /* what a source's own backing image holds is left to the target's */
    int64_t target_backing_length;
    int64_t compressed;                 /* bytes of the target's clusters, to compress; 0: plainly */
    bool copy_range, salvage, quiet;
    uint64_t rate;                      /* bytes a second; 0: unlimited */
    OpsProgress *progress;
} OpsConvert;
int coroutine_fn ops_convert(const OpsConvert *o, Error **errp);

/* Make @overlay show the same above another backing image (NULL: none), by copying what differs into
 * it; the header is not changed. */
typedef struct OpsRebase {
    BlockBackend *overlay, *old_backing, *new_backing;  /* NULL: none */
    BlockDriverState *common;           /* where the old chain goes on as new_backing does; NULL: nowhere known */
    bool compress;
    OpsProgress *progress;
} OpsRebase;
int coroutine_fn ops_rebase(const OpsRebase *r, Error **errp);
/* The node of the chain @old that is the same image as @backing; lent, or NULL. */
BlockDriverState *ops_find_common(BlockDriverState *old, BlockBackend *backing);

/* Write what @top has above @base, an image of its backing chain, into @base, which grows if it is
 * shorter; then make @top empty, if @empty. */
typedef struct OpsCommit {
    BlockBackend *top;
    BlockDriverState *base;
    bool empty;
    uint64_t rate;                      /* bytes a second; 0: unlimited */
    OpsProgress *progress;
} OpsCommit;
int coroutine_fn ops_commit(const OpsCommit *o, Error **errp);
/* The image below @top that goes by @name: as opened, as the image above it names it, or by whatever path
 * leads to the same file. Lent; NULL: there is none. */
BlockDriverState *ops_find_backing(BlockDriverState *top, const char *name);

/* The result of a check as the object ImageCheck of the control protocol; a new reference. */
QDict *ops_check_object(const BdrvCheckResult *r, const char *filename, const char *format);

/* Requests of one size, some in flight. */
typedef struct OpsBench {
    BlockBackend *blk;
    int64_t count, depth, bytes, step, offset;
    bool write, drain_on_flush, durable;        /* durable: each write, when it is done */
    int64_t flush_interval;             /* 0: never */
    uint8_t pattern;
} OpsBench;
/* Ends with the first request that fails: its -errno. */
int coroutine_fn ops_bench(const OpsBench *b);

typedef struct OpsCompare {
    BlockBackend *a, *b;
    bool strict;                /* sizes and allocation too */
    OpsProgress *progress;
    int64_t different_at;       /* out: -1: the same */
    const char *why;            /* out: what differs: "content", "allocation", "size" */
} OpsCompare;
int coroutine_fn ops_compare(OpsCompare *c, Error **errp);

#endif
