/* SPDX-License-Identifier: MIT */
/* fuzz.h: what the fuzz targets have in common.
 *
 * A target is one file with LLVMFuzzerTestOneInput(). Two programs are made of it: with libFuzzer
 * (-Dfuzz=true, clang; scripts/run-fuzz), and with driver.c, which replays the target's corpus
 * and mutates it from a fixed seed (suite `fuzz`).
 *
 * The engine is up when LLVMFuzzerTestOneInput() is called, and the current folder is an empty
 * temporary one; fuzz_begin() sees to both, once.
 */
#ifndef LIVEBLK_TESTS_FUZZ_H
#define LIVEBLK_TESTS_FUZZ_H

#include "base/osdep.h"
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "block/qdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Base number @i (0, 1, ...) that a corpus line `base I` changes; NULL: there is none. The
 * caller frees. Each target has one. */
uint8_t *fuzz_base(unsigned i, size_t *size);

static G_GNUC_UNUSED void fuzz_begin(void)
{
    static bool begun;
    g_autofree char *dir = g_build_filename(g_get_tmp_dir(), "liveblk-fuzz-XXXXXX", NULL);

    if (begun) {
        return;
    }
    begun = true;
    if (!getenv("LIVEBLK_FUZZ_DIR")) {      /* driver.c has made one already, and removes it */
        g_assert_nonnull(mkdtemp(dir));
        g_assert_cmpint(chdir(dir), ==, 0);
    }
    signal(SIGPIPE, SIG_IGN);
    aio_init_main("threads", &error_abort);
    bdrv_init();
}

#endif
