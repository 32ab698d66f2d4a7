/* SPDX-License-Identifier: MIT */
/* ops_secret.c: passwords of a command line, and encrypted images that are named by their files. */
#include "ops/ops.h"
#include "block/qapi-visit.h"
#include "crypto/secret.h"

#define DEFAULT_ID "secret0"

/* The first secret: the one of a command line that has no other. Set before anything is opened. */
static char *first_id;

int ops_secret_add(const char *text, Error **errp)
{
    g_autoptr(QDict) d = strchr(text, '=') ? qdict_from_keyval(text, NULL, NULL, errp) : qdict_new();
    g_autofree char *id = NULL;
    SecretProperties *p;
    int ret = -EINVAL;

    if (!d) {
        return -EINVAL;
    }
    if (!strchr(text, '=')) {
        qdict_put_str(d, "file", text);
    }
    id = g_strdup(qdict_get_try_str(d, "id") ? qdict_get_try_str(d, "id") : DEFAULT_ID);
    qdict_del(d, "id");
    if (secret_exists(id)) {
        error_setg(errp, "There are two secrets '%s'", id);
        error_append_hint(errp, "Name each but one: --secret id=NAME,file=FILE.\n");
        return -EEXIST;
    }
    if (qdict_haskey(d, "data")) {
        warn_report("a password on a command line can be seen by everybody on this machine; use file=FILE");
    }
    p = qapi_from_json(&qapi_type_SecretProperties, d, true, errp);
    if (p) {
        ret = secret_create(id, p, errp);
        qapi_free_SecretProperties(p);
    }
    if (!ret && !first_id) {
        first_id = g_steal_pointer(&id);
    }
    return ret;
}

void ops_secret_put_new(const char *format, QDict *options)
{
    QDict *encrypt = qdict_get_qdict(options, "encrypt");

    if (first_id && !strcmp(format, "luks") && !qdict_haskey(options, "key-secret")) {
        qdict_put_str(options, "key-secret", first_id);
    } else if (first_id && encrypt && !qdict_haskey(encrypt, "key-secret")) {
        qdict_put_str(encrypt, "key-secret", first_id);
    }
}

/* As the image says of itself; nothing of it is read but the header. */
static void put_key_of(BlockDriverState *bs, QDict *options)
{
    ImageInfoSpecific *info = bs->drv->get_specific_info ? bs->drv->get_specific_info(bs, NULL) : NULL;

    if (info && info->type == IMAGE_INFO_SPECIFIC_KIND_LUKS) {
        qdict_put_str(options, "driver", "luks");
        qdict_put_str(options, "key-secret", first_id);
    } else if (info && info->type == IMAGE_INFO_SPECIFIC_KIND_QCOW2 && info->u.qcow2.data->encrypt) {
        QDict *encrypt = qdict_new();

        qdict_put_str(encrypt, "format", BlockdevQcow2EncryptionFormat_str(info->u.qcow2.data->encrypt->format));
        qdict_put_str(encrypt, "key-secret", first_id);
        qdict_put_str(options, "driver", "qcow2");
        qdict_put_obj(options, "encrypt", encrypt);
    }
    qapi_free(&qapi_type_ImageInfoSpecific, info);
}

void coroutine_fn ops_secret_put(const char *filename, QDict *options)
{
    BlockBackend *blk;
    QDict *look;

    if (!first_id) {
        return;
    }
    look = qdict_clone(options);
    qdict_put_bool(look, "force-share", true);
    qdict_del(look, "node-name");
    /* What is wrong with it is told when it is opened for good. */
    blk = blk_new_open(filename, NULL, look, BDRV_O_NO_IO | BDRV_O_NO_BACKING, NULL);
    if (blk) {
        put_key_of(bdrv_skip_filters(blk_bs(blk)), options);
        blk_unref(blk);
    }
}

void ops_secret_hint(Error **errp)
{
    if (errp && *errp && strstr(error_get_pretty(*errp), "key-secret' is required for cipher")) {
        error_append_hint(errp, "The image is encrypted. Its password has to be in a file: --secret FILE.\n");
    }
}
