/* SPDX-License-Identifier: MIT */
/* nbd_negotiate.c: the handshake: fixed newstyle; see nbd_server.h. Main thread, connection's
 * coroutine. What a client sends is bounded before it is read.
 */
#include "base/osdep.h"
#include "export/nbd_server.h"

#define OPTIONS_MAX 512         /* of one handshake: a client that never ends is sent away */

uint16_t nbd_export_flags(const NbdExport *exp)
{
    uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE |
                     (nbd_server_takes_several() ? NBD_FLAG_CAN_MULTI_CONN : 0);

    if (!exp->writable) {
        return flags | NBD_FLAG_READ_ONLY;
    }
    return flags | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
}

static int coroutine_fn reply(NbdConnection *c, uint32_t option, uint32_t type, const void *data, size_t len)
{
    g_autofree uint8_t *msg = g_malloc(sizeof(NbdOptionReply) + len);
    NbdOptionReply head = {
        .magic = htobe64(NBD_REP_MAGIC), .option = htobe32(option), .type = htobe32(type), .length = htobe32(len),
    };

    memcpy(msg, &head, sizeof(head));
    if (len) {
        memcpy(msg + sizeof(head), data, len);
    }
    return nbd_co_write(c, msg, sizeof(head) + len);
}

static int coroutine_fn reply_error(NbdConnection *c, uint32_t option, uint32_t type, const char *fmt, ...)
    G_GNUC_PRINTF(4, 5);
static int coroutine_fn reply_error(NbdConnection *c, uint32_t option, uint32_t type, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return reply(c, option, type, text, MIN(strlen(text), NBD_MAX_STRING));
}

/* ---- pieces of an option's data ---- */

typedef struct Cursor {
    const uint8_t *p;
    size_t left;
} Cursor;

static bool take_u32(Cursor *cur, uint32_t *v)
{
    if (cur->left < 4) {
        return false;
    }
    memcpy(v, cur->p, 4);
    *v = be32toh(*v);
    cur->p += 4;
    cur->left -= 4;
    return true;
}

/* A string with its length before it; a copy. NULL: malformed. */
static char *take_string(Cursor *cur)
{
    uint32_t len;

    if (!take_u32(cur, &len) || len > NBD_MAX_STRING || len > cur->left || memchr(cur->p, 0, len)) {
        return NULL;
    }
    char *s = g_strndup((const char *)cur->p, len);

    cur->p += len;
    cur->left -= len;
    return s;
}

/* ---- options ---- */

