/* SPDX-License-Identifier: MIT */
/* layers.c: making, opening and checking the images of a run; see world.h. */
#include "world.h"
#include "tests/unit/qcow2_image.h"
#include "crypto/secret.h"

#define OPENING ",\"encrypt\":{\"format\":\"luks\",\"key-secret\":\"sim\"}"
/* The smallest header there is; the clock, which stands still, makes passwords cheap. */
#define MAKING ",\"encrypt\":{\"format\":\"luks\",\"key-secret\":\"sim\",\"cipher-alg\":\"aes-128\",\"cipher-mode\":\"cbc\"," \
               "\"ivgen-alg\":\"essiv\",\"iter-time\":1}"

static void secret_make(void)
{
    SecretProperties p = { .data = (char *)"password" };

    if (!secret_exists("sim")) {
        secret_create("sim", &p, &error_abort);
    }
}

/* Features that go together. */
static void layer_shape(Layer *l)
{
    if (!world_below(5)) {
        l->version = 2;
        l->refcount_bits = 16;
        return;
    }
    l->lazy = !world_below(3);
    l->data_file = !world_below(4);
    l->extended = !world_below(3);
    if (l->extended) {
        l->cluster_bits = 14 + world_below(2);
    }
}

Layer *layer_new(int64_t bytes, LayerKind kind, Layer *backing)
{
    Layer *l = g_new0(Layer, 1);
    /* Small clusters and wide counters more often: then there are many tables. */
    unsigned cluster_bits = world.tiny ? 9 : 9 + MIN(world_below(8), world_below(8));
    unsigned refcount_order = world.tiny ? 6 : MAX(world_below(7), world_below(7));

    *l = (Layer) {
        .kind = kind, .bytes = bytes, .backing = backing, .cluster_bits = cluster_bits,
        .refcount_bits = 1 << refcount_order, .version = 3, .window = (1 + world_below(20)) * SECTOR,
        .direct = !world_below(4), .small_cache = world_below(2), .by_name = !world_below(4),
    };
    /* By its number, not by lot: the other images of a seed stay what they were. */
    l->encrypted = kind == LAYER_QCOW2 && !world.format && world.images % 5 == 2;
    if (world.format && kind == LAYER_QCOW2) {
        layer_shape(l);
        l->encrypted = (sim.seed + world.images) % 5 == 2;
        l->raw = l->data_file && !l->encrypted && !l->backing && sim.seed % 2;
    }
    snprintf(l->name, sizeof(l->name), "image%u", world.images++);
    g_ptr_array_add(world.layers, l);
    return l;
}

static void layer_file_json(const Layer *l, GString *s)
{
    g_string_append_printf(s, "{\"driver\":\"file\",\"filename\":\"%s\",\"discard\":\"unmap\"%s}", l->name,
                           l->direct ? ",\"cache\":{\"direct\":true}" : "");
}

static void layer_json(const Layer *l, GString *s, bool with_backing)
{
    switch (l->kind) {
    case LAYER_FILE:
        layer_file_json(l, s);
        return;
    case LAYER_NULL:
        g_string_append_printf(s, "{\"driver\":\"null-co\",\"size\":%" PRId64 "}", l->bytes);
        return;
    case LAYER_RAW:
    case LAYER_RAW_WINDOW:
        g_string_append(s, "{\"driver\":\"raw\",\"discard\":\"unmap\",\"file\":");
        layer_file_json(l, s);
        if (l->kind == LAYER_RAW_WINDOW) {
            g_string_append_printf(s, ",\"offset\":%" PRId64 ",\"size\":%" PRId64, l->window, l->bytes);
        }
        break;
    case LAYER_QCOW2:
        g_string_append_printf(s, "{\"driver\":\"qcow2\",\"discard\":\"unmap\",\"l2-cache-size\":%u,"
                               "\"refcount-cache-size\":%u%s,\"file\":",
                               l->small_cache ? 2048 : 1 << 20, 1u << l->cluster_bits, l->encrypted ? OPENING : "");
        layer_file_json(l, s);
        if (l->data_file) {
            g_string_append_printf(s, ",\"data-file\":{\"driver\":\"file\",\"filename\":\"%s.data\",\"discard\":\"unmap\"}", l->name);
        }
        if (l->backing && with_backing) {
            g_string_append(s, ",\"backing\":");
            layer_json(l->backing, s, true);
        } else {
            g_string_append(s, ",\"backing\":null");
        }
        break;
    }
    g_string_append_c(s, '}');
}

/* @name: NULL, or the file's, and @json is about the rest. */
static BlockDriverState *open_json(const char *name, const char *json, int flags)
{
    bool keyval;
    Error *err = NULL;
    BlockDriverState *bs = bdrv_open(name, NULL, qdict_from_options(json, NULL, &keyval, &error_abort),
                                     flags, &err);

    if (!bs) {
        sim_fail("cannot open %s %s: %s", name ? name : "", json, error_get_pretty(err));
    }
    return bs;
}

