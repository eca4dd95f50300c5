"""The methods by which requests are made, of either client.

Owns: their names.  May not touch: what a request is, and what becomes of it.
"""

from cpython.object cimport PyObject

from protocols.http.request import token_of

cdef extern from "Python.h":
    bint PyMethod_Check(object method) noexcept
    PyObject *PyMethod_GET_FUNCTION(object method) noexcept

cdef object OWN_REQUEST

# Options that give a request content.
CONTENT = frozenset(["content", "data", "files", "json"])


cdef class Verbs:
    """Methods that ``ask`` for a response, or for what is awaited for one.

    All go by way of ``request``, which a class below may have of its own; but ``get`` and ``head``,
    which have no content, do not where it has none.
    """

    def __cinit__(self, *args, **kwargs):
        self.is_derived = type(self).request is not Verbs.request

    def get(self, url, **options):
        """GET *url*; see ``request``."""
        return self.verb("GET", url, options)

    def head(self, url, **options):
        """HEAD *url*: the response is without a body (RFC 9110 section 9.3.2)."""
        return self.verb("HEAD", url, options)

    def options(self, url, **options):
        """OPTIONS *url*; see ``request``."""
        return self.by_request("OPTIONS", url, options)

    def delete(self, url, **options):
        """DELETE *url*; see ``request``."""
        return self.by_request("DELETE", url, options)

    def post(self, url, **options):
        """POST to *url*; see ``request``."""
        return self.by_request("POST", url, options)

    def put(self, url, **options):
        """PUT *url*; see ``request``."""
        return self.by_request("PUT", url, options)

    def patch(self, url, **options):
        """PATCH *url*; see ``request``."""
        return self.by_request("PATCH", url, options)

    def request(self, method, url, **options):
        """Send a request and return the response with its whole body, decoded.

        Args:
            method: a token, sent as it is written (RFC 9110 section 9.1).
            url: absolute, http or https, or relative to the client's *base_url*; user
                information becomes Basic credentials.
            content: what is sent: bytes, str, a binary file, an iterable or asynchronous
                iterable of bytes.
            data: the names and values of a form.
            files: the files of a form, for names or pairs: a content, or (file name, content
                [, content type [, headers]]); *data* are its other fields.
            json: sent as JSON.  One of *content*, *json* and the form is given; see
                ``protocols.http.bodies``.
            params: added to the URL's query, after the client's own.
            headers: sent in place of, or in addition to, the client's.
            cookies: of this request alone; they go to its origin and to no other.  A Cookie
                among the *headers* is sent in place of all cookies.
            follow_redirects: as the client's, which is the default.
            timeout: as the client's, which is the default.
            options: what else there may be; see ``protocols.http.options.Sending``.

        Raises ``InvalidURL`` and ``InvalidHeader`` (``ValueError``) before any I/O, and the
        ``EndpointError`` of whatever went wrong after that; ``RedirectError`` where a redirect
        leads nowhere.  A status is never an error; see ``Response.raise_for_status``.
        """
        return self.ask(token_of(method), url, options)

    cdef object verb(self, str method, object url, dict options):
        if self.is_derived:
            return self.request(method, url, **options)
        if options and not CONTENT.isdisjoint(options):
            name = min(CONTENT.intersection(options))
            raise TypeError(f"there is no option {name!r} of {method.lower()}(); see request()")
        return self.ask(method, url, options)

    cdef object by_request(self, str method, object url, dict options):
        cdef object request = self.request      # which a test may have put into the object
        if PyMethod_Check(request) and PyMethod_GET_FUNCTION(request) == <PyObject *>OWN_REQUEST:
            return self.ask(method, url, options)
        return request(method, url, **options)

    cdef object ask(self, str method, object url, dict options):
        raise NotImplementedError


OWN_REQUEST = Verbs.request
