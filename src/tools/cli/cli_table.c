/* SPDX-License-Identifier: MIT */
/* cli_table.c: every command of liveblk, described once; see cli.h. */
#include "cli/cli.h"

const CliOption cli_common_options[] = {
    { "output", 0, CLI_CHOICE, "human|json", "what to print: text for people (default), or JSON for programs" },
    { "quiet", 'q', CLI_FLAG, NULL, "no progress, and nothing but errors where there is no result to print" },
    { "trace", 0, CLI_TEXT, "MODULES", "tell what happens inside (host, job, graph, ... or *; help lists them)" },
    { "help", 'h', CLI_FLAG, NULL, "print this help" },
    { NULL },
};

const CliOption cli_control_options[] = {
    { "control", 'c', CLI_PATH, "SOCKET",
      "control socket of the server (unix path, or tcp:HOST:PORT); default: the one server of yours that runs" },
    { NULL },
};

/* May be given several times. */
#define OPTION_SECRET { "secret", 0, CLI_SECRET, "[id=ID,]file=FILE", \
                        "file with the password of encrypted images, every byte of it; others by their ID in options" }

#define OPTIONS_TLS \
    { "tls", 0, CLI_PATH, "FOLDER", "for names nbds://...: ca-cert.pem (and client-cert.pem, client-key.pem), or keys.psk, are in FOLDER" }, \
    { "tls-user", 0, CLI_TEXT, "USER", "whose key of keys.psk to use; needed where it has several" }, \
    { "tls-hostname", 0, CLI_TEXT, "NAME", "name that the server's certificate has to have; default: its host" }

const CliOption cli_image_options[] = {
    { "image-opts", 0, CLI_FLAG, NULL, "image names are block options: driver=qcow2,file.filename=a.img" },
    OPTION_SECRET,
    OPTIONS_TLS,
    { NULL },
};

#define OPTION_FORMAT { "format", 'f', CLI_FORMAT, "FORMAT", "format of the image (raw, qcow2, ...); default: probed" }

