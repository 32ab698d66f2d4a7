/* SPDX-License-Identifier: MIT */
/* json_private.h: what the lexer hands to the parser. */
#ifndef LIVEBLK_BASE_JSON_PRIVATE_H
#define LIVEBLK_BASE_JSON_PRIVATE_H

#include "base/json.h"

typedef enum JsonTokenType {
    JSON_TOKEN_LCURLY, JSON_TOKEN_RCURLY, JSON_TOKEN_LSQUARE, JSON_TOKEN_RSQUARE, JSON_TOKEN_COLON,
    JSON_TOKEN_COMMA, JSON_TOKEN_INTEGER, JSON_TOKEN_FLOAT, JSON_TOKEN_KEYWORD, JSON_TOKEN_STRING,
} JsonTokenType;

typedef struct JsonToken {
    JsonTokenType type;
    uint32_t offset, length;    /* in the text; strings with their quotes */
} JsonToken;

/* The value the tokens say; NULL and *errp, or NULL alone for null. */
QDict *json_parse_tokens(const JsonToken *tokens, size_t n, const char *text, Error **errp);

#endif
