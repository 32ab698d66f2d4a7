/* SPDX-License-Identifier: MIT */
/* queue.h: intrusive lists, as far as public headers need them.
 *
 * The lists are those of <sys/queue.h>; the type argument is a structure tag.
 * Added are the loops in which the current element may be removed, and the Q*
 * spelling that blockjob.h uses for its links.
 */
#ifndef LIVEBLK_BLOCK_QUEUE_H
#define LIVEBLK_BLOCK_QUEUE_H

#include <sys/queue.h>

/* Loops that survive the removal (also the freeing) of @var, the current
 * element, but not that of the next one, which @next holds. */
#ifndef LIST_FOREACH_SAFE
#define LIST_FOREACH_SAFE(var, head, field, next)                   \
    for ((var) = LIST_FIRST(head);                                  \
         (var) && ((next) = LIST_NEXT((var), field), 1);            \
         (var) = (next))
#endif
#ifndef SLIST_FOREACH_SAFE
#define SLIST_FOREACH_SAFE(var, head, field, next)                  \
    for ((var) = SLIST_FIRST(head);                                 \
         (var) && ((next) = SLIST_NEXT((var), field), 1);           \
         (var) = (next))
#endif
#ifndef STAILQ_FOREACH_SAFE
#define STAILQ_FOREACH_SAFE(var, head, field, next)                 \
    for ((var) = STAILQ_FIRST(head);                                \
         (var) && ((next) = STAILQ_NEXT((var), field), 1);          \
         (var) = (next))
#endif
#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, next)                  \
    for ((var) = TAILQ_FIRST(head);                                 \
         (var) && ((next) = TAILQ_NEXT((var), field), 1);           \
         (var) = (next))
#endif
#ifndef TAILQ_FOREACH_REVERSE_SAFE
#define TAILQ_FOREACH_REVERSE_SAFE(var, head, headname, field, prev) \
    for ((var) = TAILQ_LAST(head, headname);                        \
         (var) && ((prev) = TAILQ_PREV((var), headname, field), 1); \
         (var) = (prev))
#endif

#define QLIST_HEAD(name, type)  LIST_HEAD(name, type)
#define QLIST_ENTRY(type)       LIST_ENTRY(type)
#define QTAILQ_HEAD(name, type) TAILQ_HEAD(name, type)
#define QTAILQ_ENTRY(type)      TAILQ_ENTRY(type)

#endif
