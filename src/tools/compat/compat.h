/* SPDX-License-Identifier: MIT */
/* compat.h: what the programs share that go by the names scripts know: one binary, which is
 * the program it is called as.
 *
 * Options are tables: the parser and --help come from the same description. Results are
 * exit codes. Main thread, outside coroutines, unless said otherwise.
 */
#ifndef LIVEBLK_TOOLS_COMPAT_H
#define LIVEBLK_TOOLS_COMPAT_H

#include "base/osdep.h"
#include "block/block-backend.h"
#include "block/qdict.h"
#include "ops/ops.h"

/* ---- command lines ---- */

typedef struct CompatOption {
    int c;                      /* below 256: a letter too; else from 256 on */
    const char *name;           /* long name; NULL: only the letter */
    const char *arg;            /* what it takes; NULL: nothing */
    const char *help;
} CompatOption;

typedef struct CompatCommand {
    const char *name, *summary;
    const char *usage;          /* behind the name */
    const CompatOption *options;        /* ends with c == 0; --help is added */
    int (*run)(int argc, char **argv, const struct CompatCommand *cmd);
} CompatCommand;

/* Next option: its letter, its operand in optarg; -1 at the end, operands from optind on. --help is
 * answered, and ends the program, as a wrong option does. */
int compat_next_option(int argc, char **argv, const CompatCommand *cmd);
void compat_print_help(const CompatCommand *cmd, const char *program);
/* Report, point to --help, 1. @cmd NULL: the program's help. */
int compat_usage(const CompatCommand *cmd, const char *fmt, ...) LIVEBLK_PRINTF(2, 3);
/* Report, 1. */
int compat_fail(const char *fmt, ...) LIVEBLK_PRINTF(1, 2);
/* argv[0] as given. */
extern const char *compat_program;

/* ---- values; all report what is wrong and return false or -1 ---- */

/* A number with a unit, in [@min, @max]; @what: "image size". */
bool compat_number(const char *what, const char *text, int64_t min, int64_t max, int64_t *value);
/* "on", "off" and their synonyms; nothing is reported. */
bool compat_text_to_bool(const char *text, bool *value);
/* The size that parameter @name has; *errp. */
bool compat_size(const char *name, const char *text, uint64_t *bytes, Error **errp);
/* Is @text of -o well-formed, or is it reported? */
bool compat_option_list_valid(const char *text);
/* "human" or "json". */
bool compat_output_format(const CompatCommand *cmd, const char *text, bool *json);
/* "none", "writeback" ...: adds to *flags. False: not a mode; nothing is reported. */
bool compat_cache_mode(const char *mode, int *flags, bool *writethrough);
/* "threads", "native", "io_uring"; NULL is fine. */
bool compat_aio_mode(const char *mode);
/* --object: false after reporting. */
bool compat_object_add(const char *text);

/* ---- the engine ---- */

void compat_engine_start(void);         /* once, or again */
/* process_start() has done it. */
void compat_engine_is_started(void);
void compat_engine_stop(void);

/* ---- opening ---- */

typedef struct CompatOpen {
    const char *name, *format;          /* name NULL: options say it all; format NULL: probed */
    QDict *options;                     /* besides, nested strings, lent; NULL: none */
    bool image_opts;                    /* name is options */
    bool writable, resize, force_share, no_backing, unmap, check, quiet;
    bool no_data;                       /* only what the image says of itself is asked for */
    bool no_share;                      /* nobody may write to it meanwhile */
    int cache_flags;                    /* of compat_cache_mode() */
    const char *aio;                    /* NULL: not said */
    const char *detect_zeroes;          /* NULL: not said */
} CompatOpen;

/* Options as legacy programs give them ("512" for 512, "file.filename" alone), typed as the schema
 * has them, checked. New reference, or NULL and *errp. Takes over @d. */
QDict *compat_options_typed(QDict *d, Error **errp);
/* The same; @named: the file is known by a name besides. */
QDict *compat_named_options_typed(QDict *d, bool named, Error **errp);
/* Put into the options @d of an image (or of @filename, which may be NULL) what its header says of what they leave out.
 * co, control lock */
void coroutine_fn compat_co_infer(const char *filename, QDict *d);
/* NULL and *errp. co, control lock */
BlockBackend *coroutine_fn compat_co_open(const CompatOpen *o, Error **errp);
/* The same; reports "Could not open 'NAME': ...". */
BlockBackend *coroutine_fn compat_co_open_report(const CompatOpen *o);

