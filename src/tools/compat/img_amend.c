/* SPDX-License-Identifier: MIT */
/* img_amend.c: qemu-img amend. */
#include "compat/compat.h"
#include <getopt.h>

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS, OPT_FORCE };

const CompatOption img_amend_options[] = {
    { 'o', "options", "OPTIONS", "what is to change; -o help lists what can" },
    { 'q', "quiet", NULL, "no progress" },
    { 'p', "progress", NULL, "show progress" },
    { 'f', "format", "FMT", "format of the image (probed)" },
    { 't', "cache", "MODE", "how the host caches (writeback)" },
    { OPT_FORCE, "force", NULL, "also what may make the image unreadable" },
    { OPT_IMAGE_OPTS, "image-opts", NULL, "FILENAME is options, not a name" },
    { OPT_OBJECT, "object", "OBJECT", "make an object, such as a secret" },
    { 0 },
};

/* What can be changed, in the order of the help. */
typedef struct AmendDesc { const char *name, *type, *help; } AmendDesc;

static const AmendDesc of_luks[] = {
    { "iter-time", "num", "Time to spend in PBKDF in milliseconds" },
    { "keyslot", "num", "Select a single keyslot to modify explicitly" },
    { "new-secret", "str", "New secret to set in the matching keyslots. Empty string to erase" },
    { "old-secret", "str", "Select all keyslots that match this password" },
    { "state", "str", "Select new state of affected keyslots (active/inactive)" },
    { NULL },
};

static const AmendDesc of_qcow2[] = {
    { "backing_file", "str", "File name of a base image" },
    { "backing_fmt", "str", "Image format of the base image" },
    { "compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])" },
    { "data_file", "str", "File name of an external data file" },
    { "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image" },
    { "encrypt.iter-time", "num", "Time to spend in PBKDF in milliseconds" },
    { "encrypt.keyslot", "num", "Select a single keyslot to modify explicitly" },
    { "encrypt.new-secret", "str", "New secret to set in the matching keyslots. Empty string to erase" },
    { "encrypt.old-secret", "str", "Select all keyslots that match this password" },
    { "encrypt.state", "str", "Select new state of affected keyslots (active/inactive)" },
    { "lazy_refcounts", "bool (on/off)", "Postpone refcount updates" },
    { "refcount_bits", "num", "Width of a reference count entry in bits" },
    { "size", "size", "Virtual disk size" },
    { NULL },
};

static const AmendDesc *descs_of(const BlockDriver *drv)
{
    return !strcmp(drv->format_name, "luks") ? of_luks : of_qcow2;
}

typedef struct AmendCall {
    CompatOpen open;
    char *options;
    BdrvAmendOptions o;
    bool progress, quiet, help;
} AmendCall;

/* ---- options ---- */

static int print_help_of(const char *format)
{
    const BlockDriver *drv = bdrv_find_format(format);

    if (!drv) {
        return compat_fail("Unknown file format '%s'", format);
    }
    if (!drv->co_amend && !drv->co_amend_keys) {
        return compat_fail("Format driver '%s' does not support option amendment", format);
    }
    printf("Amend options for '%s':\n", format);
    for (const AmendDesc *d = descs_of(drv); d->name; d++) {
        g_autofree char *left = g_strdup_printf("%s=<%s>", d->name, d->type);

        printf("  %-22s - %s\n", left, d->help);
    }
    return EXIT_SUCCESS;
}

static int take_bool(const char *key, const char *value, bool *has, bool *on, Error **errp)
{
    *has = true;
    if (!compat_text_to_bool(value, on)) {
        error_setg(errp, "Parameter '%s' expects 'on' or 'off'", key);
        return -EINVAL;
    }
    return 0;
}

static int take_compat(BdrvAmendOptions *o, const char *value, Error **errp)
{
    if (!strcmp(value, "0.10") || !strcmp(value, "v2")) {
        o->version = 2;
    } else if (!strcmp(value, "1.1") || !strcmp(value, "v3")) {
        o->version = 3;
    } else {
        error_setg(errp, "Unknown compatibility level %s", value);
        return -EINVAL;
    }
    return 0;
}

