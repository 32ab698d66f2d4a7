/* SPDX-License-Identifier: MIT */
/* ops_create.c: make an image: first whole under another name, then in its place. */
#include "ops/ops.h"
#include "graph/filename.h"
#include "qapi-commands.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

/* ---- names ---- */

const char *ops_format_for(const char *filename)
{
    static const char *const endings[] = { ".img", ".raw", ".iso", ".bin" };

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        if (g_str_has_suffix(filename, endings[i])) {
            return "raw";
        }
    }
    return ops_place_is(filename) ? "raw" : "qcow2";
}

char *ops_backing_path(const char *filename, const char *backing)
{
    return path_combine(filename, backing);
}

/* ---- the temporary file ---- */

static char *volatile temp_now;         /* read by a signal's handler */

const char *ops_temp_begin(OpsTemp *t, const char *final, bool force, Error **errp)
{
    /* What a link leads to is replaced, not the link. */
    g_autofree char *real = g_file_test(final, G_FILE_TEST_IS_SYMLINK) ? realpath(final, NULL) : NULL;
    g_autofree char *dir = g_path_get_dirname(real ? real : final), *base = g_path_get_basename(real ? real : final);
    struct stat st;

    *t = (OpsTemp) { .final = g_strdup(real ? real : final), .force = force, .in_place = ops_place_is(final) };
    if (t->in_place) {
        return t->name = g_strdup(final);
    }
    if (stat(final, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            error_setg(errp, "'%s' is a directory", final);
            goto fail;
        }
        if (!force) {
            error_setg(errp, "'%s' exists", final);
            error_append_hint(errp, "--force replaces it.\n");
            goto fail;
        }
    }
    if (access(dir, W_OK | X_OK) < 0) {
        error_setg_errno(errp, errno, "Could not create '%s'", final);
        goto fail;
    }
    t->name = g_strdup_printf("%s/.%s.%ld.part", dir, base, (long)getpid());
    temp_now = t->name;
    return t->name;
fail:
    g_free(t->final);
    return NULL;
}

static void temp_end(OpsTemp *t)
{
    temp_now = NULL;
    g_free(t->name);
    g_free(t->final);
}

int ops_temp_commit(OpsTemp *t, Error **errp)
{
    int ret = 0;

    if (!t->in_place) {
        ret = t->force ? -1 : renameat2(AT_FDCWD, t->name, AT_FDCWD, t->final, RENAME_NOREPLACE);
        if (t->force || (ret < 0 && (errno == EINVAL || errno == ENOSYS))) {
            ret = rename(t->name, t->final);
        }
        if (ret < 0) {
            ret = -errno;
            error_setg_errno(errp, errno, "Could not rename '%s' to '%s'", t->name, t->final);
            unlink(t->name);
        }
    }
    temp_end(t);
    return ret;
}

void ops_temp_abort(OpsTemp *t)
{
    if (!t->in_place) {
        unlink(t->name);
    }
    temp_end(t);
}

void ops_temp_on_signal(void)
{
    if (temp_now) {
        unlink(temp_now);
    }
}

/* ---- options ---- */

static void put_size(QDict *d, const char *key, int64_t bytes)
{
    g_autofree char *text = g_strdup_printf("%" PRId64, bytes);

    qdict_put_str(d, key, text);        /* all are strings here, see keyval */
}

static QDict *file_node(const char *filename)
{
    QDict *d = qdict_new();

    qdict_put_str(d, "driver", "file");
    qdict_put_str(d, "filename", filename);
    return d;
}

int ops_create_options(const OpsCreate *c, const char *filename, QDict *place, QDict **file, QDict **image, Error **errp)
{
    const char *format = c->format ? c->format : ops_format_for(c->filename);
    bool raw = !strcmp(format, "raw");
    QDict *d = c->options ? qdict_from_keyval(c->options, NULL, NULL, errp) : qdict_new();

    *file = *image = NULL;
    if (!d) {
        return -EINVAL;
    }
    if (raw && c->backing) {
        error_setg(errp, "A raw image cannot have a backing image");
        error_append_hint(errp, "Use --format=qcow2.\n");
        qdict_unref(d);
        return -EINVAL;
    }
    if (raw && place && qdict_size(d)) {
        error_setg(errp, "'%s' is there already: it takes no options", filename);
        qdict_unref(d);
        return -EINVAL;
    }
    if (!place) {
        *file = raw ? qdict_ref(d) : qdict_new();
        qdict_put_str(*file, "driver", "file");
        qdict_put_str(*file, "filename", filename);
        put_size(*file, "size", raw ? c->size : 0);
    }
    if (!raw) {
        QDict *ref = place ? qdict_ref(place) : file_node(filename);

        ops_secret_put_new(format, d);
        *image = qdict_ref(d);
        qdict_put_str(*image, "driver", format);
        qdict_put_obj(*image, "file", ref);
        put_size(*image, "size", c->size);
        if (c->backing) {
            qdict_put_str(*image, "backing-file", c->backing);
            if (c->backing_format) {
                qdict_put_str(*image, "backing-fmt", c->backing_format);
            }
        }
    }
    qdict_unref(d);
    return 0;
}

