/* SPDX-License-Identifier: MIT */
/* driver.c: runs a fuzz target without a fuzzer: its corpus, then seeded mutations of it. The same
 * arguments run the same inputs.
 *
 *   fuzz_NAME-replay [-n MUTATIONS] [-s SEED] [-i FOLDER] [-x FOLDER] CORPUS...
 *
 * -i adds the files of a folder, as they are, to the corpus. -x writes the corpus as files for a
 * real fuzzer instead. An input that ends the process, or
 * takes more than 10 s, is first kept as fuzz-input in the folder the program was started in.
 *
 * Corpus: text, one input a line: `text CHARS` with C escapes, `hex DIGITS`, or `base I` for what
 * the target makes itself. To each may follow ` @OFFSET:HEX`, bytes put over it, and ` cut:N`, its
 * length. Spaces in `text` are \040. `#` begins a comment.
 */
#include "tests/fuzz/fuzz.h"
#include "base/prng.h"
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/resource.h>

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
/* gcc says it by a macro, clang by a feature. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) || \
    HAS_FEATURE(thread_sanitizer)
#define HAS_CHECKER
#endif

#define INPUT_SECONDS_MAX 10
#define MEMORY_MAX (256 * MiB)

static char *kept_path;
static const uint8_t *now_data;
static size_t now_size;

/* In a signal handler: only what is allowed there. */
static void input_keep(int sig)
{
    int fd = open(kept_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t n = write(fd, now_data, now_size);

    (void)n;
    signal(sig, SIG_DFL);
    raise(sig);
}

static void run_one(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = g_memdup2(data, size);      /* of just this size, for checkers */

    now_data = data;
    now_size = size;
    alarm(INPUT_SECONDS_MAX);
    LLVMFuzzerTestOneInput(copy ? copy : data, size);
    alarm(0);
}

/* ---- corpus ---- */

static void hex_append(GByteArray *a, const char *digits, const char *line)
{
    for (; digits[0]; digits += 2) {
        int hi = g_ascii_xdigit_value(digits[0]), lo = g_ascii_xdigit_value(digits[1]);

        if (hi < 0 || lo < 0) {
            g_error("corpus: not hexadecimal: %s", line);
        }
        g_byte_array_append(a, &(uint8_t) { hi << 4 | lo }, 1);
    }
}

static GByteArray *line_parse(const char *line)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    GByteArray *a = g_byte_array_new();
    guint n = g_strv_length(words);

    if (n < 2) {
        g_error("corpus: no input: %s", line);
    } else if (!strcmp(words[0], "text")) {
        g_autofree char *s = g_strcompress(words[1]);

        g_byte_array_append(a, (uint8_t *)s, strlen(s));
    } else if (!strcmp(words[0], "hex")) {
        hex_append(a, words[1], line);
    } else if (!strcmp(words[0], "base")) {
        size_t size = 0;
        g_autofree uint8_t *base = fuzz_base(atoi(words[1]), &size);

        g_assert_nonnull(base);
        g_byte_array_append(a, base, size);
    } else {
        g_error("corpus: unknown kind: %s", line);
    }
    for (guint i = 2; i < n; i++) {
        if (g_str_has_prefix(words[i], "cut:")) {
            guint old = a->len, len = atoi(words[i] + 4);

            g_byte_array_set_size(a, len);
            memset(a->data + MIN(old, len), 0, len - MIN(old, len));
        } else if (words[i][0] == '@') {
            char *end;
            size_t at = strtoul(words[i] + 1, &end, 0);
            g_autoptr(GByteArray) patch = g_byte_array_new();

            hex_append(patch, end + 1, line);
            g_assert_cmpuint(at + patch->len, <=, a->len);
            memcpy(a->data + at, patch->data, patch->len);
        } else {
            g_error("corpus: unknown change: %s", line);
        }
    }
    return a;
}

static void corpus_load(GPtrArray *corpus, const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) gerr = NULL;

    if (!g_file_get_contents(path, &text, NULL, &gerr)) {
        g_error("%s", gerr->message);
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        if (**line && **line != '#') {
            g_ptr_array_add(corpus, line_parse(*line));
        }
    }
}

static int name_order(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of @folder, in the order of their names. */
static void corpus_load_files(GPtrArray *corpus, const char *folder)
{
    g_autoptr(GError) gerr = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &gerr);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    if (!dir) {
        g_error("%s", gerr->message);
    }
    while ((name = g_dir_read_name(dir))) {
        g_ptr_array_add(names, g_build_filename(folder, name, NULL));
    }
    g_ptr_array_sort(names, name_order);
    for (guint i = 0; i < names->len; i++) {
        char *data;
        gsize size;

        if (!g_file_get_contents(names->pdata[i], &data, &size, &gerr)) {
            g_error("%s", gerr->message);
        }
        g_ptr_array_add(corpus, g_byte_array_new_take((guint8 *)data, size));
    }
}

/* ---- mutations ---- */

static const uint64_t interesting[] = { 0, 1, 0x7f, 0x80, 0xff, 0x200, 0x7fff, 0xffff, 0x10000, 0x7fffffff,
    0x80000000, 0xffffffff, 1ULL << 32, 1ULL << 48, INT64_MAX, 1ULL << 63, UINT64_MAX };

