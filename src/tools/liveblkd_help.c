/* SPDX-License-Identifier: MIT */
/* liveblkd_help.c: see liveblkd_help.h. */
#include "liveblkd_help.h"
#include "base/osdep.h"
#include "trace_option.h"
#include "troff.h"

typedef struct DaemonOption {
    const char *forms;      /* lines as they are to be written */
    const char *help;
    const char *more;       /* only in the manual */
} DaemonOption;

static const DaemonOption options[] = {
    { "-h, --help", "display this help and exit", NULL },
    { "-T, --trace " TRACE_OPTION_FORM, "specify tracing options",
      "Tells what happens inside, on standard error or in a file: a pattern names modules (`*` for all), `help` lists "
      "them. The module host says how I/O reaches the kernel: io_uring, or threads where that is refused." },
    { "-V, --version", "output version information and exit", NULL },
    { "--blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]\n"
      "           [,cache.direct=on|off][,cache.no-flush=on|off]\n"
      "           [,read-only=on|off][,auto-read-only=on|off]\n"
      "           [,force-share=on|off][,detect-zeroes=on|off|unmap]\n"
      "           [,driver specific parameters...]", "configure a block backend",
      "The same as the QMP command blockdev-add; its arguments are in qmp-reference.md. A value may also be a JSON "
      "object." },
    { "--chardev <options>",
      "configure a character device backend: stdio,id=ID or\nsocket,id=ID,path=PATH|host=H,port=P,server=on,wait=off",
      "A monitor talks through it." },
    { "--daemonize", "daemonize the process, and have the parent exit\nonce startup is complete",
      "What fails until then is still told on standard error, and by the parent's exit status." },
    { "--export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]\n"
      "         [,writable=on|off][,iothread=<id>][,writethrough=on|off]",
      "export the specified block node over NBD\n(requires --nbd-server)", NULL },
    { "--monitor [chardev=]name[,mode=control][,pretty[=on|off]]", "configure a QMP monitor", NULL },
    { "--nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>\n"
      "--nbd-server addr.type=unix,addr.path=<path>", "start an NBD server for exporting block nodes",
      "Plain text: over TCP in trusted networks only." },
    { "--object iothread,id=<id>[,poll-max-ns=<ns>]", "create a thread for exports to run in", NULL },
    { "--pidfile <path>", "write process ID to a file after startup", NULL },
    { NULL },
};

/* Each line of @text after @indent spaces. */
static void print_lines(const char *text, int indent)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        printf("%*s%s\n", indent, "", *l);
    }
}

void liveblkd_help(const char *prog)
{
    printf("Usage: %s [options]\n"
           "Live block operations for disk images: nodes, jobs and exports, over QMP\n\n", prog);
    for (const DaemonOption *o = options; o->forms; o++) {
        const char *rest = o->help;

        if (strlen(o->forms) <= 22) {       /* the help begins beside it */
            int n = strcspn(rest, "\n");

            printf("  %-22s %.*s\n", o->forms, n, rest);
            rest += n + (rest[n] != '\0');
        } else {
            print_lines(o->forms, 2);
        }
        if (*rest) {
            print_lines(rest, 25);
        }
        if (o[1].forms && (o->forms[1] == '-' || o[1].forms[1] == '-')) {
            printf("\n");
        }
    }
}

void liveblkd_manual(void)
{
    troff_begin("liveblkd", "live block operations on disk images: the daemon");
    printf(".SH SYNOPSIS\n.B liveblkd\n[\\fIOPTION\\fR]...\n.SH DESCRIPTION\n");
    troff_text("Serves disk images over NBD and works on them while they are in use: mirrors them to other files and "
               "goes on there. It is controlled over QMP, by programs and by liveblk(1). Its options are those of "
               "qemu-storage-daemon, and are applied in the order given.");
    printf(".SH OPTIONS\n");
    for (const DaemonOption *o = options; o->forms; o++) {
        g_autofree char *help = g_strdelimit(g_strdup(o->help), "\n", ' ');

        printf(".TP\n");
        troff_heading(o->forms);
        *help = g_ascii_toupper(*help);
        g_autofree char *text = g_strconcat(help, ".", o->more ? " " : "", o->more, NULL);

        troff_text(text);
    }
    printf(".SH SIGNALS\n");
    troff_text("SIGTERM, SIGINT and SIGHUP end it in order: exports are closed, jobs cancelled, caches written out.");
    printf(".SH ENVIRONMENT\n.TP\n.B LIVEBLK_HOST\n");
    troff_text("How files are read and written: io_uring or threads. Default: io_uring where the kernel has it.");
    printf(".SH EXIT STATUS\n");
    troff_text("0: ended as asked. 1: could not start; the message says why.");
    printf(".SH EXAMPLES\n.nf\n");
    troff_verbatim("liveblkd --blockdev driver=file,node-name=f,filename=disk.raw \\\n"
                   "    --blockdev driver=raw,node-name=disk,file=f \\\n"
                   "    --nbd-server addr.type=unix,addr.path=nbd.sock \\\n"
                   "    --export nbd,id=e,node-name=disk,writable=on \\\n"
                   "    --chardev stdio,id=c --monitor c");
    printf(".fi\n.SH SEE ALSO\n.BR liveblk (1)\n");
}
