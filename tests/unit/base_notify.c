/* SPDX-License-Identifier: MIT */
/* base_notify: lists that change while they are being notified; and the list loops that
 * allow removal. Notifiers are freed when removed, so that a sanitizer sees any late use. */
#include "base/osdep.h"
#include "base/notify.h"
#include "base/queue.h"

static GString *calls;      /* names of those called, in order */

typedef struct Named {
    Notifier notifier;
    char name;
    void (*action)(struct Named *self, void *data);
    struct Named *victim;
} Named;

static void named_notify(Notifier *notifier, void *data)
{
    Named *self = container_of(notifier, Named, notifier);

    g_string_append_c(calls, self->name);
    if (self->action) {
        self->action(self, data);
    }
}

static Named *named_new(NotifierList *list, char name, void (*action)(Named *, void *), Named *victim)
{
    Named *n = g_new0(Named, 1);

    n->notifier.notify = named_notify;
    n->name = name;
    n->action = action;
    n->victim = victim;
    notifier_list_add(list, &n->notifier);
    return n;
}

static void named_free(Named *n)
{
    notifier_remove(&n->notifier);
    g_free(n);
}

static void check_calls(NotifierList *list, const char *expected)
{
    calls = g_string_new(NULL);
    notifier_list_notify(list, list);
    g_assert_cmpstr(calls->str, ==, expected);
    g_string_free(calls, TRUE);
    g_assert_null(list->rounds);
}

static void remove_victim(Named *self, void *data)
{
    named_free(self->victim);
    self->action = NULL;
}

static void remove_self(Named *self, void *data)
{
    named_free(self);
}

static void add_two(Named *self, void *data)
{
    self->action = NULL;
    named_new(data, 'x', remove_self, NULL);
    named_new(data, 'y', remove_self, NULL);
}

/* Notify the list again; inside, the victim (next in both rounds) goes away. */
static void notify_again(Named *self, void *data)
{
    self->action = remove_victim;
    notifier_list_notify(data, data);
}

static void free_all(NotifierList *list)
{
    Notifier *n, *next;

    TAILQ_FOREACH_SAFE(n, &list->notifiers, link, next) {
        named_free(container_of(n, Named, notifier));
    }
    g_assert_true(notifier_list_empty(list));
}

static void test_order(void)
{
    NotifierList list;
    Named *b;

    notifier_list_init(&list);
    check_calls(&list, "");
    named_new(&list, 'a', NULL, NULL);
    b = named_new(&list, 'b', NULL, NULL);
    named_new(&list, 'c', NULL, NULL);
    check_calls(&list, "abc");
    notifier_remove(&b->notifier);
    notifier_remove(&b->notifier);      /* already out: nothing */
    check_calls(&list, "ac");
    notifier_list_add(&list, &b->notifier);
    check_calls(&list, "acb");
    free_all(&list);
}

static void test_remove_self(void)
{
    NotifierList list;

    notifier_list_init(&list);
    named_new(&list, 'a', remove_self, NULL);
    named_new(&list, 'b', NULL, NULL);
    named_new(&list, 'c', remove_self, NULL);
    check_calls(&list, "abc");
    check_calls(&list, "b");
    free_all(&list);
}

static void test_remove_others(void)
{
    NotifierList list;
    Named *a, *b;

    notifier_list_init(&list);
    a = named_new(&list, 'a', NULL, NULL);
    b = named_new(&list, 'b', NULL, NULL);
    a->action = remove_victim;          /* the one that would come next */
    a->victim = b;
    named_new(&list, 'c', remove_victim, a);    /* one that has been called */
    check_calls(&list, "ac");
    check_calls(&list, "c");
    free_all(&list);
}

static void test_add(void)
{
    NotifierList list;

    notifier_list_init(&list);
    named_new(&list, 'a', NULL, NULL);
    named_new(&list, 'b', add_two, NULL);
    check_calls(&list, "ab");
    check_calls(&list, "abxy");
    check_calls(&list, "ab");
    free_all(&list);
}

static void test_nested(void)
{
    NotifierList list;
    Named *a, *b;

    notifier_list_init(&list);
    a = named_new(&list, 'a', notify_again, NULL);
    b = named_new(&list, 'b', NULL, NULL);
    named_new(&list, 'c', NULL, NULL);
    a->victim = b;
    check_calls(&list, "aacc");
    free_all(&list);
}

typedef struct Item {
    int n;
    TAILQ_ENTRY(Item) tail;
    LIST_ENTRY(Item) list;
    STAILQ_ENTRY(Item) stail;
    SLIST_ENTRY(Item) slist;
} Item;

/* Each loop removes and frees what it visits; the other lists are not looked at then. */
static void test_loops_with_removal(void)
{
    TAILQ_HEAD(ItemTail, Item) tail = TAILQ_HEAD_INITIALIZER(tail);
    QLIST_HEAD(, Item) list = LIST_HEAD_INITIALIZER(list);
    STAILQ_HEAD(, Item) stail = STAILQ_HEAD_INITIALIZER(stail);
    SLIST_HEAD(, Item) slist = SLIST_HEAD_INITIALIZER(slist);
    Item *item, *next;
    int seen;

    for (int loop = 0; loop < 5; loop++) {
        TAILQ_INIT(&tail);
        LIST_INIT(&list);
        STAILQ_INIT(&stail);
        SLIST_INIT(&slist);
        for (int i = 0; i < 4; i++) {
            item = g_new0(Item, 1);
            item->n = i;
            TAILQ_INSERT_TAIL(&tail, item, tail);
            LIST_INSERT_HEAD(&list, item, list);
            STAILQ_INSERT_TAIL(&stail, item, stail);
            SLIST_INSERT_HEAD(&slist, item, slist);
        }
        seen = 0;
        switch (loop) {
        case 0:
            TAILQ_FOREACH_SAFE(item, &tail, tail, next) {
                g_assert_cmpint(item->n, ==, seen++);
                TAILQ_REMOVE(&tail, item, tail);
                g_free(item);
            }
            break;
        case 1:
            TAILQ_FOREACH_REVERSE_SAFE(item, &tail, ItemTail, tail, next) {
                g_assert_cmpint(item->n, ==, 3 - seen++);
                TAILQ_REMOVE(&tail, item, tail);
                g_free(item);
            }
            break;
        case 2:
            LIST_FOREACH_SAFE(item, &list, list, next) {
                g_assert_cmpint(item->n, ==, 3 - seen++);
                LIST_REMOVE(item, list);
                g_free(item);
            }
            break;
        case 3:
            STAILQ_FOREACH_SAFE(item, &stail, stail, next) {
                g_assert_cmpint(item->n, ==, seen++);
                STAILQ_REMOVE_HEAD(&stail, stail);
                g_free(item);
            }
            break;
        case 4:
            SLIST_FOREACH_SAFE(item, &slist, slist, next) {
                g_assert_cmpint(item->n, ==, 3 - seen++);
                SLIST_REMOVE_HEAD(&slist, slist);
                g_free(item);
            }
            break;
        }
        g_assert_cmpint(seen, ==, 4);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/notify/order", test_order);
    g_test_add_func("/notify/remove-self", test_remove_self);
    g_test_add_func("/notify/remove-others", test_remove_others);
    g_test_add_func("/notify/add", test_add);
    g_test_add_func("/notify/nested", test_nested);
    g_test_add_func("/queue/loops-with-removal", test_loops_with_removal);
    return g_test_run();
}
