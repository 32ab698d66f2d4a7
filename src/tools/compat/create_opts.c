/* SPDX-License-Identifier: MIT */
/* create_opts.c: -o: the options of new images, as command lines know them, and what
 * blockdev-create calls them.
 *
 * The tables are in the order in which they are shown. An option that the schema does not
 * know (yet) is refused when it is used.
 */
#include "compat/compat.h"
#include "graph/filename.h"
#include "base/size.h"
#include "block/qapi-visit.h"

typedef enum OptType { OPT_STR, OPT_BOOL, OPT_SIZE, OPT_NUMBER } OptType;

typedef struct OptDesc {
    const char *name;
    OptType type;
    const char *help;
    const char *def;            /* shown though it was not given; NULL: not shown */
    const char *member;         /* of blockdev-create; NULL: special, see below */
} OptDesc;

static const OptDesc qcow2_options[] = {
    { "encryption", OPT_BOOL, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL,
      "encryption" },
    { "encrypt.format", OPT_STR, "Encrypt the image, format choices: 'aes', 'luks'", NULL, "encrypt.format" },
    { "encrypt.key-secret", OPT_STR, "ID of secret providing qcow AES key or LUKS passphrase", NULL,
      "encrypt.key-secret" },
    { "encrypt.cipher-alg", OPT_STR, "Name of encryption cipher algorithm", NULL, "encrypt.cipher-alg" },
    { "encrypt.cipher-mode", OPT_STR, "Name of encryption cipher mode", NULL, "encrypt.cipher-mode" },
    { "encrypt.ivgen-alg", OPT_STR, "Name of IV generator algorithm", NULL, "encrypt.ivgen-alg" },
    { "encrypt.ivgen-hash-alg", OPT_STR, "Name of IV generator hash algorithm", NULL, "encrypt.ivgen-hash-alg" },
    { "encrypt.hash-alg", OPT_STR, "Name of encryption hash algorithm", NULL, "encrypt.hash-alg" },
    { "encrypt.iter-time", OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL, "encrypt.iter-time" },
    { "cluster_size", OPT_SIZE, "qcow2 cluster size", "65536", "cluster-size" },
    { "extended_l2", OPT_BOOL, "Extended L2 tables", "off", "extended-l2" },
    { "preallocation", OPT_STR, "Preallocation mode (allowed values: off, metadata, falloc, full)", NULL,
      "preallocation" },
    { "compression_type", OPT_STR, "Compression method used for image cluster compression", "zlib",
      "compression-type" },
    { "size", OPT_SIZE, "Virtual disk size", NULL, "size" },
    { "compat", OPT_STR, "Compatibility level (v2 [0.10] or v3 [1.1])", NULL, "version" },
    { "backing_file", OPT_STR, "File name of a base image", NULL, "backing-file" },
    { "backing_fmt", OPT_STR, "Image format of the base image", NULL, "backing-fmt" },
    { "data_file", OPT_STR, "File name of an external data file", NULL, "data-file" },
    { "data_file_raw", OPT_BOOL, "The external data file must stay valid as a raw image", NULL, "data-file-raw" },
    { "lazy_refcounts", OPT_BOOL, "Postpone refcount updates", "off", "lazy-refcounts" },
    { "refcount_bits", OPT_NUMBER, "Width of a reference count entry in bits", "16", "refcount-bits" },
    { NULL },
};

static const OptDesc luks_options[] = {
    { "size", OPT_SIZE, "Virtual disk size", NULL, "size" },
    { "key-secret", OPT_STR, "ID of the secret that provides the keyslot passphrase", NULL, "key-secret" },
    { "cipher-alg", OPT_STR, "Name of encryption cipher algorithm", NULL, "cipher-alg" },
    { "cipher-mode", OPT_STR, "Name of encryption cipher mode", NULL, "cipher-mode" },
    { "ivgen-alg", OPT_STR, "Name of IV generator algorithm", NULL, "ivgen-alg" },
    { "ivgen-hash-alg", OPT_STR, "Name of IV generator hash algorithm", NULL, "ivgen-hash-alg" },
    { "hash-alg", OPT_STR, "Name of encryption hash algorithm", NULL, "hash-alg" },
    { "iter-time", OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL, "iter-time" },
    { "detached-header", OPT_BOOL, "Create a detached LUKS header", NULL, NULL },
    { NULL },
};

static const OptDesc raw_options[] = {
    { "size", OPT_SIZE, "Virtual disk size", NULL, "size" },
    { NULL },
};

