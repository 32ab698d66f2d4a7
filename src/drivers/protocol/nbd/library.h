/* SPDX-License-Identifier: MIT */
/* library.h: libnbd as a table of its functions: libnbd.close(h) is nbd_close(h).
 *
 * It is not linked but loaded by the first node that speaks NBD: with the libraries it brings (TLS,
 * XML, character sets) it would double the memory and the start of every process of the engine,
 * most of which never use it.
 */
#ifndef LIVEBLK_DRIVERS_NBD_LIBRARY_H
#define LIVEBLK_DRIVERS_NBD_LIBRARY_H

#include <libnbd.h>
#include "base/osdep.h"
#include "block/error.h"

#define NBD_LIBRARY_FUNCTIONS(X) \
    X(add_meta_context) X(aio_block_status) X(aio_connect_socket) X(aio_disconnect) X(aio_flush) \
    X(aio_get_direction) X(aio_get_fd) X(aio_is_closed) X(aio_is_connecting) X(aio_is_dead) \
    X(aio_is_ready) X(aio_notify_read) X(aio_notify_write) X(aio_pread) X(aio_pwrite) X(aio_trim) \
    X(aio_zero) X(can_fast_zero) X(can_flush) X(can_fua) X(can_meta_context) X(can_trim) X(can_zero) \
    X(close) X(create) X(get_block_size) X(get_errno) X(get_error) X(get_size) X(is_read_only) \
    X(set_export_name) \
    X(can_cache) X(can_df) X(can_multi_conn) X(connect_socket) X(connect_tcp) X(connect_unix) X(get_export_description) X(is_rotational) \
    X(opt_abort) X(opt_info) X(opt_list) X(opt_list_meta_context) X(set_full_info) X(set_opt_mode)

typedef struct NbdLibrary {
#define NBD_LIBRARY_FIELD(name) __typeof__(nbd_##name) *name;
    NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_FIELD)
#undef NBD_LIBRARY_FIELD
} NbdLibrary;

/* All NULL until nbd_library_load() was successful; constant from then on. */
extern NbdLibrary libnbd;

/* Load it, if it is not. Main thread. 0 or -errno. */
int nbd_library_load(Error **errp);

#endif
