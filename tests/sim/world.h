/* SPDX-License-Identifier: MIT */
/* world.h: one run of the simulator: disks, guests and an operator on a simulated machine.
 *
 * A run is a few lives of one disk. In each, guests read and write it from several coroutines (some in an
 * iothread) while the operator mirrors it to other images and does to the jobs whatever may be done to
 * jobs. A life ends in peace or by a power cut; then the images are checked and the disk compared with
 * the model.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include "sim.h"
#include "model.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "block/block-backend.h"
#include "job/job_private.h"

typedef enum LayerKind { LAYER_FILE, LAYER_RAW, LAYER_RAW_WINDOW, LAYER_QCOW2, LAYER_NULL } LayerKind;

/* An image, and what it stands on. */
typedef struct Layer Layer;
struct Layer {
    LayerKind kind;
    char name[24];
    int64_t bytes;                  /* as the guest sees it */
    unsigned cluster_bits, refcount_bits;
    int64_t window;                 /* LAYER_RAW_WINDOW: its offset in the file */
    bool direct, small_cache;
    Layer *backing;
};

typedef struct World {
    Model model;
    BlockBackend *guest;
    BlockDriverState *source, *target;      /* a reference each; target: of the job, or NULL */
    Layer *disk, *target_layer;             /* disk: what `source` is */
    GPtrArray *layers;                      /* all, to be freed */
    IOThread *iothread;
    Prng prng;                              /* the guests' and the operator's */
    unsigned workers, held;                 /* running; of these, waiting to go on */
    bool stop, hold, operating;
    bool can_pivot, full_copy;              /* of the job */
    unsigned images;
    /* What the events told of the job. */
    JobStatus status;
    bool completed, cancelled;
    unsigned jobs, pivots, cuts, ops;
} World;
extern World world;

/* layers.c */
Layer *layer_new(int64_t bytes, LayerKind kind, Layer *backing);
/* Its image, on a machine without faults. @fill: a raw one holds garbage. */
void layer_create(Layer *l, bool fill);
BlockDriverState *layer_open(Layer *l, bool with_backing);
/* Every qcow2 image of the chain: no corruption. */
void layer_check(Layer *l);

/* guest.c */
void coroutine_fn guest_worker_co(void *opaque);
/* Read all of @blk into a buffer; NULL when it failed. */
uint8_t *coroutine_fn guest_co_read_all(BlockBackend *blk);

/* operator.c */
void coroutine_fn operator_co(void *opaque);
void operator_init(void);

/* world.c */
void world_run(uint64_t seed);
static inline uint64_t world_below(uint64_t n)
{
    return prng_below(&world.prng, n);
}
#endif
