"""The memory pool: blocks of one size on a last-in, first-out freelist.

Owns: memory that nobody uses at the moment.  May not touch: sockets, clocks, Python code.
Invariant: a block is either in use by exactly one owner or on the freelist, where the
sanitizer build poisons it, so that a use after release or a second release is a crash with
a report and not a corrupted message.

A block begins with a page: where it began some bytes into one, the system took up to five times
as long to fill it (docs/decisions/0017).

Last in, first out keeps the block that is handed out in the processor's cache: a thousand
readable connections served one after another borrow the same block a thousand times.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

cdef extern from *:
    """
    #if defined(__SANITIZE_ADDRESS__)
    #  define CYR_ASAN 1
    #elif defined(__has_feature)
    #  if __has_feature(address_sanitizer)
    #    define CYR_ASAN 1
    #  endif
    #endif
    #ifdef CYR_ASAN
    #  include <sanitizer/asan_interface.h>
    #  define cyr_poison(p, n) ASAN_POISON_MEMORY_REGION((p), (size_t)(n))
    #  define cyr_unpoison(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (size_t)(n))
    #  define CYR_POISONS 1
    #else
    #  define cyr_poison(p, n) ((void)(p), (void)(n))
    #  define cyr_unpoison(p, n) ((void)(p), (void)(n))
    #  define CYR_POISONS 0
    #endif
    """
    void cyr_poison(void *block, Py_ssize_t size) noexcept nogil
    void cyr_unpoison(void *block, Py_ssize_t size) noexcept nogil
    const bint CYR_POISONS


POISONS = bool(CYR_POISONS)

cdef enum:
    LARGE_BYTES = 4_194_304

cdef bint expects_large = False


cdef void expect_large_objects() noexcept:
    """Let malloc keep the memory of large objects from one to the next, process-wide.

    glibc's gives the end of its heap back to the system whenever 128 KiB of it are free, and maps
    what is larger than that, until a mapped piece was freed: then it takes that size for usual
    (mallopt(3), M_MMAP_THRESHOLD).  Without, a message of 100 KiB costs some ten page faults.
    The piece is never written to, so it takes no memory; other systems are none the worse.
    """
    global expects_large
    if not expects_large:
        expects_large = True
        PyMem_RawFree(PyMem_RawMalloc(LARGE_BYTES))


cdef class BlockPool:
    """Blocks of *block_size* bytes, of which at most *max_free* are kept while unused.

    Raises ``ValueError`` for a block too small to hold the freelist's link or a negative
    *max_free*.  Belongs to one reactor and its thread.
    """

    def __cinit__(self, Py_ssize_t block_size, Py_ssize_t max_free):
        if block_size < <Py_ssize_t>sizeof(Block):
            raise ValueError(f"block_size must be at least {sizeof(Block)}, not {block_size}")
        if max_free < 0:
            raise ValueError(f"max_free must not be negative, not {max_free}")
        self.block_size = block_size
        self.max_free = max_free

    def __dealloc__(self):
        cdef Block *block
        while self.top != NULL:
            block = self.top
            cyr_unpoison(block, self.block_size)
            self.top = block.next
            block_free(block)

    cdef char *acquire(self) noexcept:
        cdef Block *block = self.top
        if block != NULL:
            cyr_unpoison(block, self.block_size)
            self.top = block.next
            self.free -= 1
            self.hits += 1
        else:
            block = <Block *>block_new(self.block_size)
            if block == NULL:
                return NULL
            self.misses += 1
        self.in_use += 1
        if self.in_use > self.high_water:
            self.high_water = self.in_use
        return <char *>block

    cdef char *acquire_aside(self) noexcept:
        cdef Py_ssize_t high_water = self.high_water
        cdef char *block = self.acquire()
        if block != NULL:
            self.high_water = high_water
            self.set_aside()
        return block

    cdef void lend(self) noexcept:
        self.aside -= 1
        self.in_use += 1
        if self.in_use > self.high_water:
            self.high_water = self.in_use

    cdef void set_aside(self) noexcept:
        self.aside += 1
        self.in_use -= 1

    cdef void release(self, char *block) noexcept:
        cdef Block *link = <Block *>block
        self.in_use -= 1
        if self.free >= self.max_free:
            block_free(block)
            return
        link.next = self.top        # in the sanitizer build a second release crashes here
        self.top = link
        self.free += 1
        cyr_poison(block, self.block_size)

    def stats(self):
        """Return the counters as a dict of ints; sizes in bytes, the rest in blocks."""
        return {
            "block_size": self.block_size,
            "max_free": self.max_free,
            "in_use": self.in_use,
            "high_water": self.high_water,
            "aside": self.aside,
            "free": self.free,
            "hits": self.hits,
            "misses": self.misses,
        }

    def __repr__(self):
        return (
            f"<BlockPool {self.block_size} bytes: {self.in_use} in use, {self.free} free, "
            f"high water {self.high_water}, {self.hits} hits, {self.misses} misses>"
        )


cdef class BlockOwner:
    """Blocks held from Python: how the tests reach the pool's C face."""

    cdef BlockPool pool
    cdef list held

    def __cinit__(self, BlockPool pool):
        self.pool = pool
        self.held = []

    def __dealloc__(self):
        # a test that forgets its blocks must not leak them
        for address in self.held:
            self.pool.release(<char *><size_t>address)

    def acquire(self):
        """Take one block and return how many this owner holds."""
        cdef char *block = self.pool.acquire()
        if block == NULL:
            raise MemoryError("no memory for a block")
        block[0] = 0
        block[self.pool.block_size - 1] = 0
        self.held.append(<size_t>block)
        return len(self.held)

    def page_offset(self):
        """Return where in a page of 4,096 bytes the block taken last begins; ``IndexError``."""
        cdef size_t address = self.held.pop()
        self.held.append(address)
        return address % 4096

    def release(self):
        """Hand back the block taken last; ``IndexError`` when none is held."""
        cdef size_t address = self.held.pop()
        self.pool.release(<char *>address)
