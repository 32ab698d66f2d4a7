/* SPDX-License-Identifier: MIT */
/* nbd_protocol.h: the numbers of the NBD protocol (the public document "The NBD protocol",
 * NetworkBlockDevice/nbd doc/proto.md). All fields on the wire are big endian. */
#ifndef LIVEBLK_EXPORT_NBD_PROTOCOL_H
#define LIVEBLK_EXPORT_NBD_PROTOCOL_H

#include <endian.h>
#include <stdint.h>

#define NBD_INIT_MAGIC      0x4e42444d41474943ULL   /* "NBDMAGIC" */
#define NBD_OPTS_MAGIC      0x49484156454f5054ULL   /* "IHAVEOPT" */
#define NBD_REP_MAGIC       0x0003e889045565a9ULL
#define NBD_REQUEST_MAGIC   0x25609513u
#define NBD_SIMPLE_MAGIC    0x67446698u
#define NBD_CHUNK_MAGIC     0x668e33efu

enum { NBD_FLAG_FIXED_NEWSTYLE = 1, NBD_FLAG_NO_ZEROES = 2 };

enum {
    NBD_OPT_EXPORT_NAME = 1, NBD_OPT_ABORT, NBD_OPT_LIST, NBD_OPT_STARTTLS = 5, NBD_OPT_INFO, NBD_OPT_GO,
    NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT,
};
enum {
    NBD_REP_ACK = 1, NBD_REP_SERVER, NBD_REP_INFO, NBD_REP_META_CONTEXT,
    NBD_REP_ERR_UNSUP = (int)0x80000001, NBD_REP_ERR_POLICY, NBD_REP_ERR_INVALID,
    NBD_REP_ERR_TLS_REQD = (int)0x80000005,
    NBD_REP_ERR_UNKNOWN = (int)0x80000006, NBD_REP_ERR_TOO_BIG = (int)0x80000009,
};
enum { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE };

/* Transmission flags */
enum {
    NBD_FLAG_HAS_FLAGS = 1 << 0, NBD_FLAG_READ_ONLY = 1 << 1, NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3, NBD_FLAG_SEND_TRIM = 1 << 5, NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7, NBD_FLAG_CAN_MULTI_CONN = 1 << 8, NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum {
    NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_DISC, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE,
    NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS,
};
enum {
    NBD_CMD_FLAG_FUA = 1, NBD_CMD_FLAG_NO_HOLE = 2, NBD_CMD_FLAG_DF = 4, NBD_CMD_FLAG_REQ_ONE = 8,
    NBD_CMD_FLAG_FAST_ZERO = 16,
};
enum {
    NBD_CHUNK_NONE = 0, NBD_CHUNK_OFFSET_DATA = 1, NBD_CHUNK_OFFSET_HOLE = 2, NBD_CHUNK_BLOCK_STATUS = 5,
    NBD_CHUNK_ERROR = 32769,
};
enum { NBD_CHUNK_FLAG_DONE = 1 };
enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2 };
enum { NBD_STATE_DIRTY = 1 };

#define NBD_MAX_BUFFER      (32 << 20)
#define NBD_MAX_STRING      4096

typedef struct __attribute__((packed)) NbdRequestHeader {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t length;
} NbdRequestHeader;

typedef struct __attribute__((packed)) NbdSimpleReply {
    uint32_t magic, error;
    uint64_t cookie;
} NbdSimpleReply;

typedef struct __attribute__((packed)) NbdChunk {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie;
    uint32_t length;
} NbdChunk;

typedef struct __attribute__((packed)) NbdOptionReply {
    uint64_t magic;
    uint32_t option, type, length;
} NbdOptionReply;

#endif
