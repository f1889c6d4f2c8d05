# Buffers --------------------------------------------------------------------------------------------------------------


cdef struct Buffer:
    unsigned char *at
    Py_ssize_t size
    Py_ssize_t room


cdef int _make_room(Buffer *buffer, Py_ssize_t more) except -1:
    cdef Py_ssize_t room
    cdef unsigned char *at
    if buffer.size + more > buffer.room:
        room = 2 * (buffer.size + more)
        at = <unsigned char *>realloc(buffer.at, room)
        if at == NULL:
            raise MemoryError
        buffer.at, buffer.room = at, room
    return 0


cdef inline int _put(Buffer *buffer, Text text, Py_ssize_t size) except -1:
    if buffer.size + size > buffer.room:
        _make_room(buffer, size)
    memcpy(buffer.at + buffer.size, text, size)
    buffer.size += size
    return 0


cdef inline int _put_bytes(Buffer *buffer, bytes text) except -1:
    return _put(buffer, <Text>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef inline int _put_byte(Buffer *buffer, unsigned char byte) except -1:
    return _put(buffer, &byte, 1)


cdef inline int _put_null(Buffer *buffer) except -1:
    return _put(buffer, <Text>b"\\N", 2)


cdef inline int _put_number(Buffer *buffer, unsigned long long number) except -1:
    cdef unsigned char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = 48 + number % 10
        number //= 10
        if number == 0:
            break
    return _put(buffer, digits + at, 20 - at)


cdef inline int _put_hex(Buffer *buffer, Text data, Py_ssize_t size) except -1:
    cdef Py_ssize_t number
    _make_room(buffer, 2 * size)
    for number in range(size):
        buffer.at[buffer.size] = _DIGITS[data[number] >> 4]
        buffer.at[buffer.size + 1] = _DIGITS[data[number] & 15]
        buffer.size += 2
    return 0


cdef int _put_uuid(Buffer *buffer, Text data) except -1:
    """The usual form of the 16 bytes of a UUID."""
    _put_hex(buffer, data, 4)
    _put_byte(buffer, 45)
    _put_hex(buffer, data + 4, 2)
    _put_byte(buffer, 45)
    _put_hex(buffer, data + 6, 2)
    _put_byte(buffer, 45)
    _put_hex(buffer, data + 8, 2)
    _put_byte(buffer, 45)
    return _put_hex(buffer, data + 10, 6)


cdef int _put_micros(Buffer *buffer, unsigned long long micros) except -1:
    """As `ingest.money.format_micros` does: the shortest decimal."""
    cdef unsigned long long fraction = micros % 1_000_000
    cdef unsigned char digits[6]
    cdef int number, size = 6
    _put_number(buffer, micros // 1_000_000)
    if fraction:
        for number in range(5, -1, -1):
            digits[number] = 48 + fraction % 10
            fraction //= 10
        while digits[size - 1] == 48:
            size -= 1
        _put_byte(buffer, 46)
        _put(buffer, digits, size)
    return 0


# Texts ----------------------------------------------------------------------------------------------------------------


cdef struct Slot:
    Text at
    Py_ssize_t size
    int classes


cdef inline str _text(Slot *slot):
    return PyUnicode_DecodeASCII(<const char *>slot.at, slot.size, NULL)


cdef bint _is_word(Slot *slot):
    """Whether it is one of the words that stand for no value."""
    if not BEGINS_WORD[slot.at[0]] or slot.size > _longest_word:
        return False
    return PyBytes_FromStringAndSize(<const char *>slot.at, slot.size) in _no_values


cdef inline bint _counts(Slot *slot):
    """Whether a value that counts is read as it is: visible ASCII, not empty, not too long, no macro."""
    return 0 < slot.size <= MAX_TEXT_BYTES and slot.classes == 0 and not _is_word(slot)


cdef bint _is_kept(Slot *slot):
    """Whether a param is kept as it is."""
    if slot.size > MAX_TEXT_BYTES or slot.classes & (ESCAPED | CONTROL):
        return False
    if slot.classes & HIGH:
        try:
            return PyUnicode_DecodeUTF8(<const char *>slot.at, slot.size, NULL).isprintable()
        except UnicodeDecodeError:
            return False
    return True


cdef bytes _lower(Slot *slot):
    cdef unsigned char low[MAX_TEXT_BYTES]
    cdef Py_ssize_t number
    for number in range(slot.size):
        low[number] = slot.at[number] | 0x20 if 65 <= slot.at[number] <= 90 else slot.at[number]
    return PyBytes_FromStringAndSize(<const char *>low, slot.size)


cdef long long _micros(Slot *slot):
    """An amount of 1 to 12 digits, perhaps a point and 1 to 6 more; -1 where it is written otherwise."""
    cdef unsigned long long micros = 0  # of 19 digits before the last one too many is seen
    cdef Py_ssize_t number = 0, whole, decimals
    while number < slot.size and 48 <= slot.at[number] <= 57 and number < 13:
        micros = micros * 10 + slot.at[number] - 48
        number += 1
    whole = number
    if whole == 0 or whole > 12:
        return -1
    decimals = 0
    if number < slot.size:
        if slot.at[number] != 46:
            return -1
        number += 1
        while number < slot.size and 48 <= slot.at[number] <= 57 and decimals < 7:
            micros = micros * 10 + slot.at[number] - 48
            number += 1
            decimals += 1
        if decimals == 0 or decimals > 6 or number < slot.size:
            return -1
    while decimals < 6:
        micros *= 10
        decimals += 1
    return <long long>micros


cdef long long _time_ms(Slot *slot) except? -2:
    """A time as `ingest.times` reads it; -1 where it cannot."""
    cdef long long number = 0
    cdef Py_ssize_t place
    if slot.size == 10 or slot.size == 13:
        for place in range(slot.size):
            if not 48 <= slot.at[place] <= 57:
                break
            number = number * 10 + slot.at[place] - 48
        else:
            if number < _least_ms:
                number *= 1000
            return number if _earliest_ms <= number < _end_ms else -1
    found = parse_time_ms(_text(slot))
    return -1 if found is None else found


