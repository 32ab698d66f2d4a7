/* SPDX-License-Identifier: MIT */
/* block-common.h: the words of the block layer: permissions, roles, request
 * flags, status bits, limits. No functions but tiny inline ones.
 */
#ifndef LIVEBLK_BLOCK_COMMON_H
#define LIVEBLK_BLOCK_COMMON_H

#include "block/aio.h"
#include "block/error.h"
#include "block/iov.h"
#include "block/qdict.h"
#include "block/qapi-types.h"

typedef struct BlockDriver BlockDriver;
typedef struct BlockDriverState BlockDriverState;
typedef struct BdrvChild BdrvChild;
typedef struct BdrvChildClass BdrvChildClass;
typedef struct BlockBackend BlockBackend;
typedef struct BdrvDirtyBitmap BdrvDirtyBitmap;
typedef struct HBitmap HBitmap;
typedef struct BlockReopenQueue BlockReopenQueue;
typedef struct Transaction Transaction;

typedef void BlockCompletionFunc(void *opaque, int ret);

/* ---- permissions: what a parent needs (perm) and lets others have (shared) ---- */
enum {
    BLK_PERM_CONSISTENT_READ = 0x01,   /* reads show the image as a guest saw it at some time */
    BLK_PERM_WRITE           = 0x02,   /* change visible contents */
    BLK_PERM_WRITE_UNCHANGED = 0x04,   /* write, but only what reads there already (copy on read) */
    BLK_PERM_RESIZE          = 0x08,
    BLK_PERM_ALL             = 0x0f,
    /* What a parent that keeps data usually lets through to its children unchanged. */
    BLK_PERM_DEFAULT_PASSTHROUGH = BLK_PERM_ALL,
};
/* The schema's name of one permission: "consistent-read", "write" ... */
LIVEBLK_PUBLIC const char *bdrv_perm_name(uint64_t one_perm);
/* Names of all in @perm, comma separated; the caller frees. */
LIVEBLK_PUBLIC char *bdrv_perm_names(uint64_t perm);

/* ---- roles of a child; a set ---- */
typedef unsigned BdrvChildRole;
enum {
    BDRV_CHILD_DATA     = 1 << 0,   /* holds guest data */
    BDRV_CHILD_METADATA = 1 << 1,   /* holds the format's tables */
    BDRV_CHILD_FILTERED = 1 << 2,   /* the parent shows exactly this child's data */
    BDRV_CHILD_COW      = 1 << 3,   /* read where the parent has nothing (backing) */
    BDRV_CHILD_PRIMARY  = 1 << 4,   /* the one that makes up the node's name and length */
};

/* ---- open flags ---- */
enum {
    BDRV_O_RDWR         = 1 << 0,   /* else read-only */
    BDRV_O_RESIZE       = 1 << 1,   /* may grow the protocol file */
    BDRV_O_NOCACHE      = 1 << 2,   /* cache.direct: O_DIRECT */
    BDRV_O_NO_FLUSH     = 1 << 3,   /* cache.no-flush: flushes do nothing */
    BDRV_O_UNMAP        = 1 << 4,   /* discard=unmap */
    BDRV_O_AUTO_RDONLY  = 1 << 5,   /* fall back to read-only if writing is not possible */
    BDRV_O_NO_BACKING   = 1 << 6,   /* do not open the backing chain */
    BDRV_O_NO_IO        = 1 << 7,   /* metadata only: no guest data is read */
    BDRV_O_CHECK        = 1 << 8,   /* opened for checking: tolerate what check repairs */
    BDRV_O_NO_SHARE     = 1 << 10,  /* blk_new_open(): nobody else may write, though we only read */
    BDRV_O_FORCE_SHARE  = 1 << 9,   /* share everything, take no locks; read-only */
};

/* ---- request flags ---- */
/* What a check found. */
typedef struct BdrvCheckResult {
    int64_t corruptions, leaks, check_errors;           /* still there */
    int64_t corruptions_fixed, leaks_fixed;
    int64_t image_end_offset;
    int64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters;
    /* In: told of each finding, a line without its end; NULL: nobody. */
    void (*report)(void *opaque, const char *text);
    void *opaque;
} BdrvCheckResult;

