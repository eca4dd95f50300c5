"""How an event loop takes the thread that runs it; its C face, in which there is nothing."""