static int coroutine_fn opt_list(NbdConnection *c)
{
    for (NbdExport *exp = nbd_exports_first(); exp; exp = LIST_NEXT(exp, link)) {
        size_t n = strlen(exp->name), d = exp->description ? strlen(exp->description) : 0;
        g_autofree uint8_t *data = g_malloc(4 + n + d);
        uint32_t be = htobe32(n);

        memcpy(data, &be, 4);
        memcpy(data + 4, exp->name, n);
        if (d) {
            memcpy(data + 4 + n, exp->description, d);
        }
        blk_exp_ref(&exp->common);      /* the next one is read from it after suspending */
        int ret = reply(c, NBD_OPT_LIST, NBD_REP_SERVER, data, 4 + n + d);
        bool gone = exp->common.shutting_down;

        blk_exp_unref(&exp->common);
        if (ret < 0 || gone) {
            return ret < 0 ? ret : reply(c, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
        }
    }
    return reply(c, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

static void connection_set_export(NbdConnection *c, NbdExport *exp)
{
    c->exp = exp;
    if (c->choice.serial != exp->serial) {
        c->choice.n = 0;            /* made for another one */
    }
    exp->connections++;
    blk_exp_ref(&exp->common);
}

static int coroutine_fn reply_info(NbdConnection *c, uint32_t option, NbdExport *exp, unsigned wanted)
{
    /* Now, in the main thread: after a reply the node may be another. */
    uint32_t align = MAX(blk_bs(exp->common.blk)->bl.request_alignment, 1);
    int64_t length = blk_getlength_cached(exp->common.blk);
    uint32_t sizes[3];
    uint8_t data[14 + NBD_MAX_STRING];
    uint16_t be16;
    uint64_t be64;
    int ret = 0;

    if (wanted & (1 << NBD_INFO_NAME)) {
        be16 = htobe16(NBD_INFO_NAME);
        memcpy(data, &be16, 2);
        memcpy(data + 2, exp->name, strlen(exp->name));
        ret = reply(c, option, NBD_REP_INFO, data, 2 + strlen(exp->name));
    }
    if (ret == 0 && (wanted & (1 << NBD_INFO_DESCRIPTION)) && exp->description) {
        be16 = htobe16(NBD_INFO_DESCRIPTION);
        memcpy(data, &be16, 2);
        memcpy(data + 2, exp->description, strlen(exp->description));
        ret = reply(c, option, NBD_REP_INFO, data, 2 + strlen(exp->description));
    }
    if (ret == 0) {
        /* Requests of any alignment are served; the preferred size says what is cheap. */
        bool asked = wanted & (1 << NBD_INFO_BLOCK_SIZE);

        sizes[0] = htobe32(asked ? align : 1);
        sizes[1] = htobe32(MAX(4096, align));
        sizes[2] = htobe32(NBD_MAX_BUFFER);
        be16 = htobe16(NBD_INFO_BLOCK_SIZE);
        memcpy(data, &be16, 2);
        memcpy(data + 2, sizes, sizeof(sizes));
        ret = reply(c, option, NBD_REP_INFO, data, 2 + sizeof(sizes));
    }
    if (ret == 0) {
        be16 = htobe16(NBD_INFO_EXPORT);
        memcpy(data, &be16, 2);
        be64 = htobe64(length);
        memcpy(data + 2, &be64, 8);
        be16 = htobe16(nbd_export_flags(exp) | (c->structured ? NBD_FLAG_SEND_DF : 0));
        memcpy(data + 10, &be16, 2);
        ret = reply(c, option, NBD_REP_INFO, data, 12);
    }
    return ret;
}

static int coroutine_fn opt_info(NbdConnection *c, uint32_t option, Cursor cur)
{
    g_autofree char *name = take_string(&cur);
    unsigned wanted = 0;
    uint16_t n, info;

    if (!name || cur.left < 2) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "malformed request");
    }
    memcpy(&n, cur.p, 2);
    n = be16toh(n);
    if (cur.left - 2 != 2u * n) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "malformed request");
    }
    for (unsigned i = 0; i < n; i++) {
        memcpy(&info, cur.p + 2 + 2 * i, 2);
        info = be16toh(info);
        if (info <= NBD_INFO_BLOCK_SIZE) {
            wanted |= 1 << info;
        }
    }
    NbdExport *exp = nbd_exports_find(name);

    if (!exp) {
        return reply_error(c, option, NBD_REP_ERR_UNKNOWN, "export '%s' not present", name);
    }
    blk_exp_ref(&exp->common);
    int ret = reply_info(c, option, exp, wanted);

    if (ret == 0) {
        ret = reply(c, option, NBD_REP_ACK, NULL, 0);
    }
    if (ret == 0 && option == NBD_OPT_GO && !exp->common.shutting_down) {
        connection_set_export(c, exp);
    }
    blk_exp_unref(&exp->common);
    return ret;
}

