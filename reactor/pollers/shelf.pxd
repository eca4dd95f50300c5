"""Blocks that the kernel receives into, and what it received before anybody asked for it.

Owns: the numbers that blocks have while the kernel knows them; the order of what is held for a
descriptor.  May not touch: requests, descriptors.
Invariant: a number is vacant, or its block is on the shelf, or its block is held for exactly one
descriptor.  So what is on the shelf and what is held together are never more than there are places.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.errno cimport ENOMEM
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcpy, memmove, memset

from reactor.pollers.contract cimport OP_RECEIVE, Op
from reactor.pollers.io_uring cimport Shelf, shelf_map, shelf_put, shelf_unmap
from reactor.pool cimport BlockPool, block_free

cdef enum:
    FIRST_BLOCKS = 8            # on the shelf, while that is enough


cdef struct Place:              # what a number stands for
    char *block                 # NULL while it is vacant
    uint32_t size               # bytes that came, of a block that is held; else 0
    uint16_t next               # of a block that is held: the number of what came next


cdef struct BlockShelf:
    Shelf *shared               # where the kernel takes blocks from
    unsigned int count          # of places, a power of two
    unsigned int wanted         # blocks that are to have a number
    unsigned int held           # of these, how many nobody has asked for yet
    bint ran_short              # there was none for somebody since the last wait
    uint16_t tail               # of the memory that is shared
    uint32_t block_size
    Place *places               # by number
    uint16_t *vacant            # numbers without a block
    unsigned int vacant_count


cdef struct Held:               # what came for a descriptor and nobody has asked for yet
    uint16_t first              # numbers of blocks, if there are any
    uint16_t last
    uint16_t count
    uint32_t taken              # bytes of the first block that somebody has had
    bint ended                  # after them there is an end or a failure
    int end                     # its result


cdef inline int open_shelf(BlockShelf *shelf, unsigned int count, Py_ssize_t size) noexcept:
    """Make a shelf for *count* blocks of *size* bytes; 0 or -ENOMEM."""
    cdef unsigned int number
    memset(shelf, 0, sizeof(BlockShelf))
    shelf.count = shelf.vacant_count = count
    shelf.wanted = min(<unsigned int>FIRST_BLOCKS, count)
    shelf.block_size = <uint32_t>size
    shelf.places = <Place *>PyMem_RawCalloc(count, sizeof(Place))
    shelf.vacant = <uint16_t *>PyMem_RawCalloc(count, sizeof(uint16_t))
    shelf.shared = shelf_map(count)
    if shelf.places == NULL or shelf.vacant == NULL or shelf.shared == NULL:
        return -ENOMEM
    for number in range(count):
        shelf.vacant[number] = <uint16_t>number
    return 0


cdef inline void free_shelf(BlockShelf *shelf) noexcept:
    """Free all, blocks too, past their pool: it may be gone."""
    cdef unsigned int number
    if shelf.places != NULL:
        for number in range(shelf.count):
            block_free(shelf.places[number].block)
    PyMem_RawFree(shelf.places)
    PyMem_RawFree(shelf.vacant)
    shelf_unmap(shelf.shared, shelf.count)


cdef inline bint lacks_blocks(const BlockShelf *shelf) noexcept nogil:
    return shelf.count - shelf.vacant_count < shelf.wanted


cdef inline void show_block(BlockShelf *shelf, uint16_t number) noexcept:
    shelf_put(shelf.shared, shelf.count - 1, &shelf.tail, shelf.places[number].block,
              shelf.block_size, number)


cdef inline void put_block(BlockShelf *shelf, char *block) noexcept:
    """Let the kernel have a block that is aside."""
    shelf.vacant_count -= 1
    shelf.places[shelf.vacant[shelf.vacant_count]].block = block
    show_block(shelf, shelf.vacant[shelf.vacant_count])


cdef inline char *take_block(BlockShelf *shelf, uint16_t number) noexcept:
    """The kernel has taken a block: return it, still aside; its number is vacant."""
    cdef char *block = shelf.places[number].block
    shelf.places[number].block = NULL
    shelf.vacant[shelf.vacant_count] = number
    shelf.vacant_count += 1
    return block


cdef inline void stock_shelf(BlockShelf *shelf, BlockPool pool) noexcept:
    """Let as many blocks have a number as is wanted."""
    cdef char *block
    if shelf.ran_short:
        shelf.ran_short = False
        shelf.wanted = min(2 * shelf.wanted, shelf.count)
    while lacks_blocks(shelf):
        block = pool.acquire_aside()
        if block == NULL:
            return
        put_block(shelf, block)


cdef inline void show_again(BlockShelf *shelf) noexcept:
    """A new ring begins to count: put there what is on the shelf, if anything is."""
    cdef unsigned int number
    shelf.tail = shelf.shared.tail = 0
    for number in range(shelf.count):
        if shelf.places[number].block != NULL and shelf.places[number].size == 0:
            show_block(shelf, <uint16_t>number)


cdef inline void clear_shelf(BlockShelf *shelf, BlockPool pool) noexcept:
    """The ring is gone: give the pool its blocks back, also those that are held."""
    cdef unsigned int number
    shelf.held = 0
    for number in range(shelf.count):
        if shelf.places[number].block != NULL:
            shelf.places[number].size = 0
            pool.lend()
            pool.release(take_block(shelf, <uint16_t>number))


# -- what is held ----------------------------------------------------------------------


cdef inline bint has_held(const Held *held) noexcept nogil:
    return held.count != 0 or held.ended


cdef inline void hold_block(BlockShelf *shelf, Held *held, uint16_t number,
                            uint32_t size) noexcept:
    """Keep *size* bytes that came in a block, after what is held already."""
    shelf.places[number].size = size
    if held.count == 0:
        held.first = number
        held.taken = 0
    else:
        shelf.places[held.last].next = number
    held.last = number
    held.count += 1
    shelf.held += 1


cdef inline uint16_t forget_first(BlockShelf *shelf, Held *held) noexcept:
    """Return the first number that is held, which is not from now on."""
    cdef uint16_t number = held.first
    held.first = shelf.places[number].next
    held.count -= 1
    held.taken = 0
    shelf.held -= 1
    shelf.places[number].size = 0
    return number


cdef inline void serve(BlockShelf *shelf, Held *held, Op *op, BlockPool pool) noexcept:
    """Write into an op that reads what of the held comes first: there is something."""
    cdef Place *place = &shelf.places[held.first]
    cdef Py_ssize_t size
    op.result = 0
    if op.kind != OP_RECEIVE:
        return
    if held.count == 0:
        op.result = held.end
        held.ended = False
        return
    size = place.size - held.taken
    if op.buffer == NULL:
        if held.taken:
            memmove(place.block, place.block + held.taken, size)
        op.buffer = place.block
        op.length = shelf.block_size
        take_block(shelf, forget_first(shelf, held))
        pool.lend()
    elif size <= op.length:
        memcpy(op.buffer, place.block + held.taken, size)
        show_block(shelf, forget_first(shelf, held))
    else:
        size = op.length
        memcpy(op.buffer, place.block + held.taken, size)
        held.taken += <uint32_t>size
    op.result = size


cdef inline void drop_held(BlockShelf *shelf, Held *held) noexcept:
    """Forget what is held: its descriptor is somebody else's."""
    while held.count:
        show_block(shelf, forget_first(shelf, held))
    held.ended = False
