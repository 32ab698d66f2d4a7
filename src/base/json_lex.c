/* SPDX-License-Identifier: MIT */
/* json_lex.c: bytes to tokens, tokens to messages; what a fault costs.
 *
 *   START     between tokens.
 *   RECOVER   after a fault: all is skipped up to a structural character, a control character
 *             other than tab, or a byte that no UTF-8 text has (0xFE, 0xFF).
 *   SIGN ... EXPONENT_DIGITS  in a number; KEYWORD in a word; STRING in a string, whose opening
 *             quote is the first byte of the token; ESCAPE after a backslash.
 *
 * A message ends when as many braces and brackets were closed as opened, or when one too many
 * was closed. A fault of the lexer, or a limit, throws away the message so far.
 */
#include "base/osdep.h"
#include "base/json_private.h"

enum {
    START, RECOVER, SIGN, ZERO, DIGITS, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, EXPONENT_DIGITS, KEYWORD, STRING,
    ESCAPE,
};

void json_parser_init(JsonParser *p, JsonEmit *emit, void *opaque)
{
    *p = (JsonParser) {
        .emit = emit, .opaque = opaque, .state = START,
        .text = g_string_new(NULL), .tokens = g_array_new(false, false, sizeof(JsonToken)),
    };
}

void json_parser_destroy(JsonParser *p)
{
    g_string_free(p->text, TRUE);
    g_array_unref(p->tokens);
}

/* Forget the message, and the memory of a large one. */
static void message_reset(JsonParser *p)
{
    p->braces = p->brackets = 0;
    p->token_start = 0;
    if (p->text->allocated_len > 64 * KiB) {
        g_string_free(p->text, TRUE);
        p->text = g_string_new(NULL);
        g_array_unref(p->tokens);
        p->tokens = g_array_new(false, false, sizeof(JsonToken));
    }
    g_string_truncate(p->text, 0);
    g_array_set_size(p->tokens, 0);
}

static void message_fail(JsonParser *p, Error *err)
{
    message_reset(p);
    p->emit(p->opaque, NULL, err);
}

static void message_end(JsonParser *p)
{
    Error *err = NULL;
    QDict *value = json_parse_tokens((JsonToken *)p->tokens->data, p->tokens->len, p->text->str, &err);

    message_reset(p);
    p->emit(p->opaque, value, err);
}

/* The bytes since token_start are a token. */
static void token_end(JsonParser *p, JsonTokenType type)
{
    JsonToken t = { type, p->token_start, p->text->len - p->token_start };
    const char *limit = NULL;

    p->braces += (type == JSON_TOKEN_LCURLY) - (type == JSON_TOKEN_RCURLY);
    p->brackets += (type == JSON_TOKEN_LSQUARE) - (type == JSON_TOKEN_RSQUARE);
    p->state = START;
    if (p->text->len > JSON_BYTES_MAX) {
        limit = "size";
    } else if (p->tokens->len >= JSON_TOKENS_MAX) {
        limit = "count";
    } else if (p->braces + p->brackets > JSON_DEPTH_MAX) {
        limit = "nesting";
    }
    if (limit) {
        Error *err = NULL;

        error_setg(&err, "JSON %s limit exceeded", !strcmp(limit, "nesting") ? "nesting depth" :
                   !strcmp(limit, "size") ? "token size" : "token count");
        message_fail(p, err);
        return;
    }
    g_array_append_val(p->tokens, t);
    p->token_start = p->text->len;
    if (p->braces < 0 || p->brackets < 0 || (!p->braces && !p->brackets)) {
        message_end(p);
    }
}

static void token_stray(JsonParser *p)
{
    Error *err = NULL;

    error_setg(&err, "JSON parse error, stray '%s'", p->text->str + p->token_start);
    p->state = RECOVER;
    message_fail(p, err);
}

static bool never_in_text(unsigned char c)
{
    return (c < 0x20 && c != '\t') || c >= 0xFE;
}

static int structural(char c)
{
    static const char chars[] = "{}[]:,";
    const char *which = c ? strchr(chars, c) : NULL;

    return which ? (int)(which - chars) : -1;       /* in the order of JsonTokenType */
}

