# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The plainest requests read, and the plainest answers written, by compiled code.

What is read here `ingest.simple_request` reads too, and the same way; what is not is left to it. What is written here is
what `ingest.fast_protocol.Heads` writes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp, memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import os

from ingest.arrival import Receipt, Unread
from ingest.catalog import Profile
from ingest.simple_request import MAX_TARGET, read_headers

ctypedef const unsigned char *Text

cdef enum:
    UUID_CHARS = 36
    BLOCKS_REMEMBERED = 4096

cdef Py_ssize_t _max_target = MAX_TARGET
cdef object _json = Profile.JSON


cdef class Stamps:
    """Receipts as of now, their ids in order of time: UUID version 7 (RFC 9562)."""

    cdef uint64_t _first, _second

    def __init__(self):
        seed = os.urandom(16)
        self._first = int.from_bytes(seed[:8], "big")
        self._second = int.from_bytes(seed[8:], "big")

    cpdef object receipt(self, address):
        """A receipt of a postback from that address."""
        cdef timespec now
        cdef long long now_us
        cdef unsigned char data[16]
        cdef uint64_t high, low
        cdef int place
        clock_gettime(CLOCK_REALTIME, &now)
        now_us = <long long>now.tv_sec * 1_000_000 + now.tv_nsec // 1000
        high = <uint64_t>(now_us // 1000) << 16 | 0x7000 | (_next(&self._first) >> 52)
        low = <uint64_t>1 << 63 | (_next(&self._second) >> 2)
        for place in range(8):
            data[place] = <unsigned char>(high >> (56 - 8 * place))
            data[8 + place] = <unsigned char>(low >> (56 - 8 * place))
        return Receipt(PyBytes_FromStringAndSize(<const char *>data, 16), now_us, address)


cdef uint64_t _next(uint64_t *state):
    """SplitMix64: ids must differ, not be secret."""
    cdef uint64_t mixed
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    mixed = state[0]
    mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
    return mixed ^ (mixed >> 31)


cdef class Requests:
    """Reads the plainest requests, GET with a query; `others` reads the others.

    `others` is an `ingest.plain_requests.PlainRequests`: its paths are read, and senders' addresses are found by it.
    """

    cdef list _paths
    cdef object _others, _address
    cdef Stamps _stamps
    cdef dict _known
    cdef bytes _last_block
    cdef object _last_headers, _last_peer, _last_address

    def __init__(self, others):
        self._paths = list(others.paths)
        self._others, self._address = others.read, others.address
        self._stamps = Stamps()
        self._known = {}
        self._last_block = b""
        self._last_headers = self._last_peer = self._last_address = None

    def read(self, bytes data not None, peer):
        """See `ingest.plain_requests.PlainRequests.read`."""
        found = self._read(data, peer)
        return self._others(data, peer) if found is None else found

    cdef object _read(self, bytes data, peer):
        cdef Text begin = <Text>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Text end = <Text>memchr(begin, 13, min(size, _max_target))
        cdef Text query, at
        if end == NULL or end - begin < 14 or memcmp(begin, b"GET ", 4) != 0 or memcmp(end - 9, b" HTTP/1.1\r\n", 11) != 0:
            return None
        query = <Text>memchr(begin, 63, end - begin)
        if query == NULL:
            return None
        for path in self._paths:
            if PyBytes_GET_SIZE(path) == query - begin - 4 and memcmp(PyBytes_AS_STRING(path), begin + 4, query - begin - 4) == 0:
                break
        else:
            return None
        query += 1
        end -= 9
        if query >= end:
            return None
        at = query
        while at[0] == 38:  # a query of "&" alone names nothing
            at += 1
        if at >= end:
            return None
        while at < end:
            if not 0x21 <= at[0] <= 0x7E or at[0] == 35:
                return None
            at += 1
        headers = self._headers(end + 11, begin + size - end - 11)
        if headers is None:
            return None
        if headers.forwarded_for is not None:
            address = self._address(peer, headers.forwarded_for)
        elif self._last_peer is not None and peer == self._last_peer:
            address = self._last_address
        else:
            address = self._address(peer, None)
            self._last_peer, self._last_address = peer, address
        text = PyUnicode_DecodeASCII(<const char *>query, end - query, NULL)
        return Unread(self._stamps.receipt(address), text)

    cdef object _headers(self, Text at, Py_ssize_t size):
        """What matters of these headers of a GET; None where they are not plain."""
        cdef bytes block
        if size == PyBytes_GET_SIZE(self._last_block) and memcmp(at, PyBytes_AS_STRING(self._last_block), size) == 0:
            return self._last_headers
        block = PyBytes_FromStringAndSize(<const char *>at, size)
        found = self._known.get(block, self)
        if found is self:
            if len(self._known) >= BLOCKS_REMEMBERED:
                self._known.clear()
            found = read_headers(block)
            if found is not None and (found.content_length is not None or found.content_type):
                found = None
            self._known[block] = found
        self._last_block, self._last_headers = block, found
        return found


cdef class Answers:
    """Writes answers that name a conversion; `others`, of `ingest.fast_protocol.Heads`, writes any, good for the second
    in which it is called."""

    cdef object _others
    cdef long long _second
    cdef dict _heads

    def __init__(self, others):
        self._others = others
        self._second = 0
        self._heads = {}

    def write(self, outcome):
        """See `ingest.fast_protocol.Heads.write`."""
        cdef timespec now
        cdef bytes head
        if outcome is None:
            return self._others(None)
        conversion_id = outcome.conversion_id
        result = outcome.result
        if outcome.profile is not _json or conversion_id is None or outcome.reason is not None:
            return self._others(outcome)
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec != self._second:
            self._second = now.tv_sec
            self._heads.clear()
        head = self._heads.get(result._value_)
        if head is None:
            whole = self._others(outcome)
            head = self._heads[result._value_] = whole[: len(whole) - UUID_CHARS - 2]
        return b"%b%b\"}" % (head, conversion_id.encode())
