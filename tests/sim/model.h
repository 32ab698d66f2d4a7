/* SPDX-License-Identifier: MIT */
/* model.h: what a guest's disk may hold, sector by sector.
 *
 * Each write fills its sectors with a value of its own. A value may be read as long as no write that was
 * acknowledged began after it had ended; of writes that overlap in time either may have won. A write
 * that failed, and a discard (value 0), may be there or not, for good. After a power cut the same holds,
 * but only writes that were flushed supersede others.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "base/osdep.h"

typedef struct ModelValue {
    uint64_t value, begun, ended;       /* ended: UINT64_MAX: on its way */
    bool acked;
} ModelValue;

typedef struct ModelSector {
    GArray *values;                     /* ModelValue */
    uint64_t known;                     /* latest beginning of an acknowledged write */
    uint64_t durable;                   /* of a flushed one */
    unsigned readers;
} ModelSector;

typedef struct Model {
    int64_t n;                          /* sectors */
    ModelSector *sectors;
    uint64_t clock, next_value;
    unsigned in_flight;                 /* writes */
} Model;

void model_init(Model *m, int64_t n);
void model_free(Model *m);
/* It is @n sectors long now; new ones hold zeroes, durably. Nothing is in flight. */
void model_resize(Model *m, int64_t n);
/* The sector holds just @value, durably. */
void model_set(Model *m, int64_t at, uint64_t value);
/* A write of @value to @n sectors begins, and ends; begin returns its number. */
uint64_t model_write_begin(Model *m, int64_t at, int64_t n, uint64_t value);
void model_write_end(Model *m, int64_t at, int64_t n, uint64_t begun, bool acked, bool durable);
/* A read begins: returns what end() needs. end() checks @buf, unless NULL (the read failed), and frees. */
uint64_t *model_read_begin(Model *m, int64_t at, int64_t n);
void model_read_end(Model *m, int64_t at, int64_t n, uint64_t *seen, const uint8_t *buf, const char *who);
/* A flush that began at @begun (the clock then) succeeded. */
uint64_t model_flush_begin(Model *m);
void model_flush_end(Model *m, uint64_t begun);
/* After a power cut, or a failure that may have lost writes: check @buf (all of the disk), then take it
 * for the truth. */
void model_adopt_crashed(Model *m, const uint8_t *buf, const char *who);
void model_fill(uint8_t *buf, int64_t n, uint64_t value);

#endif