static const CliOption create_options[] = {
    { "format", 'f', CLI_FORMAT, "FORMAT", "format of the new image; default: qcow2, or raw for *.img and *.raw" },
    { "backing", 'b', CLI_PATH, "IMAGE", "the new image shows what IMAGE holds, until written to" },
    { "backing-format", 'F', CLI_FORMAT, "FORMAT", "format of the backing image; needed with --backing" },
    { "option", 'o', CLI_TEXT, "KEY=VALUE,...", "options of the format, as blockdev-create has them: cluster-size=128k" },
    OPTION_SECRET,
    OPTIONS_TLS,
    { "force", 0, CLI_FLAG, NULL, "replace a file that exists" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption info_options[] = {
    OPTION_FORMAT,
    { "chain", 0, CLI_FLAG, NULL, "also the images below it" },
    { "force-share", 'U', CLI_FLAG, NULL, "look even if another program has it open for writing" },
    { NULL },
};

static const CliOption map_options[] = {
    OPTION_FORMAT,
    { "force-share", 'U', CLI_FLAG, NULL, "look even if another program has it open for writing" },
    { NULL },
};

static const CliOption convert_options[] = {
    OPTION_FORMAT,
    { "target-format", 'O', CLI_FORMAT, "FORMAT", "format of TARGET; default: qcow2, or raw for *.img and *.raw" },
    { "option", 'o', CLI_TEXT, "KEY=VALUE,...", "options of the target's format, as blockdev-create has them" },
    { "compress", 'z', CLI_FLAG, NULL, "compress what is written (qcow2; --option compression-type=zstd)" },
    { "backing", 'b', CLI_PATH, "IMAGE", "TARGET becomes an overlay of IMAGE, which is the backing image of SOURCE" },
    { "backing-format", 'F', CLI_FORMAT, "FORMAT", "format of the backing image; needed with --backing" },
    { "snapshot", 0, CLI_TEXT, "SNAPSHOT", "copy what the snapshot inside SOURCE holds; its id or name" },
    { "offset", 0, CLI_SIZE, "OFFSET", "copy only what SOURCE shows from there on" },
    { "length", 0, CLI_SIZE, "LENGTH", "copy only so much of SOURCE" },
    { "bitmaps", 0, CLI_FLAG, NULL, "copy the bitmaps stored in SOURCE too" },
    { "skip-broken-bitmaps", 0, CLI_FLAG, NULL, "... but for those whose contents are lost" },
    { "existing", 0, CLI_FLAG, NULL, "TARGET is there and large enough, a file or nbd://...: write into it" },
    { "speed", 0, CLI_SIZE, "RATE", "at most so many bytes a second" },
    { "salvage", 0, CLI_FLAG, NULL, "what cannot be read becomes zeroes, and is told" },
    { "no-sparse", 0, CLI_FLAG, NULL, "write zeroes as data, too" },
    { "workers", 'm', CLI_COUNT, "N", "copies in flight, 1 to 64; default 8" },
    { "force-share", 'U', CLI_FLAG, NULL, "read even if another program has the source open for writing" },
    { "force", 0, CLI_FLAG, NULL, "replace a file that exists" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption compare_options[] = {
    OPTION_FORMAT,
    { "other-format", 'F', CLI_FORMAT, "FORMAT", "format of the second image; default: probed" },
    { "strict", 's', CLI_FLAG, NULL, "sizes and allocation must agree, too" },
    { "force-share", 'U', CLI_FLAG, NULL, "read even if another program has them open for writing" },
    { NULL },
};

static const CliOption check_options[] = {
    OPTION_FORMAT,
    { "repair", 'r', CLI_CHOICE, "leaks|all", "mend what was found" },
    { "force-share", 'U', CLI_FLAG, NULL, "check even if another program has it open for writing; the result may be wrong" },
    { NULL },
};

static const CliOption resize_options[] = {
    OPTION_FORMAT,
    { "shrink", 0, CLI_FLAG, NULL, "it may get smaller: what lies behind the new end is lost" },
    { "preallocation", 0, CLI_CHOICE, "off|metadata|falloc|full", "how the new space is made" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption rebase_options[] = {
    OPTION_FORMAT,
    { "backing", 'b', CLI_PATH, "IMAGE", "what is to lie below, as the image is to name it" },
    { "backing-format", 'F', CLI_FORMAT, "FORMAT", "format of the backing image; needed with --backing" },
    { "flatten", 0, CLI_FLAG, NULL, "nothing is to lie below: all is copied into the image" },
    { "only-name", 'u', CLI_FLAG, NULL, "only change the name in the image: the same backing image has moved" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption commit_options[] = {
    OPTION_FORMAT,
    { "base", 'b', CLI_PATH, "IMAGE", "commit to this one of the backing chain, in place of the next; implies --keep" },
    { "keep", 0, CLI_FLAG, NULL, "do not empty the image afterwards" },
    { "speed", 0, CLI_SIZE, "RATE", "at most so many bytes a second" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption snapshot_options[] = {
    OPTION_FORMAT,
    { "same-name", 0, CLI_FLAG, NULL, "create: there may be one by this name already" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { "force-share", 'U', CLI_FLAG, NULL, "list, even if another program has it open for writing" },
    { NULL },
};

static const CliOption bitmap_options[] = {
    OPTION_FORMAT,
    { "granularity", 'g', CLI_SIZE, "SIZE", "add: bytes that one mark stands for; default: the cluster size, 4K to 64K" },
    { "disabled", 0, CLI_FLAG, NULL, "add: do not record yet" },
    { "from", 0, CLI_PATH, "IMAGE", "merge: the other bitmaps are stored in IMAGE" },
    { "from-format", 0, CLI_FORMAT, "FORMAT", "its format; default: probed" },
    { "force-share", 'U', CLI_FLAG, NULL, "list, even if another program has it open for writing" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption amend_options[] = {
    OPTION_FORMAT,
    { "option", 'o', CLI_TEXT, "KEY=VALUE,...", "what is to change: version, lazy-refcounts, refcount-bits, data-file-raw; "
      "passwords: new-secret=ID, old-secret=ID, keyslot=N, iter-time=MS" },
    { "force", 0, CLI_FLAG, NULL, "also what leaves no password, after which nobody can read the image" },
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption io_options[] = {
    OPTION_FORMAT,
    { "read-only", 'r', CLI_FLAG, NULL, "open it for reading only" },
    { "force-share", 'U', CLI_FLAG, NULL, "read it even if another program has it open for writing" },
    { NULL },
};

static const CliOption measure_options[] = {
    OPTION_FORMAT,
    { "target-format", 'O', CLI_CHOICE, "qcow2|raw|luks", "format of the new image (qcow2)" },
    { "option", 'o', CLI_TEXT, "KEY=VALUE,...",
      "options of the format, as blockdev-create has them; those that do not change the size are looked past" },
    { "size", 0, CLI_SIZE, "SIZE", "of an empty image, in place of the size and contents of one that is there" },
    { "cluster-size", 0, CLI_SIZE, "SIZE", "of the new image, if it is qcow2 (64K)" },
    { "force-share", 'U', CLI_FLAG, NULL, "look even if another program has it open for writing" },
    { NULL },
};

static const CliOption bench_options[] = {
    OPTION_FORMAT,
    { "count", 0, CLI_SIZE, "N", "requests (75000)" },
    { "depth", 'd', CLI_COUNT, "N", "requests at once (32)" },
    { "size", 's', CLI_SIZE, "SIZE", "bytes of each (4K)" },
    { "write", 'w', CLI_FLAG, NULL, "write zeroes; the image's contents are lost" },
    { "force", 0, CLI_FLAG, NULL, "yes, write" },
    { NULL },
};

static const CliOption serve_options[] = {
    OPTION_FORMAT,
    { "name", 0, CLI_TEXT, "NAME", "name of the export and of the node; default: the file's, without its ending" },
    { "read-only", 'r', CLI_FLAG, NULL, "clients cannot write" },
    { "socket", 's', CLI_PATH, "PATH", "unix socket of the NBD server; default: NAME.nbd in the runtime folder" },
    { "listen", 'l', CLI_TEXT, "HOST:PORT", "serve NBD over TCP; without --tls in trusted networks only" },
    { "tls", 0, CLI_PATH, "FOLDER", "encrypt: ca-cert.pem, server-cert.pem and server-key.pem, or keys.psk, are in FOLDER; "
      "clients need a certificate of the same authority, or a key" },
    { "tls-allow", 0, CLI_TEXT, "WHO", "with --tls: let in this client only, by its certificate's full name or its key's user" },
    { "device", 0, CLI_PATH, "DEVICE", "have the kernel show the image as a disk, /dev/nbd0 or another (modprobe nbd); it can be mounted" },
    { "control", 'c', CLI_PATH, "PATH", "where the control socket is to be; default: NAME.qmp in the runtime folder" },
    { "iothreads", 0, CLI_COUNT, "N", "event loops beside the main one that the exports share; default: none" },
    { "detach", 'd', CLI_FLAG, NULL, "go to the background once it serves" },
    { "pidfile", 0, CLI_PATH, "PATH", "write the process number there" },
    { NULL },
};

static const CliOption mirror_options[] = {
    { "node", 0, CLI_TEXT, "NODE", "what to mirror: a node or export of the server; default: its only export" },
    { "format", 'f', CLI_FORMAT, "FORMAT", "format of TARGET; default: qcow2, or raw for *.img and *.raw" },
    { "existing", 0, CLI_FLAG, NULL, "TARGET exists and has the right size: do not create it" },
    { "sync", 0, CLI_CHOICE, "full|top|none", "what to copy: all (default), the top image only, or only new writes" },
    { "copy-mode", 0, CLI_CHOICE, "background|write-blocking", "write-blocking: guests' writes go to both at once" },
    { "speed", 0, CLI_SIZE, "RATE", "at most so many bytes a second" },
    { "job", 0, CLI_TEXT, "ID", "name of the job; default: mirror-NODE" },
    { "pivot", 'p', CLI_FLAG, NULL, "when both agree, go on with TARGET in place of the source" },
    { "stop", 0, CLI_FLAG, NULL, "when both agree, stop: TARGET is a copy of that moment" },
    { "keep-source", 0, CLI_FLAG, NULL, "with --pivot: leave the source's node open afterwards" },
    { "detach", 'd', CLI_FLAG, NULL, "start it and return; see `liveblk jobs`" },
    { "force", 0, CLI_FLAG, NULL, "replace a target file that exists" },
    OPTIONS_TLS,
    { "dry-run", 'n', CLI_FLAG, NULL, "say what would be done, and do nothing" },
    { NULL },
};

static const CliOption jobs_options[] = {
    { "watch", 'w', CLI_FLAG, NULL, "go on showing them until none is left" },
    { NULL },
};

static const CliOption job_options[] = {
    { "soft", 0, CLI_FLAG, NULL, "cancel: a ready mirror ends cleanly, its target a consistent copy" },
    { "wait", 'w', CLI_FLAG, NULL, "wait until the job has ended; fail if it did" },
    { NULL },
};

static const CliOption graph_options[] = {
    { "format", 'f', CLI_CHOICE, "text|dot|svg", "a tree (default), for Graphviz, or a picture" },
    { NULL },
};

static const CliOption help_options[] = {
    { "manual", 0, CLI_FLAG, NULL, "print the manual page's source (troff)" },
    { "completion", 0, CLI_CHOICE, "bash|zsh|fish", "print the completion script of a shell" },
    { NULL },
};

const CliCommand cli_commands[] = {
    { "create", "IMAGE [SIZE]", 1, 2, "make a new image",
      "Makes an empty image of SIZE bytes (64M, 1.5G), or an overlay over --backing, whose size it takes if "
      "none is given. An existing file is left alone unless --force is given. If it cannot be made whole, "
      "nothing is left behind. A device, or an export of a server (nbd://...), is there already: it is overwritten "
      "with the new image, raw if no format is given.",
      create_options, false, false,
      "liveblk create disk.qcow2 20G\n"
      "liveblk create overlay.qcow2 -b base.qcow2 -F qcow2\n"
      "liveblk create disk.qcow2 1T -o cluster-size=256k", cli_create },
    { "info", "IMAGE", 1, 1, "tell what an image is",
      "Prints format, sizes, backing image and what else the format has to tell. The fields of --output=json "
      "are those of the QMP type ImageInfo.",
      info_options, false, true, "liveblk info disk.qcow2\nliveblk info --output=json --chain overlay.qcow2", cli_info },
    { "map", "IMAGE", 1, 1, "tell where an image has data, zeroes and holes",
      "Prints each extent: where it begins, how long it is, whether it is data or reads as zeroes, how many "
      "images down the chain it comes from, and where it lies in the file. JSON: a list of objects with start, "
      "length, depth, present, zero, data, compressed, and offset where it lies in a file.",
      map_options, false, true, "liveblk map disk.qcow2", cli_map },
    { "convert", "SOURCE... TARGET", 2, -1, "copy an image into another format",
      "Writes what SOURCE shows (with all its backing images) into a new image TARGET; several are put one behind the "
      "other. Zeroes stay holes. The copy is made under another name beside TARGET and renamed at the end, so that "
      "TARGET is never half written, also when interrupted. A device, or an export of a server (nbd://...), is "
      "overwritten in place. With --existing TARGET is written in place; what it "
      "holds behind the end of the copy stays.",
      convert_options, false, true,
      "liveblk convert disk.img disk.qcow2\nliveblk convert --compress disk.img small.qcow2\nliveblk convert -O raw overlay.qcow2 /var/lib/flat.img\n"
      "liveblk convert disk.qcow2 nbd://backup.example/disk\n"
      "liveblk convert --tls /etc/pki/nbd nbds://server.example/disk disk.qcow2", cli_convert },
    { "compare", "IMAGE OTHER", 2, 2, "tell whether two images show the same",
      "Compares contents; where one is longer, the rest must be zeroes. Exit code 0: the same; 3: different "
      "(the first difference is told); 1: could not compare.",
      compare_options, false, true, "liveblk compare disk.img disk.qcow2", cli_compare },
    { "check", "IMAGE", 1, 1, "look for errors in an image, and mend them",
      "Reads all tables of an image that is not in use, and tells each error. Leaks waste space; corruptions "
      "endanger data. With --repair they are mended in place, safe against a crash at any moment; what a damaged table "
      "said before is lost, so copy the file first if it is your only one. Exit code 0: no errors (any more); 3: errors; "
      "1: could not check.",
      check_options, false, true,
      "liveblk check disk.qcow2\n"
      "liveblk check --repair leaks disk.qcow2", cli_check },
    { "resize", "IMAGE SIZE", 2, 2, "make an image larger or smaller",
      "SIZE is the new size, or a difference: +5G. Data behind a new end is lost, so that needs --shrink. A difference "
      "that begins with a minus comes after `--`.",
      resize_options, false, true,
      "liveblk resize disk.qcow2 +10G\nliveblk resize --shrink disk.qcow2 -- -1G", cli_resize },
    { "rebase", "IMAGE", 1, 1, "put another backing image below an image",
      "The image shows the same afterwards: what the new backing image has otherwise is copied into it first. Where the "
      "new one is further down the same chain only what lies between is looked at. Interrupted, the image is as it was, "
      "but perhaps larger.",
      rebase_options, false, true,
      "liveblk rebase -b base.qcow2 -F qcow2 overlay.qcow2\n"
      "liveblk rebase --flatten overlay.qcow2   # all in one file", cli_rebase },
    { "commit", "IMAGE", 1, 1, "write what an image has of its own into its backing image",
      "The backing image grows if it is shorter. Other overlays of it are worthless afterwards. The image is emptied when "
      "all is safely in the backing image; interrupted, do it again.",
      commit_options, false, true,
      "liveblk commit overlay.qcow2\nliveblk commit --base base.qcow2 top.qcow2", cli_commit },
    { "snapshot", "IMAGE [list | create NAME | apply SNAPSHOT | delete SNAPSHOT]", 1, 3,
      "keep states of a disk inside its image",
      "A snapshot is what the disk holds when it is made; it costs space only for what changes later. apply lets the disk be "
      "again what it was then (also its size): what it holds now is lost, unless you make a snapshot of that first. "
      "SNAPSHOT is an id or a name. The image must not be in use. Interrupted, it has either been done or not. JSON: "
      "objects as the QMP type SnapshotInfo has them.",
      snapshot_options, false, true,
      "liveblk snapshot disk.qcow2\n"
      "liveblk snapshot disk.qcow2 create before-upgrade\n"
      "liveblk snapshot disk.qcow2 apply before-upgrade", cli_snapshot },
    { "bitmap", "IMAGE [list | VERB NAME [OTHER...]]", 1, -1,
      "keep account of what changes in an image",
      "A bitmap marks what is written while it records; it is stored in the image and tells a backup program what to copy. "
      "VERB is add, remove, clear, enable, disable, or merge: to mark in NAME what the OTHERs mark too. The image must not be in use. A bitmap that is lost (the image was "
      "not closed properly) can only be removed.",
      bitmap_options, false, true,
      "liveblk bitmap disk.qcow2\n"
      "liveblk bitmap disk.qcow2 add since-monday\n"
      "liveblk bitmap disk.qcow2 merge since-sunday since-monday", cli_bitmap },
    { "amend", "IMAGE", 1, 1, "change the features of an image's format",
      "Changes an image in place: version=v2 or v3, lazy-refcounts=on or off, refcount-bits=1 to 64, data-file-raw=off. "
      "What the disk holds stays as it is. Interrupted, the image is as before or as it is to be; a check may find leaks.",
      amend_options, false, true,
      "liveblk amend -o version=v3 old.qcow2\nliveblk amend -o refcount-bits=64,lazy-refcounts=on disk.qcow2\n"
      "liveblk amend --secret pw --secret id=more,file=pw2 -o new-secret=more disk.luks  # another password", cli_amend },
    { "io", "IMAGE [COMMAND...]", 1, -1, "read, write and look at an image by hand",
      "Runs each COMMAND on the image; without one, those that standard input has, one in each line. The command help "
      "lists them: read, write, flush, discard, map, ... and their options. JSON: an object for each, with command, "
      "failed, output and error. Exit code 1 if one failed.",
      io_options, false, true,
      "liveblk io disk.qcow2 'read -v 0 512'\n"
      "liveblk io disk.qcow2 'write -P 0xab 1M 64k' flush", cli_io },
    { "measure", "[IMAGE]", 0, 1, "tell how large the file of a new image would be",
      "For a copy of IMAGE, or for an empty image of --size bytes. JSON: required and fully-allocated, in bytes.",
      measure_options, false, true, "liveblk measure disk.img\nliveblk measure --size 1T\n"
      "liveblk measure --size 1T -o encrypt.format=luks,cluster-size=1M", cli_measure },
    { "bench", "IMAGE", 1, 1, "measure how fast an image is read or written",
      "Sends requests one behind the other through the image, some at once, and tells how many a second were answered.",
      bench_options, false, true, "liveblk bench disk.qcow2", cli_bench },
    { "serve", "IMAGE...", 1, -1, "serve images over NBD, with a control socket",
      "Opens the images and serves each as an NBD export until ended by a signal or `liveblk qmp quit`. Prints "
      "the address for clients, and the control socket, which the other commands find by themselves. The "
      "runtime folder is $XDG_RUNTIME_DIR/liveblk, or /tmp/liveblk-UID.",
      serve_options, false, true,
      "liveblk serve disk.qcow2\n"
      "liveblk serve --detach --listen 127.0.0.1:10809 a.qcow2 b.img\n"
      "liveblk serve --detach --device /dev/nbd0 disk.qcow2   # mount /dev/nbd0p1 /mnt; liveblk qmp quit ends it\n"
      "liveblk serve --listen 0.0.0.0:10809 --tls /etc/pki/nbd disk.qcow2", cli_serve },
    { "mirror", "TARGET", 1, 1, "mirror a served disk to another place while it is in use",
      "Tells a running server to copy a disk to TARGET, a file, a device or an export of another server (nbd://...), and to "
      "keep both the same. Without --pivot or --stop "
      "it returns when both agree; the job goes on until `liveblk job complete` (go on with the target) or "
      "`liveblk job cancel --soft`. Interrupting this command leaves the job running.",
      mirror_options, true, false,
      "liveblk mirror --pivot /new/disk.qcow2   # move a disk while it is in use\n"
      "liveblk mirror --stop copy.img           # a consistent copy\n"
      "liveblk mirror --tls /etc/pki/nbd nbds://other.example/disk", cli_mirror },
    { "jobs", "", 0, 0, "list the jobs of a server",
      "Prints each job's name, kind, state and progress. JSON: a list as query-jobs returns it, with the fields of query-block-jobs where it has them.",
      jobs_options, true, false, "liveblk jobs --watch", cli_jobs },
    { "job", "VERB ID [RATE]", 2, 3, "pause, resume, cancel, complete, finalize, dismiss a job; set its speed",
      "VERB is one of pause, resume, cancel, complete, finalize, dismiss, speed. speed needs RATE, bytes a "
      "second; 0 is unlimited.",
      job_options, true, false,
      "liveblk job speed mirror-disk 50M\nliveblk job complete --wait mirror-disk", cli_job },
    { "graph", "", 0, 0, "draw the live graph of a server's nodes",
      "Shows nodes, exports and jobs, and who uses whom. JSON: as x-debug-query-block-graph returns it.",
      graph_options, true, false, "liveblk graph\nliveblk graph -f svg >graph.svg", cli_graph },
    { "qmp", "[COMMAND [KEY=VALUE...]]", 0, -1, "send a control command; without one: a shell",
      "Sends COMMAND with its arguments, given as KEY=VALUE (nested: addr.type=unix) or as one JSON object, and "
      "prints what is returned. Without COMMAND, commands are read line by line, from a terminal with "
      "editing, history and completion; events are shown as they come.",
      NULL, true, false,
      "liveblk qmp query-block-exports\n"
      "liveblk qmp block_resize node-name=disk size=2147483648\n"
      "echo query-jobs | liveblk qmp", cli_qmp },
    { "help", "[COMMAND]", 0, 1, "explain a command",
      "Prints the help of a command, its manual page, or a shell's completion script.",
      help_options, false, false, "liveblk help serve\nsource <(liveblk help --completion=bash)", cli_help },
    { NULL },
};
