/* SPDX-License-Identifier: MIT */
/* notify.h: lists of functions to call when something happens.
 *
 * The caller embeds a Notifier in its own structure and keeps it alive while it is in a
 * list. Calls come in the order of adding.
 *
 * While a list is being notified, a notifier may remove and free itself, remove any other
 * one (which is then not called any more), add new ones (called from the next time on),
 * and notify the same list again. It must not free the list.
 *
 * Use:       n->notify = on_close; notifier_list_add(&bs->close_notifiers, n);
 *            notifier_list_notify(&bs->close_notifiers, data);
 * Runs on:   any thread. No lock inside: one thread, or the caller's lock.
 * Fails:     never. Suspends only if a notifier does.
 */
#ifndef LIVEBLK_BASE_NOTIFY_H
#define LIVEBLK_BASE_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "block/queue.h"

typedef struct Notifier Notifier;
typedef struct NotifierList NotifierList;
typedef struct NotifierRound NotifierRound;

struct Notifier {
    void (*notify)(Notifier *notifier, void *data);
    /* The list's own: */
    NotifierList *list;         /* NULL: in none */
    uint64_t added;             /* value of list->added then */
    TAILQ_ENTRY(Notifier) link;
};

struct NotifierList {
    TAILQ_HEAD(, Notifier) notifiers;
    NotifierRound *rounds;      /* those going on, innermost first */
    uint64_t added;             /* how many were ever added */
};

/* One notifier_list_notify() that is going on; lives on its stack. */
struct NotifierRound {
    Notifier *next;             /* to be called next */
    NotifierRound *outer;
};

static inline void notifier_list_init(NotifierList *list)
{
    TAILQ_INIT(&list->notifiers);
    list->rounds = NULL;
    list->added = 0;
}

static inline bool notifier_list_empty(const NotifierList *list)
{
    return TAILQ_EMPTY(&list->notifiers);
}

/* @notifier->notify must be set, and it must be in no list. */
static inline void notifier_list_add(NotifierList *list, Notifier *notifier)
{
    notifier->list = list;
    notifier->added = ++list->added;
    TAILQ_INSERT_TAIL(&list->notifiers, notifier, link);
}

/* Nothing happens if it is in no list (list NULL, as in zeroed memory). */
static inline void notifier_remove(Notifier *notifier)
{
    if (!notifier->list) {
        return;
    }
    for (NotifierRound *round = notifier->list->rounds; round; round = round->outer) {
        if (round->next == notifier) {
            round->next = TAILQ_NEXT(notifier, link);
        }
    }
    TAILQ_REMOVE(&notifier->list->notifiers, notifier, link);
    notifier->list = NULL;
}

static inline void notifier_list_notify(NotifierList *list, void *data)
{
    NotifierRound round = { TAILQ_FIRST(&list->notifiers), list->rounds };
    uint64_t last = list->added;

    list->rounds = &round;
    while (round.next && round.next->added <= last) {
        Notifier *notifier = round.next;

        round.next = TAILQ_NEXT(notifier, link);
        notifier->notify(notifier, data);
    }
    list->rounds = round.outer;
}

#endif
