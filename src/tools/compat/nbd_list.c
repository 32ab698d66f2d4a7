/* SPDX-License-Identifier: MIT */
/* nbd_list.c: qemu-nbd --list: what a server exports, by libnbd. */
#include "compat/nbd.h"
#include "drivers/protocol/nbd/library.h"
#include "drivers/protocol/nbd/nbd.h"
#include <glib-unix.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HANDSHAKE_MS    10000   /* the most between two steps of the server */

typedef struct Found {
    char *name, *description;
} Found;

static int add_export(void *opaque, const char *name, const char *description)
{
    Found f = { g_strdup(name), g_strdup(description) };

    g_array_append_val((GArray *)opaque, f);
    return 0;
}

static int add_context(void *opaque, const char *name)
{
    g_ptr_array_add(opaque, g_strdup(name));
    return 0;
}

static void clear_found(gpointer p)
{
    Found *f = p;

    g_free(f->name);
    g_free(f->description);
}

/* The transmission flags of the protocol, from what libnbd tells of them. */
static unsigned flags_of(struct nbd_handle *h)
{
    const struct { unsigned bit; int is; } all[] = {
        { 1, libnbd.is_read_only(h) }, { 2, libnbd.can_flush(h) }, { 3, libnbd.can_fua(h) },
        { 4, libnbd.is_rotational(h) }, { 5, libnbd.can_trim(h) }, { 6, libnbd.can_zero(h) }, { 7, libnbd.can_df(h) },
        { 8, libnbd.can_multi_conn(h) }, { 10, libnbd.can_cache(h) }, { 11, libnbd.can_fast_zero(h) },
    };
    unsigned flags = 1;         /* there are flags */

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        flags |= (all[i].is == 1) << all[i].bit;
    }
    return flags;
}

static void print_flags(unsigned flags)
{
    static const char *const names[] = { NULL, "readonly", "flush", "fua", "rotational", "trim", "zeroes", "df", "multi",
                                         "resize", "cache", "fast-zero" };

    printf("  flags: 0x%x (", flags);
    for (size_t i = 1; i < G_N_ELEMENTS(names); i++) {
        if (flags & (1u << i)) {
            printf(" %s", names[i]);
        }
    }
    printf(" )\n");
}

static void print_contexts(struct nbd_handle *h)
{
    g_autoptr(GPtrArray) contexts = g_ptr_array_new_with_free_func(g_free);

    if (libnbd.opt_list_meta_context(h, (nbd_context_callback) { .callback = add_context, .user_data = contexts }) < 0 ||
        !contexts->len) {
        return;
    }
    printf("  available meta contexts: %u\n", contexts->len);
    for (guint i = 0; i < contexts->len; i++) {
        printf("   %s\n", (char *)g_ptr_array_index(contexts, i));
    }
}

static void print_export(struct nbd_handle *h, const Found *f)
{
    static const struct { const char *name; int which; } sizes[] = {
        { "min block", LIBNBD_SIZE_MINIMUM }, { "opt block", LIBNBD_SIZE_PREFERRED }, { "max block", LIBNBD_SIZE_MAXIMUM },
    };

    printf(" export: '%s'\n", f->name);
    if (f->description && *f->description) {
        printf("  description: %s\n", f->description);
    }
    if (libnbd.set_export_name(h, f->name) < 0 || libnbd.opt_info(h) < 0) {
        return;
    }
    printf("  size:  %" PRId64 "\n", libnbd.get_size(h));
    print_flags(flags_of(h));
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        int64_t n = libnbd.get_block_size(h, sizes[i].which);

        if (n > 0) {
            printf("  %s: %" PRId64 "\n", sizes[i].name, n);
        }
    }
    print_contexts(h);
}

static int list_all(struct nbd_handle *h, const char *where)
{
    GArray *found = g_array_new(false, false, sizeof(Found));
    int ret = EXIT_FAILURE;

    g_array_set_clear_func(found, clear_found);
    if (libnbd.opt_list(h, (nbd_list_callback) { .callback = add_export, .user_data = found }) < 0) {
        compat_fail("Failed to list the exports of '%s': %s", where, libnbd.get_error());
    } else {
        printf("exports available: %u\n", found->len);
        for (guint i = 0; i < found->len; i++) {
            print_export(h, &g_array_index(found, Found, i));
        }
        libnbd.opt_abort(h);
        ret = EXIT_SUCCESS;
    }
    g_array_free(found, true);
    return ret;
}

/* ---- with TLS ---- */