static int take_number(const char *key, const char *value, int64_t *to, Error **errp)
{
    uint64_t v;

    if (g_ascii_isdigit(*value) && !value[strspn(value, "0123456789")]) {
        *to = MIN(g_ascii_strtoull(value, NULL, 10), INT64_MAX);
        return 0;
    }
    if (!strcmp(key, "size") && compat_size(key, value, &v, errp)) {
        if (v > INT64_MAX) {
            error_setg(errp, "Value '%s' is out of range for parameter '%s'", value, key);
            return -ERANGE;
        }
        *to = v;
        return 0;
    }
    if (strcmp(key, "size")) {
        error_setg(errp, "Parameter '%s' expects a number", key);
    }
    return -EINVAL;
}

/* Of the passwords; @key without the prefix that qcow2 has for them. */
static int take_key_option(BdrvAmendOptions *o, const AmendDesc *d, const char *key, const char *value, Error **errp)
{
    char *end;

    o->encrypt = o->encrypt ? o->encrypt : qdict_new();
    if (strcmp(d->type, "num")) {
        qdict_put_str(o->encrypt, key, value);
        return 0;
    }
    errno = 0;
    uint64_t n = g_ascii_strtoull(value, &end, 0);

    if (errno || end == value || *end) {
        error_setg(errp, "Parameter '%s' expects a number", d->name);
        return -EINVAL;
    }
    qdict_put_int(o->encrypt, key, n);
    return 0;
}

static int not_known(const BlockDriver *drv, const char *key, const char *value, Error **errp)
{
    CompatCreate *c = compat_create_new(drv->format_name, NULL);
    bool creation = compat_create_set(c, key, value, NULL) >= 0 || compat_create_set(c, key, "on", NULL) >= 0 ||
                    compat_create_set(c, key, "1", NULL) >= 0;

    compat_create_free(c);
    error_setg(errp, "Invalid parameter '%s'", key);
    if (creation) {
        error_append_hint(errp, "This option is only supported for image creation\n");
    }
    return -EINVAL;
}

static int take_qcow2(BdrvAmendOptions *o, const char *key, const char *value, bool *taken, Error **errp)
{
    *taken = true;
    if (!strcmp(key, "compat")) {
        return take_compat(o, value, errp);
    }
    if (!strcmp(key, "lazy_refcounts")) {
        return take_bool(key, value, &o->has_lazy_refcounts, &o->lazy_refcounts, errp);
    }
    if (!strcmp(key, "data_file_raw")) {
        return take_bool(key, value, &o->has_data_file_raw, &o->data_file_raw, errp);
    }
    if (!strcmp(key, "refcount_bits")) {
        return take_number(key, value, &o->refcount_bits, errp);
    }
    if (!strcmp(key, "size")) {
        return take_number(key, value, &o->size, errp);
    }
    char **text = !strcmp(key, "backing_file") ? &o->backing_file : !strcmp(key, "backing_fmt") ? &o->backing_fmt :
                  !strcmp(key, "data_file") ? &o->data_file : NULL;

    if (text) {
        g_free(*text);
        *text = g_strdup(value);
        return 0;
    }
    *taken = false;
    return 0;
}

static int take_pair(BdrvAmendOptions *o, const BlockDriver *drv, const char *key, const char *value, Error **errp)
{
    const AmendDesc *d = descs_of(drv);
    bool luks = d == of_luks, taken = false;
    int ret = luks ? 0 : take_qcow2(o, key, value, &taken, errp);

    if (taken) {
        o->only_encrypt = false;
        return ret;
    }
    while (d->name && strcmp(d->name, key)) {
        d++;
    }
    return d->name ? take_key_option(o, d, luks ? key : key + strlen("encrypt."), value, errp)
                   : not_known(drv, key, value, errp);
}

