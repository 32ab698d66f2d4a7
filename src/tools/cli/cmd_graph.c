/* SPDX-License-Identifier: MIT */
/* cmd_graph.c: the live graph of a server as a tree of text, for Graphviz, or as a picture.
 *
 * The picture: nodes in layers, each below all its parents (longest path); in a layer in the order
 * of the middle of their parents (one sweep of the barycentre method).
 */
#include "cli/cli.h"
#include "cli/client.h"

typedef struct GNodeInfo {
    int64_t id;
    const char *name, *type;
    int layer;
    double wish;                /* middle of its parents */
    double x, y;
    bool child;                 /* has a parent */
} GNodeInfo;

typedef struct GEdgeInfo {
    GNodeInfo *parent, *child;
    const char *name;
} GEdgeInfo;

typedef struct Graph {
    GArray *nodes, *edges;
} Graph;

static GNodeInfo *graph_find(Graph *g, int64_t id)
{
    for (guint i = 0; i < g->nodes->len; i++) {
        GNodeInfo *n = &g_array_index(g->nodes, GNodeInfo, i);

        if (n->id == id) {
            return n;
        }
    }
    return NULL;
}

/* @json stays while @g is used. */
static void graph_read(Graph *g, QDict *json)
{
    QDict *nodes = qdict_get_qlist(json, "nodes"), *edges = qdict_get_qlist(json, "edges");

    g->nodes = g_array_new(false, true, sizeof(GNodeInfo));
    g->edges = g_array_new(false, true, sizeof(GEdgeInfo));
    for (size_t i = 0; nodes && i < qlist_size(nodes); i++) {
        QDict *d = qlist_get(nodes, i);
        GNodeInfo n = { .id = qdict_get_try_int(d, "id", 0), .name = qdict_get_try_str(d, "name"),
                        .type = qdict_get_try_str(d, "type") };

        n.name = n.name ? n.name : "";
        n.type = n.type ? n.type : "";
        g_array_append_val(g->nodes, n);
    }
    for (size_t i = 0; edges && i < qlist_size(edges); i++) {
        QDict *d = qlist_get(edges, i);
        GEdgeInfo e = { graph_find(g, qdict_get_try_int(d, "parent", 0)),
                        graph_find(g, qdict_get_try_int(d, "child", 0)), qdict_get_try_str(d, "name") };

        if (e.parent && e.child) {
            e.child->child = true;
            e.name = e.name ? e.name : "";
            g_array_append_val(g->edges, e);
        }
    }
}

static const char *kind_of(const GNodeInfo *n)
{
    return !strcmp(n->type, "block-job") ? "job" : !strcmp(n->type, "export") ? "export"
           : !strcmp(n->type, "block-backend") ? "user" : "node";
}

/* ---- text ---- */

static void text_node(Graph *g, const GNodeInfo *n, const char *edge, int depth)
{
    printf("%*s%s%s%s%s%s\n", 2 * depth, "", edge, *edge ? ": " : "", *n->name ? n->name : "(unnamed)",
           strcmp(kind_of(n), "node") ? " - " : "", strcmp(kind_of(n), "node") ? kind_of(n) : "");
    for (guint i = 0; depth < 1000 && i < g->edges->len; i++) {
        GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, i);

        if (e->parent == n) {
            text_node(g, e->child, e->name, depth + 1);
        }
    }
}

static void print_text(Graph *g)
{
    for (guint i = 0; i < g->nodes->len; i++) {
        GNodeInfo *n = &g_array_index(g->nodes, GNodeInfo, i);

        if (!n->child) {
            text_node(g, n, "", 0);
        }
    }
}

/* ---- Graphviz ---- */

static char *dot_escape(const char *text)
{
    g_auto(GStrv) a = g_strsplit(text, "\\", -1);
    g_autofree char *b = g_strjoinv("\\\\", a);
    g_auto(GStrv) c = g_strsplit(b, "\"", -1);

    return g_strjoinv("\\\"", c);
}

static void print_dot(Graph *g)
{
    printf("digraph liveblk {\n    node [fontname=\"sans-serif\"];\n");
    for (guint i = 0; i < g->nodes->len; i++) {
        GNodeInfo *n = &g_array_index(g->nodes, GNodeInfo, i);
        g_autofree char *name = dot_escape(*n->name ? n->name : "(unnamed)");
        const char *kind = kind_of(n);

        printf("    n%" PRId64 " [label=\"%s\", shape=%s];\n", n->id, name,
               !strcmp(kind, "job") ? "octagon" : strcmp(kind, "node") ? "ellipse" : "box");
    }
    for (guint i = 0; i < g->edges->len; i++) {
        GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, i);
        g_autofree char *name = dot_escape(e->name);

        printf("    n%" PRId64 " -> n%" PRId64 " [label=\"%s\"];\n", e->parent->id, e->child->id, name);
    }
    printf("}\n");
}

/* ---- a picture ---- */

#define BOX_W   190
#define BOX_H   40
#define GAP_X   30
#define GAP_Y   60

/* Longest path from a root; the graph has no cycles, so that as many rounds as nodes are enough. */
static int layers(Graph *g)
{
    int last = 0;
    bool moved = true;

    for (guint round = 0; moved && round <= g->nodes->len; round++) {
        moved = false;
        for (guint i = 0; i < g->edges->len; i++) {
            GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, i);

            if (e->child->layer <= e->parent->layer) {
                e->child->layer = e->parent->layer + 1;
                last = MAX(last, e->child->layer);
                moved = true;
            }
        }
    }
    return last + 1;
}

