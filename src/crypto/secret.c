/* SPDX-License-Identifier: MIT */
/* secret.c: see secret.h. A secret may be given in the clear, or encrypted with another one (AES-256-CBC, padded as
 * PKCS #7 has it), so that it can be on a command line.
 */
#include "crypto/secret.h"
#include "crypto/cipher.h"
#include <gcrypt.h>

#define SECRET_MAX (1 << 20)

typedef struct Secret {
    uint8_t *data;
    size_t bytes;
} Secret;

static GHashTable *secrets;     /* id -> Secret */

static void secret_drop(gpointer p)
{
    Secret *s = p;

    secret_free(s->data, s->bytes);
    g_free(s);
}

void secret_free(uint8_t *secret, size_t bytes)
{
    if (secret) {
        crypto_wipe(secret, bytes);
        g_free(secret);
    }
}

static uint8_t *keep(const void *data, size_t bytes)
{
    uint8_t *copy = g_malloc(bytes + 1);

    memcpy(copy, data, bytes);
    copy[bytes] = 0;
    return copy;
}

/* What it was made from, as it was given. */
static uint8_t *load(const SecretProperties *p, size_t *bytes, Error **errp)
{
    g_autofree char *text = NULL;
    GError *gerr = NULL;

    if (p->file && p->data) {
        error_setg(errp, "'file' and 'data' are mutually exclusive");
        return NULL;
    }
    if (!p->file && !p->data) {
        error_setg(errp, "Either 'file' or 'data' must be provided");
        return NULL;
    }
    if (p->data) {
        *bytes = strlen(p->data);
        return keep(p->data, *bytes);
    }
    if (!g_file_get_contents(p->file, &text, bytes, &gerr)) {
        error_setg(errp, "Unable to read %s: %s", p->file, gerr->message);
        g_error_free(gerr);
        return NULL;
    }
    if (*bytes > SECRET_MAX) {
        crypto_wipe(text, *bytes);
        error_setg(errp, "%s is too large for a secret", p->file);
        return NULL;
    }
    uint8_t *data = keep(text, *bytes);

    crypto_wipe(text, *bytes);
    return data;
}

static uint8_t *decode_base64(const char *text, size_t *bytes, const char *what, Error **errp)
{
    gsize n;
    guchar *data;
    size_t digits = 0;

    for (const char *c = text; *c; c++) {
        digits += !g_ascii_isspace(*c);
        if (!g_ascii_isalnum(*c) && !strchr("+/=", *c) && !g_ascii_isspace(*c)) {
            error_setg(errp, "Base64 data contains invalid characters");
            return NULL;
        }
    }
    if (digits % 4) {
        error_setg(errp, "Base64 data is cut off: its length is not a multiple of four");
        return NULL;
    }
    data = g_base64_decode(text, &n);

    uint8_t *copy = keep(data, n);

    crypto_wipe(data, n);
    g_free(data);
    *bytes = n;
    return copy;
}

/* In place: *bytes becomes less by the padding. */
static int decrypt(const SecretProperties *p, uint8_t *data, size_t *bytes, Error **errp)
{
    size_t key_bytes, iv_bytes;
    uint8_t *key = secret_get(p->keyid, &key_bytes, errp), *iv;
    gcry_cipher_hd_t h = NULL;
    int ret = -EINVAL;

    if (!key) {
        return -EINVAL;
    }
    if (!p->iv) {
        error_setg(errp, "IV is required to decrypt secret");
        secret_free(key, key_bytes);
        return -EINVAL;
    }
    iv = decode_base64(p->iv, &iv_bytes, "iv", errp);
    crypto_init();
    if (!iv) {
    } else if (iv_bytes != 16) {
        error_setg(errp, "IV should be 16 bytes in length not %zu", iv_bytes);
    } else if (key_bytes != 32) {
        error_setg(errp, "Key should be 32 bytes in length not %zu", key_bytes);
    } else if (!*bytes || *bytes % 16) {
        error_setg(errp, "Secret's length %zu is not a multiple of the cipher's block", *bytes);
    } else if (gcry_cipher_open(&h, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_CBC, 0) || gcry_cipher_setkey(h, key, 32) ||
               gcry_cipher_setiv(h, iv, 16) || gcry_cipher_decrypt(h, data, *bytes, NULL, 0)) {
        error_setg(errp, "Could not decrypt the secret");
    } else if (data[*bytes - 1] > 16 || data[*bytes - 1] > *bytes) {
        error_setg(errp, "Incorrect number of padding bytes (%d) found on decrypted data", data[*bytes - 1]);
    } else {
        *bytes -= data[*bytes - 1];
        data[*bytes] = 0;
        ret = 0;
    }
    gcry_cipher_close(h);
    secret_free(iv, iv_bytes);
    secret_free(key, key_bytes);
    return ret;
}

int secret_create(const char *id, const SecretProperties *p, Error **errp)
{
    size_t bytes = 0, decoded;
    uint8_t *data = load(p, &bytes, errp);
    bool base64 = p->has_format && p->format == Q_CRYPTO_SECRET_FORMAT_BASE64;

    if (!data) {
        return -EINVAL;
    }
    if (p->keyid || base64) {
        uint8_t *raw = data;

        /* What is encrypted comes as base64, or as it is. */
        if (base64) {
            raw = decode_base64((char *)data, &decoded, id, errp);
            secret_free(data, bytes);
            if (!raw) {
                return -EINVAL;
            }
            bytes = decoded;
        }
        data = raw;
    }
    size_t whole = bytes;

    if (p->keyid && decrypt(p, data, &bytes, errp) < 0) {
        secret_free(data, whole);
        return -EINVAL;
    }
    Secret *s = g_new(Secret, 1);

    *s = (Secret) { data, bytes };
    if (!secrets) {
        secrets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, secret_drop);
    }
    g_hash_table_insert(secrets, g_strdup(id), s);
    return 0;
}

bool secret_exists(const char *id)
{
    return secrets && g_hash_table_contains(secrets, id);
}

void secret_destroy(const char *id)
{
    g_hash_table_remove(secrets, id);
    if (!g_hash_table_size(secrets)) {
        g_clear_pointer(&secrets, g_hash_table_unref);
    }
}

uint8_t *secret_get(const char *id, size_t *bytes, Error **errp)
{
    Secret *s = secrets ? g_hash_table_lookup(secrets, id) : NULL;

    if (!s) {
        error_setg(errp, "No secret with id '%s'", id);
        return NULL;
    }
    *bytes = s->bytes;
    return keep(s->data, s->bytes);
}

uint8_t *secret_get_text(const char *id, size_t *bytes, Error **errp)
{
    uint8_t *data = secret_get(id, bytes, errp);

    if (data && !g_utf8_validate((char *)data, *bytes, NULL)) {
        error_setg(errp, "Data from secret %s is not valid UTF-8", id);
        secret_free(data, *bytes);
        return NULL;
    }
    return data;
}
