/* kqueue(2) on Linux, as much of it as reactor.pollers.kqueue uses, for tests only.
 *
 * Owns: one table for each queue, of what was asked of each descriptor.  May not touch: what a
 * descriptor is.  Invariant: a filter that is in the table is in the epoll set.
 *
 * Written from the manual page of kqueue(2), since libkqueue is not in Debian any more.  What
 * the real one does and this does not: EV_CLEAR, EV_ONESHOT, other filters, `data` and `fflags`
 * of an event, and forgetting a descriptor that is closed while a duplicate of it lives.
 */
#ifndef CYREACTOR_KQUEUE_ON_EPOLL
#define CYREACTOR_KQUEUE_ON_EPOLL

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVFILT_READ (-1)
#define EVFILT_WRITE (-2)
#define EV_ADD 0x0001
#define EV_DELETE 0x0002
#define EV_EOF 0x8000

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned int fflags;
    intptr_t data;
    void *udata;
};

#define EV_SET(event, ident_, filter_, flags_, fflags_, data_, udata_)                        \
    do {                                                                                      \
        struct kevent *set_ = (event);                                                        \
        set_->ident = (ident_);                                                               \
        set_->filter = (short)(filter_);                                                      \
        set_->flags = (unsigned short)(flags_);                                               \
        set_->fflags = (unsigned int)(fflags_);                                               \
        set_->data = (data_);                                                                 \
        set_->udata = (udata_);                                                               \
    } while (0)

struct kq_slot {                /* of one descriptor; its index is [filter == EVFILT_WRITE] */
    char there[2];
    void *udata[2];
};

enum { KQ_QUEUES = 4096, KQ_BATCH = 256 };

static struct {
    struct kq_slot *slots;
    size_t count;
} kq_tables[KQ_QUEUES];

static int kqueue(void) {
    int queue = epoll_create1(0);
    if (queue >= KQ_QUEUES) {
        close(queue);
        errno = EMFILE;
        return -1;
    }
    if (queue >= 0) {           /* an earlier queue of this number was closed */
        free(kq_tables[queue].slots);
        memset(&kq_tables[queue], 0, sizeof(kq_tables[queue]));
    }
    return queue;
}

static int kq_tell(int queue, int fd, const struct kq_slot *slot) {
    struct epoll_event event = {0};
    event.events = (slot->there[0] ? EPOLLIN | EPOLLRDHUP : 0) | (slot->there[1] ? EPOLLOUT : 0);
    event.data.fd = fd;
    if (event.events == 0) {
        if (epoll_ctl(queue, EPOLL_CTL_DEL, fd, NULL) < 0 && errno != ENOENT && errno != EBADF)
            return -1;
        return 0;
    }
    if (epoll_ctl(queue, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
    if (errno != ENOENT) return -1;
    return epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event);
}

static int kq_change(int queue, const struct kevent *change) {
    size_t fd = change->ident;
    int way = change->filter == EVFILT_WRITE;
    if (fcntl((int)fd, F_GETFD) < 0) return -1;
    if (fd >= kq_tables[queue].count) {
        size_t count = 2 * fd + 64;
        struct kq_slot *slots = realloc(kq_tables[queue].slots, count * sizeof(*slots));
        if (slots == NULL) {
            errno = ENOMEM;
            return -1;
        }
        memset(slots + kq_tables[queue].count, 0,
               (count - kq_tables[queue].count) * sizeof(*slots));
        kq_tables[queue].slots = slots;
        kq_tables[queue].count = count;
    }
    struct kq_slot *slot = &kq_tables[queue].slots[fd];
    struct kq_slot before = *slot;
    if (change->flags & EV_DELETE && !slot->there[way]) {
        errno = ENOENT;
        return -1;
    }
    slot->there[way] = !(change->flags & EV_DELETE);
    slot->udata[way] = change->udata;
    if (kq_tell(queue, (int)fd, slot) < 0) {
        *slot = before;
        return -1;
    }
    return 0;
}

static int kevent(int queue, const struct kevent *changes, int change_count,
                  struct kevent *events, int event_count, const struct timespec *timeout) {
    struct epoll_event found[KQ_BATCH];
    int timeout_ms = -1, count = 0, most = event_count / 2;
    if (queue < 0) {
        errno = EBADF;
        return -1;
    }
    for (int at = 0; at < change_count; at++)
        if (kq_change(queue, &changes[at]) < 0) return -1;
    if (event_count == 0) return 0;
    if (timeout != NULL) {      /* rounded up */
        long long whole_ms = timeout->tv_sec * 1000LL + (timeout->tv_nsec + 999999) / 1000000;
        timeout_ms = whole_ms > INT_MAX ? INT_MAX : (int)whole_ms;
    }
    int ready = epoll_wait(queue, found, most < KQ_BATCH ? most : KQ_BATCH, timeout_ms);
    for (int at = 0; at < ready; at++) {
        int fd = found[at].data.fd;
        unsigned bits = found[at].events;
        struct kq_slot *slot = &kq_tables[queue].slots[fd];
        for (int way = 0; way < 2; way++) {
            unsigned wanted = EPOLLHUP | EPOLLERR | (way ? EPOLLOUT : EPOLLIN | EPOLLRDHUP);
            if (slot->there[way] && bits & wanted) {
                EV_SET(&events[count], (uintptr_t)fd, way ? EVFILT_WRITE : EVFILT_READ,
                       bits & (EPOLLHUP | EPOLLERR) ? EV_EOF : 0, 0, 0, slot->udata[way]);
                count++;
            }
        }
    }
    return ready < 0 ? -1 : count;
}

#endif
