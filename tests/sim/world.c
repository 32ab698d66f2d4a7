/* SPDX-License-Identifier: MIT */
/* world.c: the lives of a disk; see world.h. */
#include "world.h"

World world;

/* ---- the disks ---- */

/* A raw image at the bottom, already written. */
static Layer *make_base(Disk *d, int64_t bytes)
{
    Layer *l = layer_new(bytes - world_below(bytes / SECTOR / 2) * SECTOR, LAYER_RAW, NULL);

    layer_create(l, false);
    SimFile *f = sim_file_find(l->name);

    for (int64_t at = 0; at < l->bytes / SECTOR; at++) {
        uint64_t value = world_below(3) ? 1000000 + at : 0;

        model_fill(f->now->data + at * SECTOR, 1, value);
        model_set(&d->model, at, value);
    }
    memcpy(f->durable->data, f->now->data, f->now->len);
    memset(f->allocated->data, 1, f->allocated->len);
    return l;
}

static void disk_make(Disk *d, int64_t sectors)
{
    int64_t bytes = sectors * SECTOR;
    unsigned depth = world.format ? 1 + world_below(2) : world_below(4);
    Layer *l = NULL;

    snprintf(d->id, sizeof(d->id), "m%u", (unsigned)(d - world.disks));
    model_init(&d->model, sectors);
    if (depth == 0) {
        l = layer_new(bytes, (LayerKind)world_below(LAYER_QCOW2), NULL);
        layer_create(l, false);
    } else {
        l = depth > 1 ? make_base(d, bytes) : NULL;
        for (unsigned i = MAX(depth, 2); i > 1; i--) {
            l = layer_new(bytes, LAYER_QCOW2, l);
            layer_create(l, false);
        }
    }
    d->layer = l;
}

static void disk_open(Disk *d)
{
    Error *err = NULL;

    d->source = layer_open(d->layer, true);
    d->guest = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    if (blk_insert_bs(d->guest, d->source, &err) < 0) {
        sim_fail("cannot use the disk: %s", error_get_pretty(err));
    }
}

static void world_open(void)
{
    for (unsigned i = 0; i < world.n_disks; i++) {
        disk_open(&world.disks[i]);
    }
}

static void world_close(void)
{
    for (unsigned i = 0; i < world.n_disks; i++) {
        blk_unref(world.disks[i].guest);
        bdrv_unref(world.disks[i].source);
        world.disks[i].guest = NULL;
        world.disks[i].source = NULL;
    }
    /* A target that a cancelled job gave up is closed when its last request has ended. Should nothing
     * be on its way, the machine says that it hangs. */
    while (bdrv_next_all_states(NULL) || aio_poll(qemu_get_aio_context(), false)) {
        if (bdrv_next_all_states(NULL)) {
            aio_poll(qemu_get_aio_context(), true);
        }
    }
    BlockDriverState *left = bdrv_next_all_states(NULL);

    if (left) {
        sim_fail("node %s is left", bdrv_get_node_name(left));
    }
    if (block_job_next(NULL)) {
        sim_fail("a job is left");
    }
    if (sim_files_open()) {
        sim_fail("%u files are left open", sim_files_open());
    }
}

/* ---- a life ---- */

static bool world_is_busy(void *opaque)
{
    return world.operating;
}

static bool disk_has_workers(void *disk)
{
    return ((Disk *)disk)->workers > 0;
}

static void coroutine_fn verify_co(void *opaque)
{
    bool crashed = *(bool *)opaque;

    for (unsigned i = 0; i < world.n_disks; i++) {
        Disk *d = &world.disks[i];
        g_autofree uint8_t *buf = guest_co_read_all(d, d->guest);

        if (!buf) {
            sim_fail("the disk cannot be read where no disk fails");
        }
        if (crashed) {
            model_adopt_crashed(&d->model, buf, "disk after a power cut");
        } else {
            uint64_t *seen = model_read_begin(&d->model, 0, d->model.n);

            model_read_end(&d->model, 0, d->model.n, seen, buf, "disk at rest");
        }
    }
}

static void verify(bool crashed)
{
    aio_co_run(verify_co, &crashed);
}

static void set_faults(void)
{
    unsigned cut = world_below(4);

    sim.faults = !world_below(2);
    sim.eio_one_in = world_below(2) ? 20 + world_below(1000) : 0;
    sim.short_one_in = world_below(2) ? 2 + world_below(50) : 0;
    sim.slow_one_in = world_below(3) ? 0 : 20 + world_below(500);
    sim.faults_made = 0;
    sim.cut_at = cut == 1 ? sim.steps + 50 + world_below(world_below(2) ? 500 : 6000) : 0;
    sim.cut_flush = cut == 2 ? 1 + world_below(world_below(2) ? 20 : 150) : 0;
}

