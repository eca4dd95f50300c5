"""Other libraries on this client: ``httpx`` (a transport) and ``requests`` (an adapter).

Owns: nothing; each module is imported by whoever has its library.  May not touch: the
connections of the client, but through its public methods.
Invariant: what belongs to the library (cookies, redirects, authentication, content codings)
is left to it, and what goes wrong is raised as the library's own exception.
"""
