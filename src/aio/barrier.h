/* SPDX-License-Identifier: MIT */
/* barrier.h: a full barrier that the thread checker understands too.
 *
 * TSan does not know fences (and the compiler says so); an exchange on a variable nobody
 * else uses orders the same, and it does know it.
 */
#ifndef LIVEBLK_AIO_BARRIER_H
#define LIVEBLK_AIO_BARRIER_H

#if defined(__SANITIZE_THREAD__)
#define AIO_MB_BY_EXCHANGE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define AIO_MB_BY_EXCHANGE 1
#endif
#endif

static inline void aio_mb(void)
{
#ifdef AIO_MB_BY_EXCHANGE
    unsigned dummy = 0;

    __atomic_exchange_n(&dummy, 1, __ATOMIC_SEQ_CST);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