typedef enum BdrvCheckMode {
    BDRV_FIX_LEAKS  = 1 << 0,
    BDRV_FIX_ERRORS = 1 << 1,
} BdrvCheckMode;

/* What is to change in an image; see bdrv_co_amend(). */
typedef struct BdrvAmendOptions {
    unsigned version;                   /* of the format; 0: as it is */
    bool has_lazy_refcounts, lazy_refcounts, has_data_file_raw, data_file_raw;
    int64_t refcount_bits, size;        /* size in bytes; -1: as it is */
    char *backing_file, *backing_fmt, *data_file;       /* NULL: as it is */
    QDict *encrypt;                     /* change of passwords, JSON of the schema; NULL: none */
    bool only_encrypt;                  /* nothing else is to change: the image stays in use */
    bool force;                         /* also if the image could not be read any more then */
} BdrvAmendOptions;

typedef enum BdrvRequestFlags {
    BDRV_REQ_FUA             = 1 << 0,  /* durable before it completes */
    BDRV_REQ_MAY_UNMAP       = 1 << 1,  /* zeroes may be made by giving space back */
    BDRV_REQ_NO_FALLBACK     = 1 << 2,  /* zeroes: fail with -ENOTSUP rather than write buffers */
    BDRV_REQ_ZERO_WRITE      = 1 << 3,  /* internal: a write whose data is all zero */
    BDRV_REQ_SERIALISING     = 1 << 4,  /* no overlapping request runs meanwhile */
    BDRV_REQ_WRITE_COMPRESSED = 1 << 5,
    BDRV_REQ_REGISTERED_BUF  = 1 << 6,  /* the buffer was registered with the host */
    BDRV_REQ_PREFETCH        = 1 << 7,  /* read: data is not wanted, only what it triggers (COR) */
    BDRV_REQ_WRITE_UNCHANGED = 1 << 8,
    BDRV_REQ_COPY_ON_READ    = 1 << 9,
    BDRV_REQ_NO_WAIT         = 1 << 10, /* serialising: -EBUSY instead of waiting */
    BDRV_REQ_BULK            = 1 << 11, /* a job's bulk copy: throughput, give way to guests */
    BDRV_REQ_MASK            = (1 << 12) - 1,
} BdrvRequestFlags;

/* ---- block status ---- */
enum {
    BDRV_BLOCK_DATA         = 0x01, /* reads come from this node's own data */
    BDRV_BLOCK_ZERO         = 0x02, /* reads as zeroes */
    BDRV_BLOCK_OFFSET_VALID = 0x04, /* *map, *file say where the bytes lie, raw */
    BDRV_BLOCK_ALLOCATED    = 0x08, /* decided in this layer of the chain, not below */
    BDRV_BLOCK_EOF          = 0x10, /* the extent reaches the end of the node */
    BDRV_BLOCK_RECURSE      = 0x20, /* drivers only: ask *file for more detail */
    BDRV_BLOCK_COMPRESSED   = 0x40,
};

#define BDRV_SECTOR_SIZE        512
#define BDRV_MAX_ALIGNMENT      (1LL << 30)
/* Largest length a node may have, and the largest single request. */
#define BDRV_MAX_LENGTH         (INT64_MAX & ~(BDRV_MAX_ALIGNMENT - 1))
#define BDRV_REQUEST_MAX_BYTES  (INT32_MAX & ~(BDRV_SECTOR_SIZE - 1))

/* Limits of a node, bytes; 0: none / not stated. */
typedef struct BlockLimits {
    uint32_t request_alignment;     /* offset and length of any request; power of 2, >= 1 */
    int64_t max_pdiscard, max_pwrite_zeroes;
    uint32_t pdiscard_alignment, pwrite_zeroes_alignment;
    uint32_t max_transfer;          /* largest read or write */
    uint32_t opt_transfer;          /* preferred multiple */
    uint32_t min_mem_alignment, opt_mem_alignment;
    int max_iov;
} BlockLimits;

typedef struct BlockDriverInfo {
    bool encrypted;
    int64_t cluster_size;           /* bytes; 0: none */
    int64_t subcluster_size;
    int64_t vm_state_offset;
    bool is_dirty;
} BlockDriverInfo;

#endif
