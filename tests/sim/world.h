/* SPDX-License-Identifier: MIT */
/* world.h: one run of the simulator: disks, guests and an operator on a simulated machine.
 *
 * A run is a few lives of one disk or two. In each, guests read and write them from several coroutines (some
 * in an iothread) while the operator mirrors them to other images, alone or in a transaction, and does to
 * the jobs whatever may be done to jobs. A life ends in peace or by a power cut; then the images are checked
 * and the disks compared with their models.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "sim.h"
#include "model.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "block/block-backend.h"
#include "block/snapshot.h"
#include "job/job_private.h"
#include "job/mirror.h"

typedef enum LayerKind { LAYER_FILE, LAYER_RAW, LAYER_RAW_WINDOW, LAYER_QCOW2, LAYER_NULL } LayerKind;

/* An image, and what it stands on. */
typedef struct Layer Layer;
struct Layer {
    LayerKind kind;
    char name[24];
    int64_t bytes;                  /* as the guest sees it */
    unsigned cluster_bits, refcount_bits, version;
    bool encrypted, extended, lazy, data_file, raw; /* LAYER_QCOW2; raw: its data file can be read as the disk */
    bool unsure_flags;              /* version 2 cannot say that a step was cut off: COPIED flags may be wrong */
    int64_t window;                 /* LAYER_RAW_WINDOW: its offset in the file */
    bool direct, small_cache, by_name;
    Layer *backing;
};

/* One of the guests' disks, with the job that there may be on it. */
typedef struct Disk {
    char id[4];                             /* of its job */
    Model model;
    BlockBackend *guest;
    BlockDriverState *source, *target;      /* a reference each; target: of the job, or NULL */
    Layer *layer, *target_layer;            /* what `source` and `target` are */
    unsigned workers, held;                 /* running; of these, waiting to go on */
    bool hold;
    int64_t hot;                            /* where much happens: a sector */
    bool churn;                             /* much is given back and flushed */
    bool packs;                             /* some writes are compressed */
    /* the job */
    bool can_pivot, full_copy;
    struct Disk *partner;                   /* in one transaction with that one's; NULL: alone */
    bool in_txn;                            /* it was, when it began */
    JobStatus status;                       /* what the events told */
    bool completed, cancelled;
} Disk;

typedef struct World {
    Disk disks[2];
    unsigned n_disks;
    GPtrArray *layers;                      /* all, to be freed */
    IOThread *iothread;
    Prng prng;                              /* the guests' and the operator's */
    bool stop, operating;
    bool format;                            /* one qcow2 image and all that can be done to it; no jobs */
    bool tiny;                              /* images have the smallest clusters: many tables */
    unsigned images;
    unsigned jobs, pivots, cuts, ops;
} World;
extern World world;

/* layers.c */
Layer *layer_new(int64_t bytes, LayerKind kind, Layer *backing);
/* Its image, on a machine without faults. @fill: a raw one holds garbage. */
void layer_create(Layer *l, bool fill);
BlockDriverState *layer_open(Layer *l, bool with_backing);
/* A format layer with all that is below it, for reading only. */
BlockDriverState *layer_open_to_read(Layer *l);
/* The data file of a layer that has one. */
SimFile *layer_data_file(const Layer *l);
/* A raw data file holds what the disk shows. */
void layer_check_raw(const Layer *l, const uint64_t *values);
/* Every qcow2 image of the chain: no corruption. */
void layer_check(Layer *l);

/* guest.c */
void coroutine_fn guest_worker_co(void *disk);
/* Read all of @blk, as long as @d, into a buffer; NULL when it failed. */
uint8_t *coroutine_fn guest_co_read_all(Disk *d, BlockBackend *blk);
/* One small read, checked. */
void coroutine_fn guest_co_look(Disk *d);
/* Wait until the guests of @d rest; then let them go on. */
void coroutine_fn guest_co_hold(Disk *d);
void guest_release(Disk *d);

/* start.c */
void coroutine_fn start_mirror(Disk *d);
/* Both disks, in one transaction. */
void coroutine_fn start_two(void);

/* watch.c: what must hold of jobs and nodes */
void watch_init(void);
BlockJob *watch_job(Disk *d);               /* the disk's job, or NULL */
/* At a moment when no graph change is on its way: what nodes were told of permissions is what follows from
 * their parents'. */
void watch_permissions(void);
/* Drain @bs, whose file is @name, or all (NULL), for @ns. */
void coroutine_fn watch_drain(BlockDriverState *bs, const char *name, int64_t ns);
/* The disk's job ended well and its guests rest: source and target show the same. */
void coroutine_fn watch_compare(Disk *d);
/* The job is gone: which node is the disk now? */
void coroutine_fn watch_job_gone(Disk *d);

/* operator.c */
void coroutine_fn operator_co(void *opaque);

/* format.c: Main context; what suspends, under the control lock */
void format_init(void);
void format_free(void);
/* A guest writes there, or tries to. */
void format_note_write(int64_t at, int64_t n);
/* One step, the guests at rest. */
void coroutine_fn format_co_act(Disk *d);
/* After a life: before the image is opened; with it open; and closed again. @orderly: nothing failed. */
void format_adopt_length(Disk *d);
void coroutine_fn format_co_verify(Disk *d, bool orderly);
void coroutine_fn format_co_verify_snapshots(Disk *d);

/* world.c; @format: lives of one image, without jobs */
void world_run(uint64_t seed, bool format);
static inline uint64_t world_below(uint64_t n)
{
    return prng_below(&world.prng, n);
}
#endif