/* The first byte of a token, or between tokens. */
static void lex_start(JsonParser *p, char c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        return;
    }
    g_string_append_c(p->text, c);
    if (structural(c) >= 0) {
        token_end(p, structural(c));
    } else if (c == '"' || c == '\'') {
        p->state = STRING;
    } else if (c == '-') {
        p->state = SIGN;
    } else if (g_ascii_isdigit(c)) {
        p->state = c == '0' ? ZERO : DIGITS;
    } else if (g_ascii_islower(c)) {
        p->state = KEYWORD;
    } else {
        token_stray(p);
    }
}

/* Does @c go on with the number? The next state; START: the number ends before it; -1: fault. */
static int lex_number_step(int state, char c)
{
    bool digit = g_ascii_isdigit(c), exponent = c == 'e' || c == 'E';

    switch (state) {
    case SIGN:            return c == '0' ? ZERO : digit ? DIGITS : -1;
    case ZERO:            return digit ? -1 : c == '.' ? POINT : exponent ? EXPONENT : START;
    case DIGITS:          return digit ? DIGITS : c == '.' ? POINT : exponent ? EXPONENT : START;
    case POINT:           return digit ? FRACTION : -1;
    case FRACTION:        return digit ? FRACTION : exponent ? EXPONENT : START;
    case EXPONENT:        return digit ? EXPONENT_DIGITS : c == '+' || c == '-' ? EXPONENT_SIGN : -1;
    case EXPONENT_SIGN:   return digit ? EXPONENT_DIGITS : -1;
    default:              return digit ? EXPONENT_DIGITS : START;
    }
}

static void lex_number(JsonParser *p, char c)
{
    bool is_float = p->state == FRACTION || p->state == EXPONENT_DIGITS;
    int next = lex_number_step(p->state, c);

    if (next == START) {
        token_end(p, is_float ? JSON_TOKEN_FLOAT : JSON_TOKEN_INTEGER);
        lex_start(p, c);
        return;
    }
    g_string_append_c(p->text, c);
    if (next < 0) {
        token_stray(p);
    } else {
        p->state = next;
    }
}

static void lex_byte(JsonParser *p, char c)
{
    switch (p->state) {
    case START:
        lex_start(p, c);
        break;
    case RECOVER:
        if (structural(c) >= 0 || never_in_text(c)) {
            p->state = START;
            lex_start(p, c);
        }
        break;
    case KEYWORD:
        if (g_ascii_islower(c)) {
            g_string_append_c(p->text, c);
        } else {
            token_end(p, JSON_TOKEN_KEYWORD);
            lex_start(p, c);
        }
        break;
    case STRING: case ESCAPE:
        g_string_append_c(p->text, c);
        if (never_in_text(c) || c == '\t') {
            token_stray(p);
        } else if (p->state == ESCAPE) {
            p->state = STRING;
        } else if (c == '\\') {
            p->state = ESCAPE;
        } else if (c == p->text->str[p->token_start]) {
            token_end(p, JSON_TOKEN_STRING);
        }
        break;
    default:
        lex_number(p, c);
        break;
    }
}

/* Most bytes are inside strings: take what stands there as it is in one go. */
static size_t lex_string_run(JsonParser *p, const char *data, size_t n)
{
    char quote = p->text->str[p->token_start];
    size_t i = 0;

    while (i < n && data[i] != quote && data[i] != '\\' && !never_in_text(data[i]) && data[i] != '\t') {
        i++;
    }
    g_string_append_len(p->text, data, i);
    return i;
}

/* A token that never ends must not grow beyond the limit either. */
static void lex_check_size(JsonParser *p)
{
    if (p->text->len > JSON_BYTES_MAX) {
        Error *err = NULL;

        error_setg(&err, "JSON token size limit exceeded");
        p->state = RECOVER;
        message_fail(p, err);
    }
}

void json_parser_feed(JsonParser *p, const char *data, size_t n)
{
    for (size_t i = 0; i < n; ) {
        if (p->state == STRING) {
            i += lex_string_run(p, data + i, MIN(n - i, 64 * KiB));
            lex_check_size(p);
            if (i == n) {
                break;
            }
        }
        lex_byte(p, data[i++]);
    }
    lex_check_size(p);
}

void json_parser_flush(JsonParser *p)
{
    if (p->state != START && p->state != RECOVER) {
        /* A space ends what can end; what cannot is a fault of its own. */
        if (p->state == STRING || p->state == ESCAPE) {
            token_stray(p);
        } else {
            lex_byte(p, ' ');
        }
    }
    p->state = START;
    if (p->tokens->len) {
        message_end(p);
    }
}