static const OptDesc file_options[] = {
    { "nocow", OPT_BOOL, "Turn off copy-on-write (valid only on btrfs)", NULL, "nocow" },
    { "preallocation", OPT_STR, "Preallocation mode (allowed values: off, falloc, full)", NULL, "preallocation" },
    { "extent_size_hint", OPT_SIZE, "Extent size hint for the image file, 0 to disable", NULL, "extent-size-hint" },
    { NULL },
};

/* Of a device or a server's export. */
static const OptDesc place_options[] = {
    { "preallocation", OPT_STR, "Preallocation mode (allowed values: off)", NULL, "preallocation" },
    { NULL },
};

static const struct {
    const char *name;
    const OptDesc *options;
    const QapiType *type;
} formats[] = {
    { "qcow2", qcow2_options, &qapi_type_BlockdevCreateOptionsQcow2 },
    { "raw", raw_options, NULL },
    { "luks", luks_options, &qapi_type_BlockdevCreateOptionsLUKS },
};

struct CompatCreate {
    const char *format;
    char *filename;             /* NULL: not known */
    bool place;                 /* it is there and cannot be made */
    GPtrArray *descs;           /* of format and protocol, in order, each name once */
    guint n_format;             /* those of the format */
    const char **values;        /* as many; NULL: not given */
    const QapiType *type;       /* NULL: raw */
};

static bool has_desc(const CompatCreate *c, const char *name)
{
    for (guint i = 0; i < c->descs->len; i++) {
        if (!strcmp(((const OptDesc *)g_ptr_array_index(c->descs, i))->name, name)) {
            return true;
        }
    }
    return false;
}

static void add_descs(CompatCreate *c, const OptDesc *o)
{
    for (; o->name; o++) {
        if (!has_desc(c, o->name)) {
            g_ptr_array_add(c->descs, (void *)o);
        }
    }
}

CompatCreate *compat_create_new(const char *format, const char *filename)
{
    size_t i = 0;

    while (i < G_N_ELEMENTS(formats) && strcmp(formats[i].name, format)) {
        i++;
    }
    if (i == G_N_ELEMENTS(formats)) {
        return NULL;
    }
    CompatCreate *c = g_new0(CompatCreate, 1);
    const char *path = filename;

    if (filename && g_str_has_prefix(filename, "file:")) {
        path += strlen("file:");
    }
    c->format = formats[i].name;
    c->filename = g_strdup(path);
    c->place = path && ops_place_is(path);
    c->type = formats[i].type;
    c->descs = g_ptr_array_new();
    add_descs(c, formats[i].options);
    c->n_format = c->descs->len;
    if (filename) {
        add_descs(c, c->place ? place_options : file_options);
    }
    c->values = g_new0(const char *, c->descs->len);
    return c;
}

void compat_create_free(CompatCreate *c)
{
    if (c) {
        for (guint i = 0; i < c->descs->len; i++) {
            g_free((char *)c->values[i]);
        }
        g_free(c->values);
        g_free(c->filename);
        g_ptr_array_free(c->descs, true);
        g_free(c);
    }
}

bool compat_create_supports_backing(const CompatCreate *c)
{
    return has_desc(c, "backing_file");
}

static const OptDesc *desc_at(const CompatCreate *c, guint i)
{
    return g_ptr_array_index(c->descs, i);
}

const char *compat_create_get(const CompatCreate *c, const char *key)
{
    for (guint i = 0; i < c->descs->len; i++) {
        if (!strcmp(desc_at(c, i)->name, key)) {
            return c->values[i];
        }
    }
    return NULL;
}

/* ---- parsing ---- */

/* The value as it is shown and passed on, or NULL and *errp. */
static char *value_checked(const OptDesc *o, const char *value, Error **errp)
{
    uint64_t n;
    bool on;
    char *end;

    switch (o->type) {
    case OPT_BOOL:
        if (compat_text_to_bool(value, &on)) {
            return g_strdup(value);     /* it is shown as it was given */
        }
        error_setg(errp, "Parameter '%s' expects 'on' or 'off'", o->name);
        return NULL;
    case OPT_SIZE:
        if (!compat_size(o->name, value, &n, errp)) {
            return NULL;
        }
        return g_strdup_printf("%" PRIu64, n);
    case OPT_NUMBER:
        errno = 0;
        n = g_ascii_strtoull(value, &end, 0);
        if (errno || end == value || *end) {
            error_setg(errp, "Parameter '%s' expects a number", o->name);
            return NULL;
        }
        return g_strdup_printf("%" PRIu64, n);
    default:
        return g_strdup(value);
    }
}

