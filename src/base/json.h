/* SPDX-License-Identifier: MIT */
/* json.h: read JSON from a stream that may be hostile.
 *
 * Bytes are fed as they come; each complete value, or fault, is handed to a callback.
 * After a fault the stream is picked up again where the field's programs do: at the next
 * structural character or line. One fault in the words of a message gives one report.
 *
 * Use:      json_parser_init(&p, cb, opaque); json_parser_feed(&p, data, n) ...;
 *           json_parser_flush(&p) at the end of input; json_parser_destroy(&p).
 * Runs on:  any thread, one at a time.      Suspends: never.
 * Limits:   1024 levels, 2 Mi tokens, 64 MiB of tokens in a message.
 * Dialect:  strings may stand in single quotes, too.
 */
#ifndef LIVEBLK_BASE_JSON_H
#define LIVEBLK_BASE_JSON_H

#include "block/qdict.h"

#define JSON_DEPTH_MAX      1024
#define JSON_TOKENS_MAX     (2u << 20)
#define JSON_BYTES_MAX      (64u << 20)

/* @value (may be NULL for null) and @err NULL, or @err. The callback owns both. It may not
 * destroy the parser. */
typedef void JsonEmit(void *opaque, QDict *value, Error *err);

typedef struct JsonParser {
    JsonEmit *emit;
    void *opaque;
    int state;              /* of the lexer */
    int braces, brackets;   /* open ones */
    size_t token_start;     /* in text */
    GString *text;          /* the tokens of the message so far */
    GArray *tokens;         /* JsonToken */
} JsonParser;

void json_parser_init(JsonParser *p, JsonEmit *emit, void *opaque);
void json_parser_feed(JsonParser *p, const char *data, size_t n);
void json_parser_flush(JsonParser *p);
void json_parser_destroy(JsonParser *p);

#endif