static void disk_use(Disk *d, unsigned workers)
{
    d->hold = false;
    d->held = 0;
    d->workers = workers;
    d->churn = !world_below(3);
    d->hot = world_below(MAX(d->model.n - 48, 1));
    d->packs = d->hot % 3 == 0 && !d->layer->data_file;
    for (unsigned i = 0; i < workers; i++) {
        AioContext *ctx = world.iothread && world_below(2) ? iothread_get_aio_context(world.iothread)
                                                           : qemu_get_aio_context();

        aio_co_enter(ctx, qemu_coroutine_create(guest_worker_co, d));
    }
}

static void live(void)
{
    world.stop = false;
    world.operating = true;
    set_faults();
    sim_trace("life: faults %d (%u %u %u), cut at %" PRIu64 " or flush %u", sim.faults, sim.eio_one_in,
              sim.short_one_in, sim.slow_one_in, sim.cut_at, sim.cut_flush);
    for (unsigned i = 0; i < world.n_disks; i++) {
        disk_use(&world.disks[i], 1 + world_below(6 / world.n_disks));
    }
    aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(operator_co, NULL));
    aio_wait_while(world_is_busy, NULL);
    world.stop = true;
    for (unsigned i = 0; i < world.n_disks; i++) {
        aio_wait_while(disk_has_workers, &world.disks[i]);
    }
    sim.faults = false;
}

static bool is_in_use(const Layer *l)
{
    return l == world.disks[0].layer || l == world.disks[1].layer;
}

/* Images of targets as well; but what was to stand on a disk that goes on is nothing by itself. */
static void check_images(void)
{
    for (guint i = 0; i < world.layers->len; i++) {
        Layer *l = world.layers->pdata[i];

        if (l->kind == LAYER_QCOW2 && !(l->backing && is_in_use(l->backing)) && sim_file_find(l->name)) {
            layer_check(l);
        }
    }
}

static void coroutine_fn format_closed_co(void *opaque)
{
    control_co_lock();
    format_co_verify_snapshots(&world.disks[0]);
    control_co_unlock();
}

static void coroutine_fn format_open_co(void *opaque)
{
    control_co_lock();
    format_co_verify(&world.disks[0], *(bool *)opaque);
    control_co_unlock();
}

static void one_life(void)
{
    bool lossy;

    world_open();
    live();
    lossy = sim.faults_made > 0;
    if ((sim.cut_at || sim.cut_flush) && !sim.off && !world_below(2)) {
        sim_power_cut();            /* everything at rest, but not flushed */
    }
    sim.cut_at = sim.cut_flush = 0;
    if (!sim.off && !lossy) {
        verify(false);
    }
    world_close();
    bool cut = sim.off;

    if (sim.off) {
        world.cuts++;
        sim_power_on();
    } else if (!sim.faults_made) {
        /* Closing flushes; that may have failed, too. */
        for (unsigned i = 0; i < world.n_disks; i++) {
            model_flush_end(&world.disks[i].model, model_flush_begin(&world.disks[i].model));
        }
    }
    if (world.format) {
        format_adopt_length(&world.disks[0]);
    }
    bool orderly = !cut && !sim.faults_made;      /* closing may have failed, too */

    check_images();
    for (guint i = 0; i < world.layers->len; i++) {
        SimFile *f = sim_file_find(((Layer *)world.layers->pdata[i])->name);

        if (f) {
            f->full = false;
        }
        f = layer_data_file(world.layers->pdata[i]);
        if (f) {
            f->full = false;
        }
    }
    world_open();
    verify(true);
    if (world.format) {
        aio_co_run(format_open_co, &orderly);
    }
    world_close();
    sim_files_sync();
    if (world.format) {
        aio_co_run(format_closed_co, NULL);
    }
}

void world_run(uint64_t seed, bool is_format)
{
    unsigned lives;

    sim_init(seed);
    host_register(&host_ops_sim);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
    watch_init();
    world = (World) { .prng = prng_split(&sim.prng), .layers = g_ptr_array_new_with_free_func(g_free) };
    world.iothread = world_below(3) ? NULL : iothread_create("io", NULL, &error_abort);
    world.tiny = !world_below(6);
    world.format = is_format;
    sim.steps_max *= is_format ? 3 : 1;     /* guests go on while slow steps are made */
    format_init();
    world.n_disks = is_format || world_below(3) ? 1 : 2;
    for (unsigned i = 0; i < world.n_disks; i++) {
        disk_make(&world.disks[i], 64 + world_below(world_below(2) || is_format ? 400 : 2000 / world.n_disks));
    }
    lives = 1 + world_below(3);
    while (lives--) {
        one_life();
    }
    if (world.iothread) {
        iothread_destroy(world.iothread, &error_abort);
    }
    sim_trace("%u operations, %u jobs, %u pivots, %u power cuts", world.ops, world.jobs, world.pivots, world.cuts);
    for (unsigned i = 0; i < world.n_disks; i++) {
        model_free(&world.disks[i].model);
    }
    format_free();
    g_ptr_array_free(world.layers, true);
    aio_cleanup_main();
}
