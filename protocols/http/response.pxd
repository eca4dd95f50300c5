"""The response as the client returns it; its C face."""

from libc.stdint cimport int64_t

from protocols.http.headers cimport Headers


cdef class Response:
    cdef readonly int status_code
    cdef readonly object url                # protocols.http.url.URL
    cdef readonly str method                # of the request
    cdef bytes head                         # status line and fields as they came
    cdef Py_ssize_t fields_start
    cdef int minor_version
    cdef int notes                          # the parser's Notes: fields that the client acts on
    cdef Headers decoded                    # made of head when first asked for
    cdef public object request             # the Request that was answered
    cdef list earlier                       # responses of the redirects that led here, or None
    cdef int64_t elapsed_ns                 # from the request to the end, or the head if streamed
    cdef Headers trailing                   # the trailers of a body that was collected, or None
    cdef bytes body                         # None while it has not been read
    cdef list informational                 # (status, Headers) of each 1xx, or None
    cdef object flaw                        # MessageError of a body that does not decode, or None
    cdef object stream                      # a BodyStream while the body is streamed, or None
    cdef public object hold                 # of the connection while it is streamed, or None
    cdef public object catch_up             # runs the loop for what is to be done soon, or None
    cdef str chosen_encoding                # by the caller, or None
    cdef object decoder                     # of the stream, or None,
    cdef object decoded_pieces              # and its DecodedPieces, once they were asked for

    cdef Headers fields(self)
    # The pieces of the body as they came, and decoded; an error where it was begun already.
    cdef object raw(self)
    cdef object pieces(self)
    cdef object cut(self, object pieces, object chunk_size)
    cdef object in_turn(self, object pieces)
