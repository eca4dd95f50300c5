"""Transports: what carries a protocol's bytes.  See ``reactor`` for the public names."""