/* "key=value,key,nokey"; two commas are one that is meant. */
static int take_list(BdrvAmendOptions *o, const BlockDriver *drv, const char *p, Error **errp)
{
    int ret = 0;

    while (*p && !ret) {
        size_t key_bytes = strcspn(p, "=,");
        g_autofree char *key = g_strndup(p, key_bytes);
        g_autoptr(GString) value = g_string_new(NULL);

        p += key_bytes;
        if (*p == '=') {
            for (p++; *p && (*p != ',' || p[1] == ','); p++) {
                g_string_append_c(value, *p);
                p += *p == ',';
            }
        } else if (g_str_has_prefix(key, "no") && *key) {
            g_string_assign(value, "off");
            memmove(key, key + 2, strlen(key) - 1);
        } else {
            g_string_assign(value, "on");
        }
        p += *p == ',';
        ret = take_pair(o, drv, key, value->str, errp);
    }
    return ret;
}

/* ---- doing it ---- */

static int coroutine_fn amend_open(AmendCall *call, BlockBackend *blk, Error **errp)
{
    BlockDriverState *bs = bdrv_skip_filters(blk_bs(blk));

    if (call->help) {
        return print_help_of(bs->drv->format_name) ? -ENOTSUP : 0;
    }
    if (!bs->drv->co_amend && !bs->drv->co_amend_keys) {
        error_setg(errp, "Format driver '%s' does not support option amendment", bs->drv->format_name);
        return -ENOTSUP;
    }
    call->o.only_encrypt = true;
    if (take_list(&call->o, bs->drv, call->options, errp) < 0) {
        return -EINVAL;
    }
    return bdrv_co_amend(bs, &call->o, errp);
}

static int coroutine_fn amend_op(void *opaque, Error **errp)
{
    AmendCall *call = opaque;
    BlockBackend *blk = compat_co_open_report(&call->open);
    int ret = blk ? amend_open(call, blk, errp) : -EIO;

    blk_unref(blk);
    return ret;
}

static bool take_option(AmendCall *call, int c)
{
    char *joined;
    bool through;

    switch (c) {
    case 'o':
        if (!compat_option_list_valid(optarg)) {
            return false;
        }
        joined = call->options ? g_strdup_printf("%s,%s", call->options, optarg) : g_strdup(optarg);
        g_free(call->options);
        call->options = joined;
        break;
    case 'q': call->quiet = true; break;
    case 'p': call->progress = true; break;
    case 'f': call->open.format = optarg; break;
    case 't':
        if (!compat_cache_mode(optarg, &call->open.cache_flags, &through)) {
            compat_fail("Invalid cache option: %s", optarg);
            return false;
        }
        break;
    case OPT_FORCE: call->o.force = true; break;
    case OPT_IMAGE_OPTS: call->open.image_opts = true; break;
    case OPT_OBJECT: return compat_object_add(optarg);
    }
    return true;
}

static int amend_checked(AmendCall *call)
{
    Error *err = NULL;
    CompatProgress *p;

    compat_engine_start();
    p = call->help ? NULL : compat_progress_new(call->progress && !call->quiet, 1.0);
    int ret = ops_run(amend_op, call, &err);

    if (p) {
        compat_progress_done(p, ret >= 0);
        compat_progress_end(p, ret >= 0);
    }
    if (err) {
        error_report_err(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int img_amend(int argc, char **argv, const CompatCommand *cmd)
{
    AmendCall call = { .open = { .writable = true, .resize = true }, .o = { .refcount_bits = -1, .size = -1 } };
    int c, ret;

    while ((c = compat_next_option(argc, argv, cmd)) != -1) {
        if (!take_option(&call, c)) {
            g_free(call.options);
            return EXIT_FAILURE;
        }
    }
    if (!call.options) {
        return compat_usage(cmd, "Must specify options (-o)");
    }
    call.help = compat_is_help(call.options);
    call.open.name = optind + 1 == argc ? argv[optind] : NULL;
    if (call.help && call.open.format) {
        compat_engine_start();
        ret = print_help_of(call.open.format);
    } else if (!call.open.name) {
        ret = compat_fail("Expecting one image file name");
    } else if (call.open.image_opts && call.open.format) {
        ret = compat_fail("--image-opts and --format are mutually exclusive");
    } else {
        ret = amend_checked(&call);
    }
    qdict_unref(call.o.encrypt);
    g_free(call.o.backing_file);
    g_free(call.o.backing_fmt);
    g_free(call.o.data_file);
    g_free(call.options);
    return ret;
}
