/* SPDX-License-Identifier: MIT */
/* lazy_libraries.c: zlib, libzstd, libdeflate and libgcrypt are loaded by their first use.
 *
 * Most runs of most programs compress and encrypt nothing, and finding, mapping and relocating these
 * libraries takes a third of a short program's time. So the programs are not linked with them: the
 * functions below bear the names of theirs, load the library that has them, and pass on to it. As if it
 * were linked, a library that is not there ends the program; only later.
 *
 * Another function of theirs is missing when the programs are linked: add it here. Any thread.
 */
#define ZSTDLIB_VISIBLE         /* not to be found by other libraries in our place */
#include "base/osdep.h"
#include <dlfcn.h>
#include <gcrypt.h>
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

typedef struct LazyLibrary {
    const char *file_name;      /* the version of its interface we are built for */
    void *handle;               /* atomic; loading twice gives the same */
} LazyLibrary;

static LazyLibrary lib_z = { "libz.so.1" }, lib_zstd = { "libzstd.so.1" }, lib_deflate = { "libdeflate.so.0" },
                   lib_gcrypt = { "libgcrypt.so.20" };

static void *lazy_find(LazyLibrary *l, const char *name)
{
    void *handle = __atomic_load_n(&l->handle, __ATOMIC_ACQUIRE), *address;

    if (!handle) {
        handle = dlopen(l->file_name, RTLD_NOW | RTLD_LOCAL);
        __atomic_store_n(&l->handle, handle, __ATOMIC_RELEASE);
    }
    address = handle ? dlsym(handle, name) : NULL;
    if (!address) {
        fprintf(stderr, "liveblk: %s: %s\n", l->file_name, dlerror());
        abort();
    }
    return address;
}

/* A function @name(@params) of @library, called with @args. */
#define LAZY(library, type, name, params, args)                                 \
    type name params                                                            \
    {                                                                           \
        static __typeof__(&name) function;                                      \
        __typeof__(&name) f = __atomic_load_n(&function, __ATOMIC_RELAXED);     \
                                                                                \
        if (unlikely(!f)) {                                                     \
            f = (__typeof__(&name))lazy_find(&library, #name);                  \
            __atomic_store_n(&function, f, __ATOMIC_RELAXED);                   \
        }                                                                       \
        return f args;                                                          \
    }

/* What gives back nothing: `return` of it is an extension that compilers warn of. */
#define LAZY_VOID(library, name, params, args)                                  \
    void name params                                                            \
    {                                                                           \
        ((__typeof__(&name))lazy_find(&library, #name)) args;                   \
    }

LAZY(lib_z, int, inflateInit2_, (z_streamp z, int bits, const char *version, int bytes), (z, bits, version, bytes))
LAZY(lib_z, int, inflate, (z_streamp z, int flush), (z, flush))
LAZY(lib_z, int, inflateEnd, (z_streamp z), (z))

LAZY(lib_deflate, struct libdeflate_compressor *, libdeflate_alloc_compressor, (int level), (level))
LAZY(lib_deflate, size_t, libdeflate_deflate_compress, (struct libdeflate_compressor *c, const void *in, size_t in_bytes,
     void *out, size_t out_bytes), (c, in, in_bytes, out, out_bytes))
LAZY_VOID(lib_deflate, libdeflate_free_compressor, (struct libdeflate_compressor *c), (c))
LAZY(lib_deflate, struct libdeflate_decompressor *, libdeflate_alloc_decompressor, (void), ())
LAZY(lib_deflate, enum libdeflate_result, libdeflate_deflate_decompress_ex, (struct libdeflate_decompressor *d,
     const void *in, size_t in_bytes, void *out, size_t out_bytes, size_t *in_used, size_t *out_used),
     (d, in, in_bytes, out, out_bytes, in_used, out_used))
LAZY_VOID(lib_deflate, libdeflate_free_decompressor, (struct libdeflate_decompressor *d), (d))

LAZY(lib_zstd, unsigned, ZSTD_isError, (size_t code), (code))
LAZY(lib_zstd, ZSTD_CCtx *, ZSTD_createCCtx, (void), ())
LAZY(lib_zstd, size_t, ZSTD_freeCCtx, (ZSTD_CCtx *c), (c))
LAZY(lib_zstd, size_t, ZSTD_compressCCtx, (ZSTD_CCtx *c, void *out, size_t out_bytes, const void *in, size_t in_bytes,
     int level), (c, out, out_bytes, in, in_bytes, level))
LAZY(lib_zstd, ZSTD_DCtx *, ZSTD_createDCtx, (void), ())
LAZY(lib_zstd, size_t, ZSTD_freeDCtx, (ZSTD_DCtx *d), (d))
LAZY(lib_zstd, size_t, ZSTD_DCtx_reset, (ZSTD_DCtx *d, ZSTD_ResetDirective what), (d, what))
LAZY(lib_zstd, size_t, ZSTD_DCtx_setParameter, (ZSTD_DCtx *d, ZSTD_dParameter which, int value), (d, which, value))
LAZY(lib_zstd, size_t, ZSTD_findFrameCompressedSize, (const void *in, size_t in_bytes), (in, in_bytes))
LAZY(lib_zstd, size_t, ZSTD_decompressDCtx, (ZSTD_DCtx *d, void *out, size_t out_bytes, const void *in, size_t in_bytes),
     (d, out, out_bytes, in, in_bytes))
LAZY(lib_zstd, size_t, ZSTD_decompressStream, (ZSTD_DCtx *d, ZSTD_outBuffer *out, ZSTD_inBuffer *in), (d, out, in))

LAZY(lib_gcrypt, const char *, gcry_check_version, (const char *least), (least))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_open, (gcry_cipher_hd_t *h, int algo, int mode, unsigned flags),
     (h, algo, mode, flags))
LAZY_VOID(lib_gcrypt, gcry_cipher_close, (gcry_cipher_hd_t h), (h))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_setkey, (gcry_cipher_hd_t h, const void *key, size_t bytes), (h, key, bytes))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_setiv, (gcry_cipher_hd_t h, const void *iv, size_t bytes), (h, iv, bytes))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_setctr, (gcry_cipher_hd_t h, const void *ctr, size_t bytes), (h, ctr, bytes))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_encrypt, (gcry_cipher_hd_t h, void *out, size_t out_bytes, const void *in,
     size_t in_bytes), (h, out, out_bytes, in, in_bytes))
LAZY(lib_gcrypt, gcry_error_t, gcry_cipher_decrypt, (gcry_cipher_hd_t h, void *out, size_t out_bytes, const void *in,
     size_t in_bytes), (h, out, out_bytes, in, in_bytes))
LAZY_VOID(lib_gcrypt, gcry_md_hash_buffer, (int algo, void *out, const void *in, size_t in_bytes), (algo, out, in, in_bytes))
LAZY(lib_gcrypt, gcry_error_t, gcry_kdf_derive, (const void *secret, size_t secret_bytes, int algo, int sub,
     const void *salt, size_t salt_bytes, unsigned long iterations, size_t out_bytes, void *out),
     (secret, secret_bytes, algo, sub, salt, salt_bytes, iterations, out_bytes, out))

/* Commands without arguments only; those of crypto_init(). */
gcry_error_t gcry_control(enum gcry_ctl_cmds command, ...)
{
    g_assert(command == GCRYCTL_INITIALIZATION_FINISHED_P || command == GCRYCTL_DISABLE_SECMEM ||
             command == GCRYCTL_INITIALIZATION_FINISHED);
    return ((__typeof__(&gcry_control))lazy_find(&lib_gcrypt, "gcry_control"))(command, 0);
}