int coroutine_fn ops_create_one(QDict *options, Error **errp)
{
    BlockdevCreateOptions *opts = qapi_from_json(&qapi_type_BlockdevCreateOptions, options, true, errp);
    int ret = -EINVAL;

    if (opts) {
        const BlockDriver *drv = bdrv_find_format(BlockdevDriver_str(opts->driver));

        if (!drv || !drv->co_create) {
            error_setg(errp, "Images of format '%s' cannot be created", BlockdevDriver_str(opts->driver));
            ret = -ENOTSUP;
        } else {
            ret = drv->co_create(opts, errp);
        }
        qapi_free_BlockdevCreateOptions(opts);
    }
    return ret;
}

/* ---- making ---- */

int coroutine_fn ops_check_unused(const char *filename, Error **errp)
{
    struct stat st;

    if (stat(filename, &st) < 0 || !S_ISREG(st.st_mode)) {
        return 0;       /* another check's business */
    }
    OpsSource src = { .name = filename, .format = "raw", .writable = true };
    BlockBackend *blk = ops_open(&src, errp);

    if (!blk) {
        return -EBUSY;
    }
    blk_unref(blk);
    return 0;
}

int coroutine_fn ops_create_data_file(QDict *image, Error **errp)
{
    QDict *given = qdict_get(image, "data-file"), *file, *ref = NULL;
    g_autofree char *path = given && qstring_get(given) ? g_strdup(qstring_get(given)) : NULL;
    int ret = 0;

    if (!path) {
        return 0;
    }
    if (ops_place_is(path)) {
        ref = ops_place_options(path, errp);
        ret = ref ? 0 : -EINVAL;
    } else {
        ref = file_node(path);
        file = file_node(path);
        put_size(file, "size", 0);
        ret = ops_create_one(file, errp);
        qdict_unref(file);
    }
    if (ref) {
        qdict_put_obj(image, "data-file", ref);
    }
    return ret;
}

static int coroutine_fn backing_size(OpsCreate *c, Error **errp)
{
    g_autofree char *path = ops_backing_path(c->filename, c->backing);
    OpsSource src = { .name = path, .format = c->backing_format, .force_share = true };
    BlockBackend *blk = ops_open(&src, errp);

    if (!blk) {
        error_append_hint(errp, "A relative backing file is looked for beside the image that names it.\n");
        return -ENOENT;
    }
    if (c->size < 0) {
        c->size = blk_co_getlength(blk);
    }
    blk_unref(blk);
    return 0;
}

static int coroutine_fn create_as(const OpsCreate *c, const char *name, Error **errp)
{
    ERRP_GUARD();
    bool in_place = ops_place_is(name);
    g_autoptr(QDict) place = in_place ? ops_place_options(name, errp) : NULL, file = NULL, image = NULL;
    int ret = in_place && !place ? -EINVAL : ops_create_options(c, name, place, &file, &image, errp);

    if (ret == 0 && file) {
        ret = ops_create_one(file, errp);
    } else if (ret == 0) {
        ret = ops_place_take(name, image ? 0 : c->size, errp);
        if (ret < 0) {
            error_prepend(errp, "'%s' cannot be overwritten: ", name);
        }
    }
    if (ret == 0 && image) {
        ret = ops_create_data_file(image, errp);
    }
    if (ret == 0 && image) {
        ret = ops_create_one(image, errp);
    }
    return ret;
}

int coroutine_fn ops_create_plain(const OpsCreate *c, Error **errp)
{
    return create_as(c, c->filename, errp);
}

int coroutine_fn ops_create(const OpsCreate *given, Error **errp)
{
    OpsCreate c = *given;
    OpsTemp temp;
    int ret;

    if (c.backing && !c.backing_format) {
        error_setg(errp, "The format of the backing image is not given");
        error_append_hint(errp, "Say --backing-format=qcow2 (or raw): guessing it is not safe.\n");
        return -EINVAL;
    }
    if (c.backing && (ret = backing_size(&c, errp)) < 0) {
        return ret;
    }
    if (c.size < 0) {
        error_setg(errp, "The size of '%s' is not given", c.filename);
        return -EINVAL;
    }
    if ((ret = ops_check_unused(c.filename, errp)) < 0) {
        return ret;
    }
    const char *name = ops_temp_begin(&temp, c.filename, c.force, errp);

    if (!name) {
        return -EEXIST;
    }
    ret = create_as(&c, name, errp);
    if (ret < 0) {
        ops_secret_hint(errp);
        ops_temp_abort(&temp);
        return ret;
    }
    return ops_temp_commit(&temp, errp);
}
