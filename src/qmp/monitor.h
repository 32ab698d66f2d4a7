/* SPDX-License-Identifier: MIT */
/* monitor.h: the control protocol: sessions with clients, without sockets.
 *
 * A Monitor takes bytes (monitor_feed), cuts them into JSON values, runs commands one at a
 * time in its own coroutine under the control lock, and hands replies and events to the
 * owner's `output`. Main thread.
 */
#ifndef LIVEBLK_QMP_MONITOR_H
#define LIVEBLK_QMP_MONITOR_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Monitor Monitor;

/* @output: bytes for the client, to be sent or kept by the owner. Sends the greeting. */
Monitor *monitor_new(bool pretty, void (*output)(void *opaque, const char *text, size_t len), void *opaque);
/* The client is gone: queued commands are dropped, one that runs ends unheard. */
void monitor_free(Monitor *mon);
void monitor_feed(Monitor *mon, const char *bytes, size_t len);
/* Commands are waiting: read no more for now. */
bool monitor_is_full(const Monitor *mon);
/* Called when monitor_is_full() has become false. */
void monitor_set_ready_cb(Monitor *mon, void (*ready)(void *opaque));

/* `quit` was asked for: the program shuts down, then answers it. */
bool monitor_quit_requested(void);
void monitor_request_quit(void);
void monitor_answer_quit(void);

/* Commands of human-monitor-command that still wait give up, their requests go on; and wait, a second at
 * most, until they have let go of their nodes. Main thread, outside coroutines. */
void human_monitor_end(void);

#endif
