"""Every limit of the reactor, with its reason.

Owns: numbers.  May not touch: anything; a leaf.  Invariant: whatever grows with what a peer
or a caller does is bounded by a number in this file (HTTP's are in
``protocols.http.limits``).
"""

# One receive.  A stream that is read as fast as it comes costs one system call a block, and
# beyond 64 KiB the gain is under 2 %, while the block and the bytes object made of it still
# fit the second-level cache together.
RECEIVE_BLOCK_BYTES = 65_536

# Free blocks that a reactor keeps.  Receives are dispatched one at a time, so one block is
# in use however many connections there are; a few more serve pollers that receive ahead.
MAX_FREE_BLOCKS = 16

# Bytes written and not yet sent at which pause_writing is called; asyncio's own figure.
HIGH_WATER_BYTES = 65_536

# Connections accepted in one pass, so that a storm of them cannot starve those that are.
ACCEPTS_PER_PASS = 64

# How long a listener rests when the process is out of descriptors; asyncio's own figure.
ACCEPT_RETRY_SECONDS = 1.0
