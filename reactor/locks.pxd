"""Methods that hold a lock; its C face, in which there is nothing."""