static gint by_wish(gconstpointer a, gconstpointer b)
{
    const GNodeInfo *x = *(GNodeInfo *const *)a, *y = *(GNodeInfo *const *)b;

    return x->wish < y->wish ? -1 : x->wish > y->wish;
}

/* Places; the width of the picture. */
static double place(Graph *g, int n_layers)
{
    double width = 0;

    for (int l = 0; l < n_layers; l++) {
        g_autoptr(GPtrArray) row = g_ptr_array_new();

        for (guint i = 0; i < g->nodes->len; i++) {
            GNodeInfo *n = &g_array_index(g->nodes, GNodeInfo, i);
            double sum = 0;
            int parents = 0;

            if (n->layer != l) {
                continue;
            }
            for (guint k = 0; k < g->edges->len; k++) {
                GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, k);

                if (e->child == n) {
                    sum += e->parent->x;
                    parents++;
                }
            }
            n->wish = parents ? sum / parents : 1e9;
            g_ptr_array_add(row, n);
        }
        g_ptr_array_sort(row, by_wish);
        for (guint i = 0; i < row->len; i++) {
            GNodeInfo *n = g_ptr_array_index(row, i);

            n->x = GAP_X + i * (BOX_W + GAP_X);
            n->y = GAP_Y / 2.0 + l * (BOX_H + GAP_Y);
            width = MAX(width, n->x + BOX_W + GAP_X);
        }
    }
    return width;
}

static void print_svg(Graph *g)
{
    int n_layers = layers(g);
    double width = place(g, n_layers), height = n_layers * (BOX_H + GAP_Y);

    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" "
           "font-size=\"12\">\n<defs><marker id=\"arrow\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"3\" "
           "orient=\"auto\"><path d=\"M0,0 L7,3 L0,6 z\"/></marker></defs>\n", width, height);
    for (guint i = 0; i < g->edges->len; i++) {
        GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, i);
        g_autofree char *name = g_markup_escape_text(e->name, -1);
        double x1 = e->parent->x + BOX_W / 2.0, y1 = e->parent->y + BOX_H, x2 = e->child->x + BOX_W / 2.0, y2 = e->child->y;

        printf("<line x1=\"%.0f\" y1=\"%.0f\" x2=\"%.0f\" y2=\"%.0f\" stroke=\"black\" marker-end=\"url(#arrow)\"/>"
               "<text x=\"%.0f\" y=\"%.0f\" fill=\"#555\">%s</text>\n", x1, y1, x2, y2,
               (x1 + x2) / 2 + 4, (y1 + y2) / 2, name);
    }
    for (guint i = 0; i < g->nodes->len; i++) {
        GNodeInfo *n = &g_array_index(g->nodes, GNodeInfo, i);
        const char *kind = kind_of(n);
        g_autofree char *name = g_markup_escape_text(*n->name ? n->name : "(unnamed)", -1);

        printf("<rect x=\"%.0f\" y=\"%.0f\" width=\"%d\" height=\"%d\" rx=\"%d\" fill=\"%s\" stroke=\"black\"/>"
               "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">%s</text>\n", n->x, n->y, BOX_W, BOX_H,
               strcmp(kind, "node") ? 18 : 3, !strcmp(kind, "job") ? "#fde7c8" : strcmp(kind, "node") ? "#d6eaf8" : "#f4f4f4",
               n->x + BOX_W / 2.0, n->y + BOX_H / 2.0 + 4, name);
    }
    printf("</svg>\n");
}

/* What uses a node without being one has no name of its own there: give exports theirs. An export's
 * user is one of those whose root is the export's node; which of several does not matter. */
static void name_exports(Graph *g, QDict *exports)
{
    for (size_t i = 0; i < qlist_size(exports); i++) {
        QDict *x = qlist_get(exports, i);

        for (guint k = 0; k < g->edges->len; k++) {
            GEdgeInfo *e = &g_array_index(g->edges, GEdgeInfo, k);

            if (!*e->parent->name && !strcmp(kind_of(e->parent), "user") &&
                !g_strcmp0(qdict_get_try_str(x, "node-name"), e->child->name)) {
                e->parent->name = qdict_get_try_str(x, "id");
                e->parent->type = "export";
                break;
            }
        }
    }
}

int cli_graph(CliArgs *a)
{
    const char *format = cli_get(a, "format");
    Error *err = NULL;
    Client *c = client_open(a, &err);
    g_autoptr(QDict) json = c ? client_call(c, "x-debug-query-block-graph", NULL, &err) : NULL;
    g_autoptr(QDict) exports = json ? client_call(c, "query-block-exports", NULL, &err) : NULL;

    client_close(c);
    if (!exports) {
        return cli_fail(err);
    }
    if (a->json) {
        cli_print_json(g_steal_pointer(&json));
        return CLI_OK;
    }
    Graph g;

    graph_read(&g, json);
    name_exports(&g, exports);
    if (!g_strcmp0(format, "dot")) {
        print_dot(&g);
    } else if (!g_strcmp0(format, "svg")) {
        print_svg(&g);
    } else {
        print_text(&g);
    }
    g_array_free(g.nodes, true);
    g_array_free(g.edges, true);
    return CLI_OK;
}
