/* SPDX-License-Identifier: MIT */
/* check_counts.c: counters of references, in pages that are made when needed and start with a
 * byte a counter: a sparse or cut-off table of contents costs little. See check.h. Any thread. */
#include "drivers/format/qcow2/check.h"

/* Of pages: 2^48 bytes of the smallest clusters. A file may claim to be longer than anybody can fill. */
#define PAGES_MAX (UINT64_C(1) << 27)

bool check_counts_init(CheckCounts *c, uint64_t clusters)
{
    c->n_pages = (clusters >> CHECK_PAGE_BITS) + 1;
    c->n_made = 0;
    c->pages = c->n_pages <= PAGES_MAX ? g_try_new0(CheckPage *, c->n_pages) : NULL;
    return c->pages;
}

bool check_counts_grow(CheckCounts *c, uint64_t clusters)
{
    uint64_t n = (clusters >> CHECK_PAGE_BITS) + 1;

    if (n > c->n_pages) {
        CheckPage **pages = n <= PAGES_MAX ? g_try_renew(CheckPage *, c->pages, n) : NULL;

        if (!pages) {
            return false;
        }
        memset(pages + c->n_pages, 0, (n - c->n_pages) * sizeof(*pages));
        c->pages = pages;
        c->n_pages = n;
    }
    return true;
}

void check_counts_free(CheckCounts *c)
{
    for (uint64_t i = 0; c->pages && i < c->n_pages; i++) {
        if (c->pages[i]) {
            g_free(c->pages[i]->count);
            g_free(c->pages[i]);
        }
    }
    g_clear_pointer(&c->pages, g_free);
}

CheckPage *check_counts_page(CheckCounts *c, uint64_t cluster)
{
    uint64_t i = cluster >> CHECK_PAGE_BITS;

    g_assert(i < c->n_pages);
    if (!c->pages[i]) {
        c->pages[i] = g_new0(CheckPage, 1);
        c->n_made++;
        c->pages[i]->count = g_malloc0(CHECK_PAGE);
    }
    return c->pages[i];
}

uint32_t check_page_get(const CheckPage *p, unsigned i)
{
    switch (p->order) {
    case 0:
        return ((const uint8_t *)p->count)[i];
    case 1:
        return ((const uint16_t *)p->count)[i];
    default:
        return ((const uint32_t *)p->count)[i];
    }
}

static void page_set(CheckPage *p, unsigned i, uint32_t v)
{
    while (p->order < 2 && v > (p->order ? UINT16_MAX : UINT8_MAX)) {
        CheckPage wide = { .order = p->order + 1, .count = g_malloc(CHECK_PAGE << (p->order + 1)) };

        for (unsigned k = 0; k < CHECK_PAGE; k++) {
            page_set(&wide, k, check_page_get(p, k));
        }
        g_free(p->count);
        p->count = wide.count;
        p->order = wide.order;
    }
    switch (p->order) {
    case 0:
        ((uint8_t *)p->count)[i] = v;
        break;
    case 1:
        ((uint16_t *)p->count)[i] = v;
        break;
    default:
        ((uint32_t *)p->count)[i] = v;
        break;
    }
}

void check_counts_add(CheckCounts *c, uint64_t cluster, uint32_t n)
{
    CheckPage *p = check_counts_page(c, cluster);
    unsigned i = cluster & (CHECK_PAGE - 1);
    uint32_t old = check_page_get(p, i);

    page_set(p, i, old + MIN(n, UINT32_MAX - old));
}

void check_counts_sub(CheckCounts *c, uint64_t cluster, uint32_t n)
{
    CheckPage *p = check_counts_page(c, cluster);
    unsigned i = cluster & (CHECK_PAGE - 1);
    uint32_t old = check_page_get(p, i);

    g_assert(old >= n);
    page_set(p, i, old - n);
}

uint32_t check_counts_get(const CheckCounts *c, uint64_t cluster)
{
    uint64_t i = cluster >> CHECK_PAGE_BITS;

    return i < c->n_pages && c->pages[i] ? check_page_get(c->pages[i], cluster & (CHECK_PAGE - 1)) : 0;
}
