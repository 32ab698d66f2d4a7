/* SPDX-License-Identifier: MIT */
/* io_open.c: qemu-io: options of opening, and what is put on top: a temporary overlay, copy on read. */
#include "compat/io.h"
#include "aio/host.h"
#include <fcntl.h>

void io_open_clear(IoOpen *o)
{
    qdict_unref(o->options);
    o->options = NULL;
}

bool io_cache_mode_valid(const char *mode)
{
    bool through;
    int flags = 0;

    return compat_cache_mode(mode, &flags, &through);
}

bool io_discard_mode_valid(const char *mode)
{
    return !strcmp(mode, "ignore") || !strcmp(mode, "off") || !strcmp(mode, "unmap") || !strcmp(mode, "on");
}

/* ---- words ---- */

/* "key=value,..."; a word alone switches something on, as of old. */
static bool add_options(IoShell *s, IoOpen *o, const char *text)
{
    g_autofree char *completed = NULL;
    Error *err = NULL;
    bool help;

    if (!strchr(text, '=')) {
        ioshell_error(s, "warning: short-form boolean option '%s' deprecated", text);
        ioshell_eprint(s, "Please use %s=on instead\n", text);
        completed = g_strconcat(text, "=on", NULL);
        text = completed;
    }
    QDict *d = qdict_from_keyval(text, NULL, &help, &err);

    if (!d) {
        ioshell_error_err(s, NULL, err);
        return false;
    }
    if (!o->options) {
        o->options = d;
    } else {
        qdict_join(o->options, d, true);
        qdict_unref(d);
    }
    return true;
}

static bool mode_option(IoShell *s, const char **to, const char *what, const char *value, bool valid)
{
    *to = value;
    if (!valid) {
        ioshell_error(s, "Invalid %s option: %s", what, value);
    }
    return valid;
}

static bool open_option(IoShell *s, IoOpen *o, int c, const char *arg)
{
    switch (c) {
    case 'r': o->read_only = true; break;
    case 's': o->snapshot = true; break;
    case 'C': o->copy_on_read = true; break;
    case 'n': o->cache = "none"; break;
    case 'k': o->aio = "native"; break;
    case 'U': o->force_share = true; break;
    case 'i': return mode_option(s, &o->aio, "aio", arg, compat_aio_mode(arg));
    case 't': return mode_option(s, &o->cache, "cache", arg, io_cache_mode_valid(arg));
    case 'd': return mode_option(s, &o->discard, "discard", arg, io_discard_mode_valid(arg));
    case 'o': return add_options(s, o, arg);
    }
    return true;
}

int io_open_parse(IoShell *s, const IoCommand *cmd, IoOpen *o, int argc, char **argv)
{
    IoOptions words = { 0 };
    int c;

    while ((c = ioshell_next_option(s, &words, argc, argv, "snCro:ki:t:d:U")) != -1) {
        if (c == '?') {
            return ioshell_usage(s, cmd);
        }
        if (!open_option(s, o, c, words.arg)) {
            g_ptr_array_free(words.operands, true);
            return -EINVAL;
        }
    }
    if (words.at < argc - 1) {
        return ioshell_usage(s, cmd);
    }
    o->name = argv[words.at];
    if (!o->name && !o->options) {
        return ioshell_usage(s, cmd);
    }
    return 0;
}

/* ---- opening ---- */

static BlockBackend *coroutine_fn open_image(const IoOpen *o, Error **errp)
{
    CompatOpen open = {
        .name = o->name, .format = o->format, .image_opts = o->image_opts, .options = o->options,
        .writable = !o->read_only && !o->snapshot, .resize = !o->read_only && !o->snapshot,
        .force_share = o->force_share, .aio = o->aio,
        .unmap = !strcmp(o->discard, "unmap") || !strcmp(o->discard, "on"),
    };
    bool through;

    if (o->force_share && !o->read_only) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return NULL;
    }
    if (o->copy_on_read && o->read_only) {
        error_setg(errp, "Can't use copy-on-read on read-only device");
        return NULL;
    }
    compat_cache_mode(o->cache ? o->cache : "writeback", &open.cache_flags, &through);
    return compat_co_open(&open, errp);
}

static BlockBackend *coroutine_fn open_all(const IoOpen *o, Error **errp)
{
    BlockBackend *blk = open_image(o, errp);

    if (blk && o->snapshot) {
        blk = compat_co_temporary_overlay(blk, errp);
    }
    if (blk && o->copy_on_read) {
        QDict *options = qdict_new();

        qdict_put_str(options, "driver", "copy-on-read");
        blk = compat_co_open_above(blk, options, "file", errp);
    }
    return blk;
}

int coroutine_fn io_co_open(IoShell *s, const IoOpen *o)
{
    Error *err = NULL;

    if (ioshell_backend(s)) {
        ioshell_error(s, "file open already, try 'help close'");
        return -EBUSY;
    }
    IoOpen whole = *o;

    whole.options = qdict_ref(o->options);
    if (o->image_opts && o->name) {
        whole.image_opts = false;
        whole.name = NULL;
        if (!add_options(s, &whole, o->name)) {
            return -EINVAL;
        }
    }
    control_co_lock();
    BlockBackend *blk = open_all(&whole, &err);

    control_co_unlock();
    io_open_clear(&whole);
    if (!blk) {
        g_autofree char *context = whole.name ? g_strdup_printf("can't open device %s: ", whole.name)
                                              : g_strdup("can't open: ");

        ioshell_error_err(s, context, err);
        return -EIO;
    }
    bool through = false;
    int flags = 0;

    /* Each write is durable, unless a mode is asked for. */
    compat_cache_mode(o->cache ? o->cache : "writethrough", &flags, &through);
    ioshell_set_writethrough(s, through);
    ioshell_co_set_backend(s, blk);
    return 0;
}