/* A connected socket that does not block, or -errno. */
static int connect_to(const NbdWhere *where)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct addrinfo local = { .ai_family = AF_UNIX, .ai_socktype = SOCK_STREAM, .ai_addr = (struct sockaddr *)&un,
                              .ai_addrlen = sizeof(un) };
    int fd = -1, err = EHOSTUNREACH;

    if (where->socket && strlen(where->socket) > sizeof(un.sun_path)) {
        return -ENAMETOOLONG;
    }
    if (where->socket) {
        memcpy(un.sun_path, where->socket, strlen(where->socket));
    } else if (getaddrinfo(where->host, where->port, &hints, &list)) {
        return -err;
    }
    for (const struct addrinfo *a = where->socket ? &local : list; a; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            break;
        }
        err = errno;
        if (fd >= 0) {
            close(fd);
            fd = -1;
        }
    }
    if (list) {
        freeaddrinfo(list);
    }
    if (fd >= 0) {
        g_unix_set_fd_nonblocking(fd, true, NULL);
    }
    return fd >= 0 ? fd : -err;
}

/* The socket on which libnbd talks, or -errno. */
static int connect_with_tls(const NbdWhere *where, const char *name, TlsCreds *creds, const char *hostname, NbdTunnel **tp,
                            Error **errp)
{
    int fd = connect_to(where), ret;
    bool for_write = false;

    if (fd < 0) {
        error_setg_errno(errp, -fd, "Failed to connect to '%s'", name);
        return fd;
    }
    *tp = nbd_tunnel_new(fd, creds, hostname ? hostname : where->socket ? NULL : where->host, errp);
    if (!*tp) {
        return -EINVAL;
    }
    while ((ret = nbd_tunnel_step(*tp, &for_write, errp)) == -EAGAIN) {
        struct pollfd p = { .fd = fd, .events = for_write ? POLLOUT : POLLIN };

        if (poll(&p, 1, HANDSHAKE_MS) == 0) {
            error_setg_errno(errp, ETIMEDOUT, "Failed to negotiate TLS with the NBD server at '%s'", name);
            return -ETIMEDOUT;
        }
    }
    return ret < 0 ? ret : nbd_tunnel_start(*tp, errp);
}

static int list_with_tls(struct nbd_handle *h, const NbdWhere *where, const char *name, const char *tls_creds,
                         const char *tls_hostname)
{
    TlsCreds *creds;
    NbdTunnel *tunnel = NULL;
    Error *err = NULL;
    int fd = -1, ret = EXIT_FAILURE;

    creds = tls_creds_find(tls_creds, false, &err);
    if (!creds) {
        error_prepend(&err, "Failed to get TLS creds: ");
    } else {
        fd = connect_with_tls(where, name, creds, tls_hostname, &tunnel, &err);
    }
    if (fd >= 0 && libnbd.connect_socket(h, fd) < 0) {
        compat_fail("Failed to connect to '%s': %s", name, libnbd.get_error());
    } else if (fd >= 0) {
        ret = list_all(h, name);
    }
    libnbd.close(h);
    const char *why = nbd_tunnel_free(tunnel);

    if (why && ret != EXIT_SUCCESS) {
        compat_fail("The NBD server has ended the TLS session: %s", why);
    }
    if (err) {
        error_report_err(err);
    }
    return ret;
}

int nbd_list(const NbdWhere *where, const char *tls_creds, const char *tls_hostname)
{
    g_autofree char *name = where->socket ? g_strdup(where->socket) : g_strdup_printf("%s:%s", where->host, where->port);
    Error *err = NULL;
    int ret = EXIT_FAILURE;

    if (nbd_library_load(&err) < 0) {
        error_report_err(err);
        return ret;
    }
    struct nbd_handle *h = libnbd.create();

    if (!h || libnbd.set_opt_mode(h, true) < 0 || libnbd.set_full_info(h, true) < 0) {
        compat_fail("libnbd: %s", libnbd.get_error());
    } else if (tls_creds) {
        return list_with_tls(h, where, name, tls_creds, tls_hostname);
    } else if ((where->socket ? libnbd.connect_unix(h, where->socket) : libnbd.connect_tcp(h, where->host, where->port)) < 0) {
        int code = libnbd.get_errno();

        compat_fail("Failed to connect to '%s': %s", name, code ? strerror(code) : libnbd.get_error());
    } else {
        ret = list_all(h, name);
    }
    libnbd.close(h);
    return ret;
}
