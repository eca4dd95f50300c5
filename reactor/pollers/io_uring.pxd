"""io_uring by its system calls: a ring in memory that is shared with the kernel.

Owns: the layout of what is shared, and the order in which both sides may look at it.  May not
touch: ops, tickets.
Invariant: an entry is seen by the kernel only after it was written, a completion is read only
after the kernel wrote it.

Everything is declared here as the kernel has it (io_uring(7), io_uring_enter(2)): the C library has
none of it, and its headers may be older than the kernel that runs.
"""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uint8_t

cdef extern from *:
    """
    #include <errno.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    #ifndef __NR_io_uring_setup         /* the same everywhere but on Alpha */
    #  define __NR_io_uring_setup 425
    #  define __NR_io_uring_enter 426
    #  define __NR_io_uring_register 427
    #endif

    struct cyr_entry {                  /* struct io_uring_sqe */
        uint8_t opcode;
        uint8_t flags;
        uint16_t ioprio;
        int32_t fd;
        uint64_t offset;
        uint64_t address;
        uint32_t length;
        uint32_t op_flags;
        uint64_t user_data;
        uint16_t buffer_group;
        uint16_t personality;
        uint32_t file_index;
        uint64_t more[2];
    };
    struct cyr_completion {             /* struct io_uring_cqe */
        uint64_t user_data;
        int32_t result;
        uint32_t flags;
    };
    struct cyr_shelf {                  /* struct io_uring_buf; the first one's last is the tail */
        uint64_t address;
        uint32_t length;
        uint16_t number;
        uint16_t tail;
    };
    struct cyr_params {                 /* struct io_uring_params */
        uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
        uint32_t reserved[3];
        struct {
            uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
            uint64_t user_address;
        } sq;
        struct {
            uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
            uint64_t user_address;
        } cq;
    };
    struct cyr_ring {
        int fd;                         /* -1 while there is none */
        uint32_t features;
        uint32_t *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
        uint32_t sq_mask, cq_mask;
        uint32_t filled;                /* entries written; sq_tail once they are shown */
        struct cyr_entry *entries;
        struct cyr_completion *completions;
        void *memory;
        size_t memory_size, entries_size;
    };

    static inline void cyr_ring_close(struct cyr_ring *ring) {
        if (ring->entries != NULL) munmap(ring->entries, ring->entries_size);
        if (ring->memory != NULL) munmap(ring->memory, ring->memory_size);
        if (ring->fd >= 0) close(ring->fd);
        memset(ring, 0, sizeof(*ring));
        ring->fd = -1;
    }

    static inline int cyr_ring_open(struct cyr_ring *ring, unsigned entries,
                                    unsigned completions, unsigned flags) {
        struct cyr_params params;
        size_t sq_size, cq_size;
        uint32_t at, *array;
        char *memory;
        int error;
        memset(&params, 0, sizeof(params));
        memset(ring, 0, sizeof(*ring));
        params.flags = flags | (1U << 3);               /* IORING_SETUP_CQSIZE */
        params.cq_entries = completions;
        ring->fd = (int)syscall(__NR_io_uring_setup, entries, &params);
        if (ring->fd < 0) return -errno;
        ring->features = params.features;
        sq_size = params.sq.array + params.sq_entries * sizeof(uint32_t);
        cq_size = params.cq.cqes + params.cq_entries * sizeof(struct cyr_completion);
        ring->memory_size = sq_size > cq_size ? sq_size : cq_size;
        ring->entries_size = params.sq_entries * sizeof(struct cyr_entry);
        if (!(params.features & 1)) {                   /* IORING_FEAT_SINGLE_MMAP */
            cyr_ring_close(ring);
            return -ENOSYS;
        }
        memory = (char *)mmap(NULL, ring->memory_size, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_POPULATE, ring->fd, 0);
        if (memory == (char *)MAP_FAILED) {
            error = errno;
            cyr_ring_close(ring);
            return -error;
        }
        ring->memory = memory;
        ring->entries = (struct cyr_entry *)mmap(
            NULL, ring->entries_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
            ring->fd, 0x10000000);                      /* IORING_OFF_SQES */
        if (ring->entries == (struct cyr_entry *)MAP_FAILED) {
            error = errno;
            ring->entries = NULL;
            cyr_ring_close(ring);
            return -error;
        }
        ring->sq_head = (uint32_t *)(memory + params.sq.head);
        ring->sq_tail = (uint32_t *)(memory + params.sq.tail);
        ring->sq_flags = (uint32_t *)(memory + params.sq.flags);
        ring->sq_mask = *(uint32_t *)(memory + params.sq.ring_mask);
        ring->cq_head = (uint32_t *)(memory + params.cq.head);
        ring->cq_tail = (uint32_t *)(memory + params.cq.tail);
        ring->cq_mask = *(uint32_t *)(memory + params.cq.ring_mask);
        ring->completions = (struct cyr_completion *)(memory + params.cq.cqes);
        array = (uint32_t *)(memory + params.sq.array);
        for (at = 0; at < params.sq_entries; at++) array[at] = at;
        return 0;
    }

    static inline struct cyr_entry *cyr_ring_entry(struct cyr_ring *ring) {
        struct cyr_entry *entry;
        if (ring->filled - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) > ring->sq_mask)
            return NULL;
        entry = &ring->entries[ring->filled++ & ring->sq_mask];
        memset(entry, 0, sizeof(*entry));
        return entry;
    }

    static inline int cyr_ring_enter(struct cyr_ring *ring, unsigned flags, unsigned wait_for,
                                     int64_t timeout_ns) {
        struct { int64_t seconds, nanoseconds; } timeout;
        struct { uint64_t mask; uint32_t mask_size, reserved; uint64_t timeout; } extra;
        uint32_t count;
        long result;
        __atomic_store_n(ring->sq_tail, ring->filled, __ATOMIC_RELEASE);
        count = ring->filled - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
        if (wait_for && timeout_ns >= 0) {
            timeout.seconds = timeout_ns / 1000000000;
            timeout.nanoseconds = timeout_ns % 1000000000;
            memset(&extra, 0, sizeof(extra));
            extra.timeout = (uint64_t)(uintptr_t)&timeout;
            result = syscall(__NR_io_uring_enter, ring->fd, count, wait_for,
                             flags | (1U << 3), &extra, sizeof(extra));  /* ENTER_EXT_ARG */
        } else {
            result = syscall(__NR_io_uring_enter, ring->fd, count, wait_for, flags, NULL, 0);
        }
        return result < 0 ? -errno : (int)result;
    }

    static inline int cyr_ring_enable(struct cyr_ring *ring) {
        return syscall(__NR_io_uring_register, ring->fd, 12, NULL, 0) < 0 ? -errno : 0;
    }

    /* A shelf is a ring of buffers that the kernel takes from when there are bytes. */
    static inline struct cyr_shelf *cyr_shelf_map(unsigned places) {
        void *memory = mmap(NULL, places * sizeof(struct cyr_shelf), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return memory == MAP_FAILED ? NULL : (struct cyr_shelf *)memory;
    }

    static inline void cyr_shelf_unmap(struct cyr_shelf *shelf, unsigned places) {
        if (shelf != NULL) munmap(shelf, places * sizeof(struct cyr_shelf));
    }

    static inline int cyr_shelf_register(struct cyr_ring *ring, struct cyr_shelf *shelf,
                                         unsigned places) {
        struct {
            uint64_t address;
            uint32_t places;
            uint16_t group, flags;
            uint64_t reserved[3];
        } what;
        memset(&what, 0, sizeof(what));
        what.address = (uint64_t)(uintptr_t)shelf;
        what.places = places;
        return syscall(__NR_io_uring_register, ring->fd, 22, &what, 1) < 0 ? -errno : 0;
    }

    static inline void cyr_shelf_put(struct cyr_shelf *shelf, unsigned mask, uint16_t *tail,
                                     char *block, uint32_t size, uint16_t number) {
        struct cyr_shelf *place = &shelf[*tail & mask];
        place->address = (uint64_t)(uintptr_t)block;
        place->length = size;
        place->number = number;
        *tail += 1;
        __atomic_store_n(&shelf->tail, *tail, __ATOMIC_RELEASE);
    }

    #define cyr_load(where) __atomic_load_n(where, __ATOMIC_ACQUIRE)
    #define cyr_store(where, value) __atomic_store_n(where, value, __ATOMIC_RELEASE)
    """
    struct Entry "cyr_entry":
        uint8_t opcode
        uint8_t flags
        uint16_t ioprio
        int32_t fd
        uint64_t address
        uint32_t length
        uint32_t op_flags
        uint64_t user_data
    struct Completion "cyr_completion":
        uint64_t user_data
        int32_t result
        uint32_t flags
    struct Shelf "cyr_shelf":
        uint16_t tail
    struct Ring "cyr_ring":
        int fd
        uint32_t features
        uint32_t *sq_head
        uint32_t *sq_flags
        uint32_t *cq_head
        uint32_t *cq_tail
        uint32_t cq_mask
        uint32_t filled
        Completion *completions

    # 0 or -errno; the ring's fd is -1 then.
    int ring_open "cyr_ring_open"(Ring *ring, unsigned int entries, unsigned int completions,
                                  unsigned int flags) nogil
    void ring_close "cyr_ring_close"(Ring *ring) nogil
    # From now on it is this thread's, if it is a single one's. 0 or -errno.
    int ring_enable "cyr_ring_enable"(Ring *ring) nogil
    # The next entry, all 0; NULL while the kernel has not taken any of as many as there are.
    Entry *ring_entry "cyr_ring_entry"(Ring *ring) nogil
    # Show the kernel what was written and wait for completions; entries taken, or -errno.
    int ring_enter "cyr_ring_enter"(Ring *ring, unsigned int flags, unsigned int wait_for,
                                    int64_t timeout_ns) nogil
    Shelf *shelf_map "cyr_shelf_map"(unsigned int places) nogil
    void shelf_unmap "cyr_shelf_unmap"(Shelf *shelf, unsigned int places) nogil
    int shelf_register "cyr_shelf_register"(Ring *ring, Shelf *shelf, unsigned int places) nogil
    void shelf_put "cyr_shelf_put"(Shelf *shelf, unsigned int mask, uint16_t *tail, char *block,
                                   uint32_t size, uint16_t number) nogil
    uint32_t load "cyr_load"(const uint32_t *where) nogil
    void store "cyr_store"(uint32_t *where, uint32_t value) nogil

