/* SPDX-License-Identifier: MIT */
/* memdrv.h: nodes in memory for tests, with any limits, faults and delays.
 *
 * mem_node_new() makes a protocol node ("mem") or, with .overlay, a format node ("mem-overlay") whose
 * blocks may be absent and are then read from its backing child. pass_node_new() puts a filter
 * without any operation above a node. All is checked: a request that breaks the limits the node
 * states fails an assertion.
 *
 * Use:       aio_init_main(NULL, &error_abort); bs = mem_node_new("m", &(MemConfig) { .size = 1 * MiB });
 *            ... bdrv_unref(bs);
 * Runs on:   made and changed in the main thread; requests in any thread.
 */
#ifndef TESTS_MEMDRV_H
#define TESTS_MEMDRV_H

#include "block/block-backend.h"
#include "block/block_int-global-state.h"
#include "base/prng.h"

enum { MEM_READ, MEM_WRITE, MEM_ZERO, MEM_DISCARD, MEM_FLUSH, MEM_STATUS, MEM_COPY, MEM_TRUNCATE, MEM_OPS };

typedef struct MemConfig {
    int64_t size;                   /* bytes */
    BlockLimits bl;                 /* request_alignment 0: 1 */
    bool overlay;
    BdrvRequestFlags write_flags, zero_flags;       /* supported */
    unsigned yield_percent;         /* how often a request lets others run, before and after */
    unsigned sleep_us_max;          /* and how often it sleeps instead; 0: never */
    uint64_t seed;
    int flags;                      /* open flags besides RDWR; e.g. BDRV_O_UNMAP */
} MemConfig;

typedef struct MemState {
    MemConfig config;
    pthread_mutex_t lock;           /* over what follows */
    uint8_t *data;                  /* as read */
    uint8_t *durable;               /* as it would be after a power cut */
    uint8_t *present;               /* overlay: one a block, 1: here, 2: here and zero; else 2: zero */
    int64_t size, capacity, block;
    Prng prng;
    unsigned calls[MEM_OPS];        /* of the driver */
    unsigned in_driver[MEM_OPS], in_driver_max[MEM_OPS];
    int error[MEM_OPS];             /* negative errno that every call gives; 0: works */
    unsigned error_after[MEM_OPS];  /* ... but only after so many more calls */
    bool hang[MEM_OPS];             /* calls do not go on while this is set */
    BdrvRequestFlags last_flags[MEM_OPS];
} MemState;

BlockDriverState *mem_node_new(const char *name, const MemConfig *config);
BlockDriverState *pass_node_new(const char *name, BlockDriverState *below);
MemState *mem_state(BlockDriverState *bs);
/* Fill with what mem_pattern() gives for each offset; present. */
void mem_fill(BlockDriverState *bs, int64_t offset, int64_t bytes, unsigned seed);
uint8_t mem_pattern(int64_t offset, unsigned seed);
/* A backend with all permissions that shares all. */
BlockBackend *mem_backend_new(BlockDriverState *bs);

#endif
