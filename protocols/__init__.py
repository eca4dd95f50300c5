"""Protocols on the reactor: HTTP, then drivers.  They use the reactor's public names only."""
