/* SPDX-License-Identifier: MIT */
/* model.c: see model.h. */
#include "model.h"
#include "sim.h"

void model_init(Model *m, int64_t n)
{
    *m = (Model) { .n = n, .sectors = g_new0(ModelSector, n), .next_value = 1 };
    for (int64_t i = 0; i < n; i++) {
        m->sectors[i].values = g_array_new(false, false, sizeof(ModelValue));
        model_set(m, i, 0);
    }
}

void model_free(Model *m)
{
    for (int64_t i = 0; i < m->n; i++) {
        g_array_unref(m->sectors[i].values);
    }
    g_free(m->sectors);
}

void model_set(Model *m, int64_t at, uint64_t value)
{
    ModelSector *s = &m->sectors[at];
    ModelValue v = { .value = value, .begun = m->clock, .ended = m->clock, .acked = true };

    g_array_set_size(s->values, 0);
    g_array_append_val(s->values, v);
    s->known = s->durable = m->clock;
}

void model_resize(Model *m, int64_t n)
{
    int64_t old = m->n;

    for (int64_t i = n; i < old; i++) {
        g_array_unref(m->sectors[i].values);
    }
    m->sectors = g_renew(ModelSector, m->sectors, n);
    m->n = n;
    for (int64_t i = old; i < n; i++) {
        m->sectors[i] = (ModelSector) { .values = g_array_new(false, false, sizeof(ModelValue)) };
        model_set(m, i, 0);
    }
}

static void sector_purge(ModelSector *s)
{
    guint to = 0;

    if (s->readers) {
        return;
    }
    for (guint i = 0; i < s->values->len; i++) {
        ModelValue v = g_array_index(s->values, ModelValue, i);

        if (v.ended >= s->durable || v.ended >= s->known) {
            g_array_index(s->values, ModelValue, to++) = v;
        }
    }
    g_array_set_size(s->values, to);
}

uint64_t model_write_begin(Model *m, int64_t at, int64_t n, uint64_t value)
{
    ModelValue v = { .value = value, .begun = ++m->clock, .ended = UINT64_MAX };

    m->in_flight++;
    for (int64_t i = at; i < at + n; i++) {
        g_array_append_val(m->sectors[i].values, v);
    }
    return v.begun;
}

void model_write_end(Model *m, int64_t at, int64_t n, uint64_t begun, bool acked, bool durable)
{
    uint64_t now = ++m->clock;

    m->in_flight--;
    for (int64_t i = at; i < at + n; i++) {
        ModelSector *s = &m->sectors[i];

        for (guint k = 0; k < s->values->len; k++) {
            ModelValue *v = &g_array_index(s->values, ModelValue, k);

            if (v->begun == begun && v->ended == UINT64_MAX) {
                v->ended = now;
                v->acked = acked;
            }
        }
        if (acked) {
            s->known = MAX(s->known, begun);
            if (durable) {
                s->durable = MAX(s->durable, begun);
            }
            sector_purge(s);
        }
    }
}

uint64_t *model_read_begin(Model *m, int64_t at, int64_t n)
{
    uint64_t *seen = g_new(uint64_t, n);

    for (int64_t i = 0; i < n; i++) {
        m->sectors[at + i].readers++;
        seen[i] = m->sectors[at + i].known;
    }
    return seen;
}

static uint64_t sector_value(const uint8_t *buf, int64_t at, const char *who)
{
    uint64_t first, value;

    memcpy(&first, buf, 8);
    for (int i = 8; i < SECTOR; i += 8) {
        memcpy(&value, buf + i, 8);
        if (value != first) {
            sim_fail("%s: sector %" PRId64 " holds parts of %" PRIu64 " and, at byte %d, %" PRIu64, who, at,
                     first, i, value);
        }
    }
    return first;
}

/* May @s hold @value where nothing before @since counts? */
static bool sector_may_hold(const ModelSector *s, uint64_t value, uint64_t since)
{
    for (guint k = 0; k < s->values->len; k++) {
        const ModelValue *v = &g_array_index(s->values, ModelValue, k);

        if (v->value == value && v->ended >= since) {
            return true;
        }
    }
    return false;
}

G_NORETURN static void sector_wrong(const ModelSector *s, int64_t at, uint64_t value, const char *who)
{
    for (guint k = 0; k < s->values->len; k++) {
        const ModelValue *v = &g_array_index(s->values, ModelValue, k);

        sim_trace("sector %" PRId64 ": value %" PRIu64 " from %" PRIu64 " to %" PRId64 "%s", at, v->value, v->begun,
                  (int64_t)v->ended, v->acked ? ", acknowledged" : "");
    }
    sim_fail("%s: sector %" PRId64 " holds %" PRIu64 ", which it cannot (known from %" PRIu64 ", durable %" PRIu64 ")",
             who, at, value, s->known, s->durable);
}

void model_read_end(Model *m, int64_t at, int64_t n, uint64_t *seen, const uint8_t *buf, const char *who)
{
    for (int64_t i = 0; i < n; i++) {
        ModelSector *s = &m->sectors[at + i];

        if (buf) {
            uint64_t value = sector_value(buf + i * SECTOR, at + i, who);

            if (!sector_may_hold(s, value, seen[i])) {
                sector_wrong(s, at + i, value, who);
            }
        }
        s->readers--;
    }
    g_free(seen);
}

uint64_t model_flush_begin(Model *m)
{
    return ++m->clock;
}

void model_flush_end(Model *m, uint64_t begun)
{
    for (int64_t i = 0; i < m->n; i++) {
        ModelSector *s = &m->sectors[i];

        for (guint k = 0; k < s->values->len; k++) {
            const ModelValue *v = &g_array_index(s->values, ModelValue, k);

            if (v->acked && v->ended < begun) {
                s->durable = MAX(s->durable, v->begun);
            }
        }
        sector_purge(s);
    }
}

void model_adopt_crashed(Model *m, const uint8_t *buf, const char *who)
{
    g_assert_cmpuint(m->in_flight, ==, 0);
    m->clock++;
    for (int64_t i = 0; i < m->n; i++) {
        uint64_t value = sector_value(buf + i * SECTOR, i, who);

        if (!sector_may_hold(&m->sectors[i], value, m->sectors[i].durable)) {
            sector_wrong(&m->sectors[i], i, value, who);
        }
        model_set(m, i, value);
    }
}

void model_fill(uint8_t *buf, int64_t n, uint64_t value)
{
    for (int64_t i = 0; i < n * SECTOR / 8; i++) {
        memcpy(buf + i * 8, &value, 8);
    }
}