/* Tell of the contexts in @chosen. */
static int coroutine_fn reply_contexts(NbdConnection *c, uint32_t option, const NbdOffer *offer, const bool *chosen)
{
    int ret = 0;

    for (unsigned id = NBD_CTX_BASE; id < nbd_offer_end(offer) && ret == 0; id++) {
        const char *name = chosen[id] ? nbd_offer_name(offer, id) : NULL;

        if (name) {
            g_autofree uint8_t *data = g_malloc(4 + strlen(name));
            uint32_t be = htobe32(option == NBD_OPT_LIST_META_CONTEXT ? 0 : id);

            memcpy(data, &be, 4);
            memcpy(data + 4, name, strlen(name));
            ret = reply(c, option, NBD_REP_META_CONTEXT, data, 4 + strlen(name));
        }
    }
    return ret;
}

static void choice_set(NbdChoice *choice, const NbdExport *exp, const bool *chosen)
{
    g_free(choice->ids);
    choice->serial = exp->serial;
    choice->n = 0;
    choice->ids = g_new(uint32_t, nbd_offer_end(&exp->offer));
    for (unsigned id = NBD_CTX_BASE; id < nbd_offer_end(&exp->offer); id++) {
        if (chosen[id]) {
            choice->ids[choice->n++] = id;
        }
    }
}

/* What the @n queries of a client choose. False: malformed. */
static bool take_queries(const NbdOffer *offer, Cursor *cur, uint32_t n, bool list, bool *chosen)
{
    if (n == 0 && list) {
        memset(chosen, true, nbd_offer_end(offer));
    }
    for (uint32_t i = 0; i < n; i++) {
        g_autofree char *query = take_string(cur);

        if (!query) {
            return false;
        }
        nbd_offer_match(offer, query, list, chosen);
    }
    return !cur->left;
}

static int coroutine_fn opt_meta_context(NbdConnection *c, uint32_t option, Cursor cur)
{
    bool list = option == NBD_OPT_LIST_META_CONTEXT;
    g_autofree char *name = take_string(&cur);
    uint32_t n;

    if (!list && !c->structured) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "request option '%s' when structured reply is not negotiated",
                           "set meta context");
    }
    if (!name || !take_u32(&cur, &n)) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "malformed request");
    }
    NbdExport *exp = nbd_exports_find(name);

    if (!exp) {
        return reply_error(c, option, NBD_REP_ERR_UNKNOWN, "export '%s' not present", name);
    }
    g_autofree bool *chosen = g_new0(bool, nbd_offer_end(&exp->offer));

    if (!take_queries(&exp->offer, &cur, n, list, chosen)) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "malformed request");
    }
    if (!list) {
        choice_set(&c->choice, exp, chosen);
    }
    blk_exp_ref(&exp->common);      /* the names are read from it after suspending */
    int ret = reply_contexts(c, option, &exp->offer, chosen);

    blk_exp_unref(&exp->common);
    return ret < 0 ? ret : reply(c, option, NBD_REP_ACK, NULL, 0);
}

static int coroutine_fn opt_export_name(NbdConnection *c, const uint8_t *data, uint32_t len)
{
    g_autofree char *name = g_strndup((const char *)data, len);
    NbdExport *exp = nbd_exports_find(name);
    uint8_t answer[10 + 124] = { 0 };
    uint64_t be64;
    uint16_t be16;

    if (!exp) {
        return -EINVAL;         /* this old option has no error reply */
    }
    connection_set_export(c, exp);
    be64 = htobe64(blk_getlength_cached(exp->common.blk));
    be16 = htobe16(nbd_export_flags(exp) | (c->structured ? NBD_FLAG_SEND_DF : 0));
    memcpy(answer, &be64, 8);
    memcpy(answer + 8, &be16, 2);
    return nbd_co_write(c, answer, c->no_zeroes ? 10 : sizeof(answer));
}

static int coroutine_fn opt_starttls(NbdConnection *c)
{
    if (!nbd_server_wants_tls()) {
        return reply_error(c, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "TLS not configured");
    }
    if (c->tls) {
        return reply_error(c, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, "TLS already enabled");
    }
    int ret = reply(c, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);

    return ret < 0 ? ret : nbd_co_start_tls(c);
}