BlockDriverState *layer_open(Layer *l, bool with_backing)
{
    g_autoptr(GString) json = g_string_new(NULL);

    if (l->by_name && !l->direct && !l->data_file && (l->kind == LAYER_RAW || l->kind == LAYER_QCOW2) && !(l->backing && with_backing)) {
        sim_trace("open %s by name", l->name);
        return open_json(l->name, l->kind == LAYER_RAW ? "{\"driver\":\"raw\",\"discard\":\"unmap\"}"
                                  : l->encrypted ? "{\"driver\":\"qcow2\",\"discard\":\"unmap\"" OPENING "}"
                                                 : "{\"driver\":\"qcow2\",\"discard\":\"unmap\"}",
                         BDRV_O_RDWR | BDRV_O_UNMAP);
    }
    layer_json(l, json, with_backing);
    sim_trace("open %s", json->str);
    return open_json(NULL, json->str, BDRV_O_RDWR | BDRV_O_UNMAP);
}

BlockDriverState *layer_open_to_read(Layer *l)
{
    g_autoptr(GString) json = g_string_new(NULL);

    layer_json(l, json, true);
    return open_json(NULL, json->str, 0);
}

SimFile *layer_data_file(const Layer *l)
{
    g_autofree char *name = g_strdup_printf("%s.data", l->name);

    return sim_file_find(name);
}

void layer_check_raw(const Layer *l, const uint64_t *values)
{
    const SimFile *f = layer_data_file(l);

    for (int64_t i = 0; i < l->bytes / SECTOR; i++) {
        uint64_t v = 0;

        if ((i + 1) * SECTOR <= (int64_t)f->now->len) {
            memcpy(&v, f->now->data + i * SECTOR, 8);
        }
        if (v != values[i]) {
            sim_fail("sector %" PRId64 " of the raw data file holds %" PRIu64 ", and of the disk %" PRIu64, i, v, values[i]);
        }
    }
}

static void coroutine_fn create_co(void *opaque)
{
    BlockdevCreateOptions *o = opaque;
    Error *err = NULL;

    if (bdrv_find_format("qcow2")->co_create(o, &err) < 0) {
        sim_fail("cannot create: %s", error_get_pretty(err));
    }
}

static void layer_create_qcow2(Layer *l)
{
    bool keyval;
    g_autofree char *file = g_strdup_printf("{\"driver\":\"file\",\"filename\":\"%s\",\"node-name\":\"new\"}", l->name);
    g_autofree char *json = g_strdup_printf(
        "{\"driver\":\"qcow2\",\"file\":\"new\",\"size\":%" PRId64 ",\"cluster-size\":%u,\"refcount-bits\":%u,"
        "\"version\":\"v%u\",\"lazy-refcounts\":%s,\"extended-l2\":%s%s%s%s}",
        l->bytes, 1u << l->cluster_bits, l->refcount_bits, l->version, l->lazy ? "true" : "false",
        l->extended ? "true" : "false", l->data_file ? ",\"data-file\":\"data\"" : "",
        l->raw ? ",\"data-file-raw\":true" : "", l->encrypted ? MAKING : "");
    g_autofree char *data_name = g_strdup_printf("%s.data", l->name);
    g_autofree char *data = g_strdup_printf("{\"driver\":\"file\",\"filename\":\"%s\",\"node-name\":\"data\"}", data_name);
    BlockDriverState *data_bs = NULL;
    QDict *d = qdict_from_options(json, NULL, &keyval, &error_abort);
    g_autoptr(BlockdevCreateOptions) o = qapi_from_json(&qapi_type_BlockdevCreateOptions, d, false, &error_abort);

    qdict_unref(d);
    secret_make();
    sim_file_new(l->name, 0, 0);
    BlockDriverState *bs = open_json(NULL, file, BDRV_O_RDWR | BDRV_O_UNMAP);

    if (l->data_file) {
        sim_file_new(data_name, 0, 0);
        data_bs = open_json(NULL, data, BDRV_O_RDWR | BDRV_O_UNMAP);
    }

    aio_co_run(create_co, o);
    bdrv_unref(bs);
    if (data_bs) {
        bdrv_unref(data_bs);
    }
}

void layer_create(Layer *l, bool fill)
{
    bool faults = sim.faults;
    SimFile *f;

    sim.faults = false;
    sim_trace("create %s kind %d size %" PRId64 " clusters %u", l->name, l->kind, l->bytes, 1u << l->cluster_bits);
    if (l->kind == LAYER_QCOW2) {
        layer_create_qcow2(l);
    } else if (l->kind != LAYER_NULL) {
        sim_file_new(l->name, l->bytes + (l->kind == LAYER_RAW_WINDOW ? l->window + 4096 : 0), fill ? 0xee : 0);
    }
    f = sim_file_find(l->name);
    if (f) {
        f->no_zero = !world_below(4);
        f->no_discard = !world_below(6);
        f->align_bytes = world_below(2) ? SECTOR : 4096;
    }
    sim_files_sync();
    sim.faults = faults;
}

void layer_check(Layer *l)
{
    for (; l; l = l->backing) {
        SimFile *f = sim_file_find(l->name);
        Image im;

        if (l->kind != LAYER_QCOW2) {
            continue;
        }
        image_init(&im, f->now->data, f->now->len);
        im.dirty |= l->unsure_flags;
        image_check(&im);
        if (im.errors || im.size != (uint64_t)l->bytes) {
            sim_fail("image %s is corrupt: %" PRIu64 " errors, the first: %s", l->name, im.errors, im.first_error);
        }
    }
}