cdef enum:                      # of io_uring_setup(2)
    SETUP_R_DISABLED = 1 << 6
    SETUP_SUBMIT_ALL = 1 << 7
    SETUP_COOP_TASKRUN = 1 << 8
    SETUP_TASKRUN_FLAG = 1 << 9
    SETUP_SINGLE_ISSUER = 1 << 12
    SETUP_DEFER_TASKRUN = 1 << 13

    FEAT_NODROP = 1 << 1
    FEAT_SUBMIT_STABLE = 1 << 2
    FEAT_FAST_POLL = 1 << 5
    FEAT_EXT_ARG = 1 << 8
    FEAT_CQE_SKIP = 1 << 11

cdef enum:                      # of io_uring_enter(2)
    ENTER_GETEVENTS = 1

    ENTRY_BUFFER_SELECT = 1 << 5
    ENTRY_SKIP_SUCCESS = 1 << 6

    CODE_POLL_ADD = 6
    CODE_SENDMSG = 9
    CODE_CANCEL = 14
    CODE_SEND = 26
    CODE_RECEIVE = 27

    POLL_MULTISHOT = 1          # in length
    PEER_ENDED = 0x2000         # in op_flags: POLLRDHUP; POLLHUP and POLLERR always are
    POLL_FIRST = 1              # in ioprio, of a receive or a send
    RECEIVE_MULTISHOT = 2       # in ioprio, of a receive
    CANCEL_ALL = 1              # in op_flags
    CANCEL_ANY = 4

    CAME_WITH_BUFFER = 1        # a completion's flags; the buffer's number is in the upper half
    CAME_WITH_MORE = 2

    SQ_OVERFLOW = 2             # what sq_flags says
    SQ_TASKRUN = 4
