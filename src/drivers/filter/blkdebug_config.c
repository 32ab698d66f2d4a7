/* SPDX-License-Identifier: MIT */
/* blkdebug_config.c: rules from options, and from a file of this form:
 *
 *     [inject-error]
 *     event = "write_aio"
 *     errno = "28"
 *
 *     [set-state]
 *     event = "l2_load"
 *     new_state = "2"
 *
 * A name may follow the group, [inject-error "NAME"], and means nothing. Lines that begin with # are
 * comments.
 */
#include "drivers/filter/blkdebug.h"
#include <fcntl.h>
#include <sys/stat.h>

#define CONFIG_BYTES_MAX        (1 * MiB)

void blkdebug_rule_free(BlkdebugRule *rule)
{
    g_free(rule->tag);
    g_free(rule);
}

BlkdebugRule *blkdebug_rule_inject(const BlkdebugInjectErrorOptions *o)
{
    BlkdebugRule *r = g_new0(BlkdebugRule, 1);

    r->event = o->event;
    r->action = BLKDEBUG_INJECT_ERROR;
    r->state = o->has_state ? o->state : 0;
    r->error = o->has_q_errno ? o->q_errno : EIO;
    /* Where data lies was asked long before there was a word for it: left alone unless named. */
    r->iotypes = o->has_iotype ? 1u << o->iotype : ((1u << BLKDEBUG_IO_TYPE__MAX) - 1) & ~(1u << BLKDEBUG_IO_TYPE_BLOCK_STATUS);
    r->offset = !o->has_sector || o->sector < 0 ? -1 : MIN(o->sector, INT64_MAX / BDRV_SECTOR_SIZE) * BDRV_SECTOR_SIZE;
    r->once = o->has_once && o->once;
    r->immediately = o->has_immediately && o->immediately;
    return r;
}

BlkdebugRule *blkdebug_rule_set_state(const BlkdebugSetStateOptions *o)
{
    BlkdebugRule *r = g_new0(BlkdebugRule, 1);

    r->event = o->event;
    r->action = BLKDEBUG_SET_STATE;
    r->state = o->has_state ? o->state : 0;
    r->new_state = o->new_state;
    return r;
}

/* ---- a file ---- */

typedef struct Section {
    const QapiType *type;       /* NULL: before the first */
    const char *name;
    QDict *values;
} Section;

/* The group is complete. */
static int section_end(Section *s, BlkdebugAdd *add, void *opaque, Error **errp)
{
    if (!s->type) {
        return 0;
    }
    if (!qdict_haskey(s->values, "event")) {
        error_setg(errp, "Missing event name for rule");
        return -EINVAL;
    }
    bool inject = s->type == &qapi_type_BlkdebugInjectErrorOptions;

    if (!inject && !qdict_haskey(s->values, "new_state")) {
        qdict_put_str(s->values, "new_state", "0");
    }
    void *o = qapi_from_json(s->type, s->values, true, errp);

    if (!o) {
        return -EINVAL;
    }
    add(opaque, inject ? blkdebug_rule_inject(o) : blkdebug_rule_set_state(o));
    qapi_free(s->type, o);
    return 0;
}

static int section_begin(Section *s, char *line, Error **errp)
{
    char *end = strchr(line, ']');

    line++;
    if (!end) {
        error_setg(errp, "']' expected behind '[%s'", line);
        return -EINVAL;
    }
    line[MIN((size_t)(end - line), strcspn(line, " \t"))] = '\0';
    qdict_unref(s->values);
    s->values = qdict_new();
    if (!strcmp(line, "inject-error")) {
        s->type = &qapi_type_BlkdebugInjectErrorOptions;
    } else if (!strcmp(line, "set-state")) {
        s->type = &qapi_type_BlkdebugSetStateOptions;
    } else {
        s->type = NULL;
        error_setg(errp, "There is no option group '%s'", line);
        return -EINVAL;
    }
    return 0;
}

/* Numbers may be written as C has them. */
static void put_value(QDict *d, const char *key, const char *value)
{
    char *end;
    int64_t number = g_ascii_strtoll(value, &end, 0);

    if (*value && !*end) {
        g_autofree char *text = g_strdup_printf("%" PRId64, number);

        qdict_put_str(d, key, text);
    } else {
        qdict_put_str(d, key, value);
    }
}

static int section_value(Section *s, char *line, Error **errp)
{
    char *eq = strchr(line, '='), *value, *end;

    if (!s->type) {
        error_setg(errp, "no group defined");
        return -EINVAL;
    }
    value = eq ? g_strstrip(eq + 1) : NULL;
    end = value && *value == '"' ? strchr(value + 1, '"') : NULL;
    if (!end || end[1]) {
        error_setg(errp, "'%s' is not of the form: name = \"value\"", line);
        return -EINVAL;
    }
    *eq = *end = '\0';
    put_value(s->values, g_strchomp(line), value + 1);
    return 0;
}

static int read_lines(char **lines, Section *s, BlkdebugAdd *add, void *opaque, Error **errp)
{
    int ret = 0;

    for (; *lines && ret == 0; lines++) {
        char *line = g_strstrip(*lines);

        if (!*line || *line == '#') {
            continue;
        }
        if (*line == '[') {
            ret = section_end(s, add, opaque, errp);
            ret = ret ? ret : section_begin(s, line, errp);
        } else {
            ret = section_value(s, line, errp);
        }
    }
    return ret ? ret : section_end(s, add, opaque, errp);
}

/* The text of a regular file that is not too large: pipes and devices could keep us, or never end. */
static int read_text(const char *filename, char **text)
{
    struct stat st;
    int fd = open(filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK), ret = fd < 0 ? -errno : 0;

    if (fd >= 0 && fstat(fd, &st) < 0) {
        ret = -errno;
    } else if (fd >= 0 && !S_ISREG(st.st_mode)) {
        ret = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    } else if (fd >= 0 && st.st_size > CONFIG_BYTES_MAX) {
        ret = -EFBIG;
    }
    if (ret == 0) {
        *text = g_malloc0(st.st_size + 1);
        if (pread(fd, *text, st.st_size, 0) < 0) {
            ret = -errno;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return ret;
}

int blkdebug_read_config(const char *filename, BlkdebugAdd *add, void *opaque, Error **errp)
{
    Section s = { NULL };
    g_autofree char *text = NULL;
    int ret = read_text(filename, &text);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read blkdebug config file");
        return ret;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    ret = read_lines(lines, &s, add, opaque, errp);

    qdict_unref(s.values);
    return ret;
}
