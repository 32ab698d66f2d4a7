/* SPDX-License-Identifier: MIT */
/* sim.h: the simulated machine: a host back end (aio/host.h) without an outside world.
 *
 * One thread, one virtual clock, one seed. The clock moves only when a loop looks or waits. Requests
 * complete when the seed says, in an order that it says; files live in memory under their names, with
 * a volatile cache before what is durable. Iothreads are loops that the main loop's waiting runs.
 *
 * A run ends by sim_fail() when nothing can happen any more, or when steps or virtual time exceed their
 * bounds: a hang is a failure like any other.
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "base/osdep.h"
#include "base/prng.h"
#include "aio/host.h"

#define SECTOR 512
#define MS (1000 * 1000LL)

/* ---- the machine ---- */

typedef struct Sim {
    uint64_t seed, steps, steps_max;
    int64_t now_ns;
    Prng prng, noise;           /* the machine's draws; what the engine asks for */
    /* Faults, each one request in that many; 0: never. Only while `faults`. */
    bool faults;
    unsigned eio_one_in, short_one_in, slow_one_in;
    uint64_t faults_made;
    /* Power: off after step `cut_at` (0: never); all requests fail from then on. */
    uint64_t cut_at;
    unsigned cut_flush;         /* or shortly after that many flushes began; 0: not so */
    bool off, calm;             /* calm: no cut now, images are being made */
    uint64_t requests;
} Sim;
extern Sim sim;
extern const HostOps host_ops_sim;

void sim_init(uint64_t seed);
/* Pull the plug now: what is in flight may be done in part, and all caches lose what they please. */
void sim_power_cut(void);
/* Start again with what survived; no file may be open. */
void sim_power_on(void);
static inline bool sim_chance(unsigned one_in)
{
    return one_in && !prng_below(&sim.prng, one_in);
}

/* ---- the trace: its hash is what a replay must repeat ---- */

void sim_trace(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
uint64_t sim_trace_hash(void);
/* Keep the last @lines for sim_trace_last(); before the first. */
void sim_trace_keep(unsigned lines);
void sim_trace_last(FILE *to);          /* the last steps */
#define SIM_STOPPED 3                   /* exit status then */
extern uint64_t sim_stop_at;            /* print them and stop at this step; 0: never */
extern bool sim_verbose;                /* print each as it comes */
G_NORETURN void sim_fail(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* ---- disks ---- */

typedef struct SimFile {
    char *name;
    GByteArray *now;            /* as it reads */
    GByteArray *durable;
    GByteArray *allocated;      /* a byte for each block of SIM_BLOCK */
    GPtrArray *pending;         /* SimWrite in order of completion: done, not durable */
    unsigned opens;
    bool no_zero, no_discard;   /* what the file system can not */
    bool full;                  /* no space for what is not allocated yet */
    bool hung;                  /* what is asked for is not answered */
    unsigned align_bytes;       /* of requests to it, without the host's cache */
} SimFile;
#define SIM_BLOCK 4096

/* Make or replace a file of @bytes, durable, filled by @byte. */
SimFile *sim_file_new(const char *name, int64_t bytes, uint8_t byte);
SimFile *sim_file_find(const char *name);
void sim_file_remove(const char *name);
/* All files: everything is durable. */
void sim_files_sync(void);
unsigned sim_files_open(void);
/* Do @req to its file, as far as faults let it; the result. */
int64_t sim_file_execute(HostRequest *req, uint64_t flush_seq);
/* What a flush that begins now has to make durable: an argument of execute. */
uint64_t sim_write_seq(void);
/* The power fails while @req is on its way: part of it may have been done. */
void sim_file_tear(HostRequest *req);
/* Answer nothing any more, or go on with what was asked meanwhile. */
void sim_file_hang(SimFile *f, bool hung);
void sim_files_power_cut(void);
void sim_files_power_on(void);

HostFile *sim_file_open(const char *path, int flags, unsigned mode, int *ret);
/* How many requests are on their way to it; NULL: to any file. */
unsigned sim_file_requests(const SimFile *f);
const SimFile *sim_file_of(const HostFile *file);
/* Is @req as a device without a cache needs it? */
bool sim_file_aligned(const HostRequest *req);
void sim_file_close(HostFile *file);
int sim_file_unlink(const char *path);
int sim_file_lock(HostFile *file, int64_t start, int64_t len, HostLockType type, bool test);
int sim_file_stat(HostFile *file, HostStat *stat);
const char *sim_file_name(HostFile *file);

#endif
