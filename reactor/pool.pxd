"""Fixed-size blocks of memory on a freelist; the C face of ``reactor.pool``."""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #ifndef CYR_BLOCK
    #define CYR_BLOCK
    #include <stdlib.h>
    #define CYR_BLOCK_ALIGNMENT 4096
    #ifdef _WIN32
    #  include <malloc.h>
    static inline void *cyr_block_new(size_t size)
    { return _aligned_malloc(size, CYR_BLOCK_ALIGNMENT); }
    static inline void cyr_block_free(void *block) { _aligned_free(block); }
    #else
    static inline void *cyr_block_new(size_t size)
    {
        void *block;
        return posix_memalign(&block, CYR_BLOCK_ALIGNMENT, size) == 0 ? block : NULL;
    }
    static inline void cyr_block_free(void *block) { free(block); }
    #endif
    #endif
    """
    # Memory that begins with a page, or NULL (decision 0017).
    void *block_new "cyr_block_new"(size_t size) noexcept nogil
    void block_free "cyr_block_free"(void *block) noexcept nogil

cdef struct Block:
    Block *next                     # the freelist's link, inside the free block itself


cdef class BlockPool:
    cdef readonly Py_ssize_t block_size     # bytes in each block
    cdef readonly Py_ssize_t max_free       # blocks kept when free; more go back to malloc
    cdef readonly Py_ssize_t in_use         # blocks handed out and not yet released
    cdef readonly Py_ssize_t high_water     # the most blocks ever in use at once
    cdef readonly Py_ssize_t aside          # blocks that the system may fill ahead of need
    cdef readonly Py_ssize_t free           # blocks on the freelist
    cdef readonly uint64_t hits             # acquired from the freelist
    cdef readonly uint64_t misses           # acquired from malloc
    cdef Block *top

    # A block of block_size bytes with undefined contents, or NULL when memory is out.
    # The caller owns it until it releases it, exactly once.
    cdef char *acquire(self) noexcept
    # The same for the system, which fills it some time; it is not in use before it is lent.
    cdef char *acquire_aside(self) noexcept
    # One of the blocks aside is in use from now on.
    cdef void lend(self) noexcept
    # One of the blocks in use is aside again: the system has it.
    cdef void set_aside(self) noexcept
    # Hand a block back. It must come from this pool and nobody may touch it afterwards.
    cdef void release(self, char *block) noexcept


# Called when a receive was large: others will be, too.
cdef void expect_large_objects() noexcept