/* Put the node that @options (taken over) describe on top of @blk's, as its child @child. Takes over @blk, also on
 * failure: NULL and *errp. co, control lock */
BlockBackend *coroutine_fn compat_co_open_above(BlockBackend *blk, QDict *options, const char *child, Error **errp);
/* What is written goes to an image without a name, on top of @blk, which is taken over. The same */
BlockBackend *coroutine_fn compat_co_temporary_overlay(BlockBackend *blk, Error **errp);

/* ---- creating ---- */

typedef struct CompatCreate CompatCreate;
/* The options of @format and of the protocol of @filename (NULL: of none). NULL: unknown format,
 * nothing reported. */
CompatCreate *compat_create_new(const char *format, const char *filename);
void compat_create_free(CompatCreate *c);
bool compat_create_supports_backing(const CompatCreate *c);
/* "key=value,..." */
int compat_create_parse(CompatCreate *c, const char *text, Error **errp);
int compat_create_set(CompatCreate *c, const char *key, const char *value, Error **errp);
/* Lent; NULL: not given. */
const char *compat_create_get(const CompatCreate *c, const char *key);
/* " cluster_size=65536 ...", in the order people know; the caller frees. */
char *compat_create_describe(const CompatCreate *c);
/* Make it; what was made is removed again on failure. co, control lock */
int coroutine_fn compat_co_create(CompatCreate *c, Error **errp);
/* Print what -o takes. 0, or 1 after reporting. */
int compat_create_help(const char *format, const char *filename);
/* Does a value of -o ask for help? */
bool compat_is_help(const char *text);

/* ---- snapshots inside images ---- */

/* The table that people know. */
void compat_print_snapshots(const SnapshotInfoList *list, int indent);
/* Which one is meant; all strings NULL: not said. */
typedef struct CompatSnapshot {
    bool given;
    char *id, *name, *any;      /* any: an id or a name */
} CompatSnapshot;
/* "snapshot.id=I,snapshot.name=N", or an id or name. False after reporting. */
bool compat_snapshot_parse(const char *text, CompatSnapshot *sn);
void compat_snapshot_clear(CompatSnapshot *sn);
/* @blk, which is read-only, shows it from now on. co, control lock */
int coroutine_fn compat_co_snapshot_load(const CompatSnapshot *sn, BlockBackend *blk, Error **errp);

/* ---- progress ---- */

typedef struct CompatProgress CompatProgress;
/* Shown on standard output if @show, in steps of @skip percent; on SIGUSR1 else, on standard error. */
CompatProgress *compat_progress_new(bool show, double skip);
OpsProgress *compat_progress_ops(CompatProgress *p);
/* Show it as complete, if @done. */
void compat_progress_done(CompatProgress *p, bool done);
/* @done: to be shown as complete once more. */
void compat_progress_end(CompatProgress *p, bool done);

/* ---- programs ---- */

int img_main(int argc, char **argv);
int nbd_main(int argc, char **argv);
int io_main(int argc, char **argv);
int img_create(int argc, char **argv, const CompatCommand *cmd);
int img_info(int argc, char **argv, const CompatCommand *cmd);
int img_map(int argc, char **argv, const CompatCommand *cmd);
int img_convert(int argc, char **argv, const CompatCommand *cmd);
int img_compare(int argc, char **argv, const CompatCommand *cmd);
int img_dd(int argc, char **argv, const CompatCommand *cmd);
int img_measure(int argc, char **argv, const CompatCommand *cmd);
int img_resize(int argc, char **argv, const CompatCommand *cmd);
int img_bench(int argc, char **argv, const CompatCommand *cmd);
int img_rebase(int argc, char **argv, const CompatCommand *cmd);
int img_bitmap(int argc, char **argv, const CompatCommand *cmd);
int img_check(int argc, char **argv, const CompatCommand *cmd);
int img_commit(int argc, char **argv, const CompatCommand *cmd);
int img_amend(int argc, char **argv, const CompatCommand *cmd);
int img_snapshot(int argc, char **argv, const CompatCommand *cmd);
extern const CompatOption img_create_options[], img_info_options[], img_map_options[], img_convert_options[],
                          img_compare_options[], img_dd_options[], img_measure_options[], img_resize_options[],
                          img_bench_options[], img_rebase_options[], img_check_options[], img_bitmap_options[],
                          img_commit_options[], img_snapshot_options[], img_amend_options[];

/* What the engine can open and create, for help texts; the caller frees. */
char *compat_formats(void);

#endif