static uint64_t below(GRand *r, uint64_t n)
{
    return n ? ((uint64_t)g_rand_int(r) << 32 | g_rand_int(r)) % n : 0;
}

static void mutate(GRand *r, GByteArray *a, const GPtrArray *corpus)
{
    /* half of the changes hit the first bytes: headers stand there */
    size_t range = below(r, 2) ? a->len : MIN(a->len, 256), at = below(r, range);

    switch (a->len ? below(r, 6) : 2) {
    case 0:
        a->data[at] ^= 1 << below(r, 8);
        break;
    case 1: {
        unsigned bytes = 1 << below(r, 4);
        uint64_t v = interesting[below(r, G_N_ELEMENTS(interesting))];

        at -= at % bytes;
        for (unsigned i = 0; i < bytes && at + i < a->len; i++) {
            a->data[at + i] = v >> (8 * (bytes - 1 - i));
        }
        break;
    }
    case 2:
        g_byte_array_append(a, &(uint8_t) { below(r, 256) }, 1);
        break;
    case 3:
        g_byte_array_set_size(a, at);
        break;
    case 4: {
        const GByteArray *other = corpus->pdata[below(r, corpus->len)];
        size_t from = below(r, other->len), n = below(r, 65);

        n = MIN(n, MIN(a->len - at, other->len - from));
        memcpy(a->data + at, other->data + from, n);
        break;
    }
    case 5: {
        size_t n = 1 + below(r, 8);

        g_byte_array_remove_range(a, at, MIN(n, a->len - at));
        break;
    }
    }
}

/* ---- program ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void corpus_export(const GPtrArray *corpus, const char *folder)
{
    for (guint i = 0; i < corpus->len; i++) {
        const GByteArray *a = corpus->pdata[i];
        g_autofree char *path = g_strdup_printf("%s/corpus-%03u", folder, i);

        g_assert_true(g_file_set_contents(path, (char *)a->data, a->len, NULL));
    }
}

static void limits_set(void)
{
    struct rlimit r = { MEMORY_MAX, MEMORY_MAX };

#ifndef HAS_CHECKER
    pthread_attr_t attr;

    /* Room for stacks counts too, used or not: how many workers there are is chance. */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, MiB);
    pthread_setattr_default_np(&attr);
    pthread_attr_destroy(&attr);
    setrlimit(RLIMIT_DATA, &r);     /* checkers need more for themselves */
#endif
    r.rlim_cur = r.rlim_max = 0;
    setrlimit(RLIMIT_CORE, &r);
    signal(SIGALRM, input_keep);
    signal(SIGABRT, input_keep);
    signal(SIGSEGV, input_keep);
    signal(SIGBUS, input_keep);
    signal(SIGFPE, input_keep);
    signal(SIGTRAP, input_keep);        /* what GLib ends with */
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) corpus = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    g_autofree char *start = g_get_current_dir(), *export = NULL, *images = NULL;
    g_autofree char *dir = g_build_filename(g_get_tmp_dir(), "liveblk-fuzz-XXXXXX", NULL);
    unsigned mutations = 0, seed = 1;
    int opt;

    while ((opt = getopt(argc, argv, "n:s:i:x:")) != -1) {
        switch (opt) {
        case 'n':
            mutations = atoi(optarg);
            break;
        case 's':
            seed = atoi(optarg);
            break;
        case 'i':
            images = g_canonicalize_filename(optarg, start);
            break;
        case 'x':
            export = g_canonicalize_filename(optarg, start);
            break;
        default:
            return 2;
        }
    }
    for (int i = optind; i < argc; i++) {
        argv[i] = g_canonicalize_filename(argv[i], start);
    }
    kept_path = g_build_filename(start, "fuzz-input", NULL);
    g_assert_nonnull(mkdtemp(dir));
    g_assert_cmpint(chdir(dir), ==, 0);
    setenv("LIVEBLK_FUZZ_DIR", dir, 1);
    limits_set();
    for (int i = optind; i < argc; i++) {
        corpus_load(corpus, argv[i]);
        g_free(argv[i]);
    }
    if (images) {
        corpus_load_files(corpus, images);
    }
    g_assert_cmpuint(corpus->len, >, 0);
    if (export) {
        corpus_export(corpus, export);
    } else {
        GRand *r = g_rand_new_with_seed(seed);

        for (guint i = 0; i < corpus->len; i++) {
            const GByteArray *a = corpus->pdata[i];

            run_one(a->data, a->len);
        }
        for (unsigned i = 0; i < mutations; i++) {
            const GByteArray *from = corpus->pdata[below(r, corpus->len)];
            g_autoptr(GByteArray) a = g_byte_array_new();

            g_byte_array_append(a, from->data, from->len);
            for (unsigned n = 1 + below(r, 4); n; n--) {
                mutate(r, a, corpus);
            }
            run_one(a->data, a->len);
        }
        g_rand_free(r);
        printf("%u inputs of the corpus, %u mutations of seed %u\n", corpus->len, mutations, seed);
    }
    if (!export) {
        aio_cleanup_main();     /* the first input has made it */
    }
    g_assert_cmpint(chdir("/"), ==, 0);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    g_free(kept_path);
    return 0;
}