static int coroutine_fn handle_option(NbdConnection *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    Cursor cur = { data, len };
    bool bare = option == NBD_OPT_LIST || option == NBD_OPT_STRUCTURED_REPLY || option == NBD_OPT_STARTTLS;

    if (bare && len) {
        return reply_error(c, option, NBD_REP_ERR_INVALID, "option with unexpected data");
    }
    if (nbd_server_wants_tls() && !c->tls && option != NBD_OPT_STARTTLS) {
        if (!c->told_tls) {
            error_report("nbd: a client is refused option 0x%x in plain text", option);
            c->told_tls = true;
        }
        return reply_error(c, option, NBD_REP_ERR_TLS_REQD, "Option 0x%x not permitted before TLS", option);
    }
    switch (option) {
    case NBD_OPT_LIST:
        return opt_list(c);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return opt_info(c, option, cur);
    case NBD_OPT_STRUCTURED_REPLY:
        if (c->structured) {
            return reply_error(c, option, NBD_REP_ERR_INVALID, "structured reply already negotiated");
        }
        c->structured = true;
        return reply(c, option, NBD_REP_ACK, NULL, 0);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return opt_meta_context(c, option, cur);
    case NBD_OPT_STARTTLS:
        return opt_starttls(c);
    default:
        return reply_error(c, option, NBD_REP_ERR_UNSUP, "Unsupported option %u", option);
    }
}

int coroutine_fn nbd_co_negotiate(NbdConnection *c)
{
    struct __attribute__((packed)) { uint64_t magic, opts; uint16_t flags; } hello = {
        htobe64(NBD_INIT_MAGIC), htobe64(NBD_OPTS_MAGIC), htobe16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
    };
    struct __attribute__((packed)) { uint64_t magic; uint32_t option, length; } head;
    uint32_t flags;
    int ret = nbd_co_write(c, &hello, sizeof(hello));

    if (ret < 0 || (ret = nbd_co_read(c, &flags, 4)) < 0) {
        return ret;
    }
    flags = be32toh(flags);
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        return -EINVAL;
    }
    c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    for (int i = 0; i < OPTIONS_MAX; i++) {
        ret = nbd_co_read(c, &head, sizeof(head));
        if (ret < 0) {
            return ret;
        }
        uint32_t option = be32toh(head.option), len = be32toh(head.length);

        if (be64toh(head.magic) != NBD_OPTS_MAGIC || len > NBD_MAX_BUFFER) {
            return -EINVAL;
        }
        if (len > 16 * NBD_MAX_STRING || (option == NBD_OPT_EXPORT_NAME && len > NBD_MAX_STRING)) {
            if (option == NBD_OPT_EXPORT_NAME || (ret = nbd_co_skip(c, len)) < 0 ||
                (ret = reply_error(c, option, NBD_REP_ERR_TOO_BIG, "request too large")) < 0) {
                return -EINVAL;
            }
            continue;
        }
        g_autofree uint8_t *data = g_malloc(len + 1);

        ret = nbd_co_read(c, data, len);
        if (ret < 0) {
            return ret;
        }
        if (option == NBD_OPT_ABORT) {
            reply(c, option, NBD_REP_ACK, NULL, 0);
            return 0;
        }
        if (option == NBD_OPT_EXPORT_NAME) {
            if (nbd_server_wants_tls() && !c->tls) {
                error_report("nbd: a client is refused: it asks for an export in plain text");
                return -EACCES;
            }
            ret = opt_export_name(c, data, len);
            return ret < 0 ? ret : 1;
        }
        if (!(flags & NBD_FLAG_FIXED_NEWSTYLE)) {
            return -EINVAL;     /* such a client knows nothing but EXPORT_NAME */
        }
        ret = handle_option(c, option, data, len);
        if (ret < 0) {
            return ret;
        }
        if (c->exp) {
            return 1;
        }
    }
    return -EINVAL;
}