int compat_create_set(CompatCreate *c, const char *key, const char *value, Error **errp)
{
    for (guint i = 0; i < c->descs->len; i++) {
        const OptDesc *o = desc_at(c, i);

        if (!strcmp(o->name, key)) {
            char *checked = value_checked(o, value, errp);

            if (!checked) {
                return -EINVAL;
            }
            g_free((char *)c->values[i]);
            c->values[i] = checked;
            return 0;
        }
    }
    error_setg(errp, "Invalid parameter '%s'", key);
    return -EINVAL;
}

/* "key=value" at *text, up to a single comma; "key" is on, "nokey" off. */
static int take_part(CompatCreate *c, const char **text, Error **errp)
{
    size_t n = strcspn(*text, "=,");
    g_autofree char *key = g_strndup(*text, n);
    GString *value;
    int ret;

    *text += n;
    if (**text != '=') {
        *text += **text == ',';
        if (g_str_has_prefix(key, "no")) {
            return compat_create_set(c, key + 2, "off", errp);
        }
        return compat_create_set(c, key, "on", errp);
    }
    value = g_string_new(NULL);
    for ((*text)++; **text; (*text)++) {
        if (**text == ',' && *++*text != ',') {
            break;
        }
        g_string_append_c(value, **text);
    }
    ret = compat_create_set(c, key, value->str, errp);
    g_string_free(value, true);
    return ret;
}

int compat_create_parse(CompatCreate *c, const char *text, Error **errp)
{
    int ret = 0;

    while (*text && ret == 0) {
        ret = take_part(c, &text, errp);
    }
    return ret;
}

/* ---- showing ---- */

char *compat_create_describe(const CompatCreate *c)
{
    GString *out = g_string_new(NULL);

    for (guint i = 0; i < c->descs->len; i++) {
        const char *value = c->values[i] ? c->values[i] : desc_at(c, i)->def;

        if (value) {
            g_auto(GStrv) parts = g_strsplit(value, ",", -1);
            g_autofree char *quoted = g_strjoinv(",,", parts);

            g_string_append_printf(out, " %s=%s", desc_at(c, i)->name, quoted);
        }
    }
    return g_string_free(out, FALSE);
}

