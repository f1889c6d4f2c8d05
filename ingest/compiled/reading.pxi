# Names and values -----------------------------------------------------------------------------------------------------
# Readers put the names, each with a line feed behind it, into `names` (MAX_NAMES_BYTES long), and add a slot for each value.


cdef struct Item:
    Py_ssize_t slots
    int count
    int click


cdef int _add(Buffer *slots, Item *item, Text at, Py_ssize_t size, int classes) except -1:
    cdef Slot *slot
    _make_room(slots, sizeof(Slot))
    slot = <Slot *>(slots.at + slots.size)
    slot.at, slot.size, slot.classes = at, size, classes
    slots.size += sizeof(Slot)
    item.count += 1
    return 0


cdef inline Py_ssize_t _add_name(Item *item, unsigned char *names, Py_ssize_t used, Text name, Py_ssize_t size):
    """How long the list of names is with one more; 0: it is not plain."""
    if size == 0 or size > MAX_NAME_BYTES or item.count == MAX_NAMES or used + size + 1 > MAX_NAMES_BYTES:
        return 0
    memcpy(names + used, name, size)
    names[used + size] = 10
    return used + size + 1


cdef Py_ssize_t _read_query(Buffer *slots, Buffer *values, Item *item, str query, unsigned char *names) except -1:
    """How long the list of names is; 0: the query is not plain."""
    cdef Py_ssize_t left, used = 0
    cdef Text at, end, begin
    cdef unsigned char *out = values.at + values.size
    cdef unsigned char *value
    cdef unsigned char byte
    cdef int classes
    if not PyUnicode_IS_ASCII(query):  # it would be longer than there is room for
        return 0
    at = <Text>PyUnicode_AsUTF8AndSize(query, &left)
    end = at + left
    while True:
        begin = at
        while at < end and NAME[at[0]]:
            at += 1
        if at == end or at[0] != 61:
            return 0
        used = _add_name(item, names, used, begin, at - begin)
        if used == 0:
            return 0
        at += 1
        value = out
        classes = 0
        while at < end:
            byte = at[0]
            if byte == 38:
                break
            if byte == 43:
                byte = 32
            elif byte == 37:
                if end - at < 3 or HEX[at[1]] < 0 or HEX[at[2]] < 0:
                    return 0
                byte = <unsigned char>(HEX[at[1]] << 4 | HEX[at[2]])
                at += 2
            classes |= CLASS[byte]
            out[0] = byte
            out += 1
            at += 1
        _add(slots, item, value, out - value, classes)
        if at == end:
            values.size = out - values.at
            return used
        at += 1


cdef Py_ssize_t _read_fields(Buffer *slots, Item *item, dict fields, unsigned char *names) except -1:
    """The same of a mapping of texts."""
    cdef Py_ssize_t size, number, used = 0
    cdef Text at
    cdef int classes
    for name, value in fields.items():
        if type(name) is not str or type(value) is not str or not PyUnicode_IS_ASCII(name):
            return 0
        at = <Text>PyUnicode_AsUTF8AndSize(name, &size)
        for number in range(size):
            if not NAME[at[number]]:
                return 0
        used = _add_name(item, names, used, at, size)
        if used == 0:
            return 0
        try:
            at = <Text>PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:
            return 0
        classes = 0
        for number in range(size):
            classes |= CLASS[at[number]]
        _add(slots, item, at, size, classes)
    return used


cdef inline Text _next(Text at, Text end):
    """Past what JSON takes for blanks."""
    while at < end and (at[0] == 32 or 9 <= at[0] <= 10 or at[0] == 13):
        at += 1
    return at


cdef Py_ssize_t _read_line(Buffer *slots, Item *item, bytes line, unsigned char *names) except -1:
    """The same of a line of JSON: one object of texts without escapes."""
    cdef Text at, end, begin
    cdef Py_ssize_t used = 0
    cdef int classes, met = 0
    if line is None:
        return 0
    at = <Text>PyBytes_AS_STRING(line)
    end = at + PyBytes_GET_SIZE(line)
    at = _next(at, end)
    if at == end or at[0] != 123:
        return 0
    while True:
        at = _next(at + 1, end)
        if at == end or at[0] != 34:
            return 0
        at += 1
        begin = at
        while at < end and NAME[at[0]]:
            at += 1
        if at == end or at[0] != 34:
            return 0
        used = _add_name(item, names, used, begin, at - begin)
        if used == 0:
            return 0
        at = _next(at + 1, end)
        if at == end or at[0] != 58:
            return 0
        at = _next(at + 1, end)
        if at == end or at[0] != 34:
            return 0
        at += 1
        begin = at
        classes = 0
        while at < end and not CLASS[at[0]] & (ESCAPED | CONTROL):
            classes |= CLASS[at[0]]
            at += 1
        if at == end or at[0] != 34:
            return 0
        _add(slots, item, begin, at - begin, classes)
        met |= classes
        at = _next(at + 1, end)
        if at == end:
            return 0
        if at[0] != 44:
            break
    if at[0] != 125 or _next(at + 1, end) != end:
        return 0
    if met & HIGH:  # JSON that is not UTF-8 is none, wherever it stands
        try:
            PyUnicode_DecodeUTF8(PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line), NULL)
        except UnicodeDecodeError:
            return 0
    return used