static int by_desc_name(const void *a, const void *b)
{
    const OptDesc *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

bool compat_is_help(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    return g_strv_contains((const char *const *)parts, "help") || g_strv_contains((const char *const *)parts, "?");
}

int compat_create_help(const char *format, const char *filename)
{
    static const char *const types[] = { "str", "bool (on/off)", "size", "num" };
    CompatCreate *c = compat_create_new(format, filename);

    if (!c) {
        return compat_fail("Unknown file format '%s'", format);
    }
    g_ptr_array_sort(c->descs, by_desc_name);
    if (filename) {
        printf("Supported options:\n");
    } else {
        printf("Supported %s options:\n", format);
    }
    for (guint i = 0; i < c->descs->len; i++) {
        const OptDesc *o = desc_at(c, i);
        g_autofree char *left = g_strdup_printf("%s=<%s>", o->name, types[o->type]);

        printf("  %-22s - %s\n", left, o->help);
    }
    if (!filename) {
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    }
    compat_create_free(c);
    return EXIT_SUCCESS;
}

/* ---- making ---- */

static bool schema_has(const QapiType *t, const char *member)
{
    size_t n = strcspn(member, ".");

    for (int i = 0; i < t->n_members; i++) {
        if (strlen(t->members[i].name) == n && !strncmp(t->members[i].name, member, n)) {
            return true;
        }
    }
    return false;
}

static int put_member(QDict *flat, const QapiType *type, const OptDesc *o, const char *value, Error **errp)
{
    const char *member = o->member;

    bool on;

    if (o->type == OPT_BOOL && compat_text_to_bool(value, &on) && !on && !(member && schema_has(type, member))) {
        return 0;               /* what it cannot do it does not do */
    }
    if (type != &qapi_type_BlockdevCreateOptionsQcow2 && !strcmp(o->name, "preallocation") &&
        qapi_enum_parse(&qapi_type_PreallocMode, value) < 0) {
        error_setg(errp, "invalid parameter value: %s", value);
        return -EINVAL;
    }
    if (member && !strcmp(member, "version")) {
        bool old = !strcmp(value, "0.10") || !strcmp(value, "v2");

        if (!old && strcmp(value, "1.1") && strcmp(value, "v3")) {
            error_setg(errp, "Parameter 'version' does not accept value '%s'", value);
            return -EINVAL;
        }
        value = old ? "v2" : "v3";
    }
    if (member && (!strcmp(member, "encryption") || (!strcmp(member, "encrypt.format") && !strcmp(value, "aes")))) {
        qdict_put_str(flat, "encrypt.format", "qcow");
        return 0;
    }
    if (!member || !schema_has(type, member)) {
        error_setg(errp, "Images with the option '%s' cannot be created", o->name);
        return -ENOTSUP;
    }
    qdict_put_str(flat, member, value);
    return 0;
}

static bool is_luks(const CompatCreate *c)
{
    return c->type == &qapi_type_BlockdevCreateOptionsLUKS;
}

/* Space is provided by the one that knows how much there will be. */
static bool is_of_image(const CompatCreate *c, guint i)
{
    return i < c->n_format || (is_luks(c) && !strcmp(desc_at(c, i)->name, "preallocation"));
}

static char *rounded_size(const CompatCreate *c)
{
    uint64_t n = g_ascii_strtoull(compat_create_get(c, "size"), NULL, 10);

    return g_strdup_printf("%" PRIu64, n > UINT64_MAX - BDRV_SECTOR_SIZE ? n : ROUND_UP(n, BDRV_SECTOR_SIZE));
}

/* The file below, if it is to be made. */
static int file_options_of(const CompatCreate *c, QDict **file, Error **errp)
{
    bool raw = !c->type;
    g_autofree char *size = raw ? rounded_size(c) : g_strdup("0");

    *file = NULL;
    if (c->place) {
        return 0;
    }
    *file = qdict_new();
    qdict_put_str(*file, "driver", "file");
    qdict_put_str(*file, "filename", c->filename);
    qdict_put_str(*file, "size", size);
    for (guint i = c->n_format; i < c->descs->len; i++) {
        if (c->values[i] && !is_of_image(c, i) && put_member(*file, &qapi_type_BlockdevCreateOptionsFile, desc_at(c, i), c->values[i],
                                       errp) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static int image_options_of(const CompatCreate *c, QDict **image, Error **errp)
{
    g_autofree char *size = is_luks(c) ? g_strdup(compat_create_get(c, "size")) : rounded_size(c);
    const char *detached = compat_create_get(c, "detached-header");
    bool on = false;
    QDict *flat, *ref;

    *image = NULL;
    if (!c->type) {
        return 0;
    }
    flat = qdict_new();
    for (guint i = 0; i < c->descs->len; i++) {
        if (c->values[i] && c->values[i] != detached && is_of_image(c, i) && put_member(flat, c->type, desc_at(c, i), c->values[i], errp) < 0) {
            qdict_unref(flat);
            return -EINVAL;
        }
    }
    *image = qdict_crumple(flat, errp);
    ref = *image ? ops_place_options(c->filename, errp) : NULL;
    if (!ref) {
        return -EINVAL;
    }
    qdict_put_str(*image, "driver", c->format);
    qdict_put_str(*image, "size", size);
    /* A header by itself; the disk is made by whoever has it. */
    qdict_put_obj(*image, detached && compat_text_to_bool(detached, &on) && on ? "header" : "file", ref);
    return 0;
}

/* What is there holds what it holds, and has the space that it has. */
static int coroutine_fn take_place(const CompatCreate *c, Error **errp)
{
    ERRP_GUARD();
    const char *mode = c->type ? NULL : compat_create_get(c, "preallocation");
    g_autofree char *size = c->type ? NULL : rounded_size(c);

    if (mode && qapi_enum_parse(&qapi_type_PreallocMode, mode) < 0) {
        error_setg(errp, "invalid parameter value: %s", mode);
        return -EINVAL;
    }
    if (mode && strcmp(mode, "off")) {
        error_setg(errp, "Unsupported preallocation mode '%s'", mode);
        return -ENOTSUP;
    }
    int ret = ops_place_take(c->filename, size ? g_ascii_strtoll(size, NULL, 10) : 0, errp);

    if (ret == -ENXIO) {
        error_prepend(errp, "Protocol driver '%s' does not support image creation, and opening the image failed: ",
                      path_has_protocol(c->filename) ? "nbd" : "host_device");
    }
    return ret;
}

int coroutine_fn compat_co_create(CompatCreate *c, Error **errp)
{
    g_autoptr(QDict) file = NULL, image = NULL;
    int ret = file_options_of(c, &file, errp);

    if (ret == 0) {
        ret = image_options_of(c, &image, errp);
    }
    if (ret == 0) {
        ret = c->place ? take_place(c, errp) : ops_create_one(file, errp);
    }
    if (ret == 0 && image) {
        ret = ops_create_data_file(image, errp);
    }
    if (ret == 0 && image) {
        ret = ops_create_one(image, errp);
        if (ret < 0 && file) {
            unlink(c->filename);
        }
    }
    return ret;
}
