# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Plain postbacks, read, decided and encoded by compiled code.

A postback is plain if nothing in it needs a second look: names of a list that was seen before, values without blanks to
trim, macros or escapes, a campaign and a goal that take it, an amount that is written plainly. What this module says of
a plain postback `ingest.reading`, `ingest.decide` and `storage.records` say too, byte for byte; what it does not know for
certain it leaves to them (None), rejections among it. Prices, exchange rates, tokens and the choice of a rate are theirs
alone: they are asked, here nothing is computed but texts and ids.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from dedup.policy import IDENTITY, TrackMultiple
from dedup.port import TOKEN_BYTES, Entry, Verdict
from ingest import reading, wire
from ingest.arrival import Arrival, Unread, UnreadLine
from ingest.outcome import AWAY, UNAVAILABLE, Outcome, Result
from ingest.times import END_MS, EARLIEST_MS, LEAST_MILLISECONDS, parse_time_ms
from storage.records import Kind
from storage.statuses import GIVEN, STATUSES
from ingest.macros import MACRO_OPENERS, MACRO_WORDS

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    bint PyUnicode_IS_ASCII(object text)

ctypedef const unsigned char *Text

cdef enum:
    MAX_NAMES = 64
    MAX_NAMES_BYTES = 4096
    MAX_NAME_BYTES = 64
    MAX_TEXT_BYTES = 255
    MAX_PARAMS = 32
    FIELDS_COUNT = 9
    LISTS_REMEMBERED = 1024
    RATES_REMEMBERED = 4096

# What a byte of a value is.
cdef enum:
    BLANK = 1
    OPENS_MACRO = 2
    ESCAPED = 4
    HIGH = 8
    CONTROL = 16

# Places of the standard names, in the order of `ingest.wire.FIELDS`.
cdef enum:
    CLICK_ID = 0
    GOAL = 1
    TXN_ID = 2
    SALE_AMOUNT = 3
    CURRENCY = 4
    TOKEN = 5
    EVENT_ID = 6
    EVENT_TIME = 7
    STATUS = 8

if wire.FIELDS != (
    "click_id", "goal", "txn_id", "sale_amount", "currency", "security_token", "event_id", "event_time", "status"
) or (MAX_NAMES, MAX_NAMES_BYTES, LISTS_REMEMBERED) != (reading.MAX_NAMES, reading.MAX_NAMES_CHARS, reading.MAX_LAYOUTS) or (
    MAX_NAME_BYTES, MAX_TEXT_BYTES, MAX_PARAMS
) != (wire.MAX_PARAM_NAME_BYTES, wire.MAX_TEXT_BYTES, wire.MAX_PARAMS):
    raise ImportError("ingest.compiled.plain has other fields or limits than ingest.wire and ingest.reading")

cdef unsigned char CLASS[256]
cdef signed char HEX[256]
cdef unsigned char NAME[256]
cdef unsigned char BEGINS_WORD[256]

cdef void _fill_tables():
    cdef int byte
    for byte in range(256):
        CLASS[byte] = CONTROL if byte < 0x20 or byte == 0x7F else HIGH if byte >= 0x80 else 0
        HEX[byte] = -1
        NAME[byte] = 0x21 <= byte <= 0x7E
        BEGINS_WORD[byte] = 0
    for word in MACRO_WORDS:
        BEGINS_WORD[<int>ord(word[0])] = 1
    CLASS[0x20] = BLANK
    for opener in MACRO_OPENERS:
        CLASS[<int>ord(opener)] = OPENS_MACRO
    for escaped in '"\\':
        CLASS[<int>ord(escaped)] = ESCAPED
        NAME[<int>ord(escaped)] = 0
    for digit in range(10):
        HEX[48 + <int>digit] = <signed char>digit
    for digit in range(6):
        HEX[65 + <int>digit] = HEX[97 + <int>digit] = <signed char>(10 + <int>digit)
    for sign in "=&+%":  # in a query they end a name, or stand for something else
        NAME[<int>ord(sign)] = 0

_fill_tables()

cdef object _copy_identity = IDENTITY.copy
cdef object _no_values = frozenset(word.encode() for word in MACRO_WORDS)
cdef Py_ssize_t _longest_word = max(map(len, MACRO_WORDS))
cdef dict _given = {status.encode(): (GIVEN + status).encode() for status in STATUSES}
cdef bytes _conversion = Kind.CONVERSION.encode()
cdef object _no = TrackMultiple.NO
cdef object _yes = TrackMultiple.YES
cdef object _accepted = Verdict.ACCEPTED
cdef object _duplicate = Verdict.DUPLICATE
cdef object _conflict = Verdict.CONFLICT
cdef object _full = Verdict.FULL
cdef object _result_accepted = Result.ACCEPTED
cdef object _result_duplicate = Result.DUPLICATE
cdef object _result_conflict = Result.CONFLICT
cdef long long _earliest_ms = EARLIEST_MS
cdef long long _end_ms = END_MS
cdef long long _least_ms = LEAST_MILLISECONDS
cdef Py_ssize_t _token_bytes = TOKEN_BYTES
cdef const char *_DIGITS = b"0123456789abcdef"


include "plans.pxi"
include "texts.pxi"
include "reading.pxi"


# A batch --------------------------------------------------------------------------------------------------------------


cdef struct Said:
    # What a postback says, once it is decided; NULL and -1: nothing. `micros` as it was sent.
    Slot *click
    Slot *txn
    Slot *event
    long long clicked_ms
    long long received_us
    long long event_ms
    long long micros
    bint is_converted
    unsigned long long sale_micros
    unsigned long long rate_nanos
    unsigned char code[3]


cdef class Sheet:
    """A batch: what of it is plain, read and then decided."""

    cdef Plain _plain
    cdef list _arrivals, _held
    cdef Py_ssize_t _count
    cdef Item *_items
    cdef Buffer _slots, _values, _line
    cdef list _names, _conversion_ids, _profiles, _click_ids, _entries

    def __cinit__(self, Plain plain not None, arrivals):
        cdef Py_ssize_t place, size = 0
        self._plain, self._arrivals = plain, list(arrivals)
        self._count = len(self._arrivals)
        self._items = <Item *>malloc(max(1, self._count) * sizeof(Item))
        if self._items == NULL:
            raise MemoryError
        self._held = []
        self._click_ids = [None] * self._count
        self._names = [None] * self._count
        self._conversion_ids = [None] * self._count
        self._profiles = [None] * self._count
        for arrival in self._arrivals:
            if type(arrival) is Unread:
                size += len(<str?>arrival.query)
        # What is decoded is never longer; slots point into this, so it must not move.
        self._values.at = <unsigned char *>malloc(size + 1)
        if self._values.at == NULL:
            raise MemoryError
        self._values.room = size + 1
        _make_room(&self._slots, self._count * 16 * sizeof(Slot))
        for place in range(self._count):
            self._read(place, self._arrivals[place])

    def __dealloc__(self):
        free(self._items)
        free(self._slots.at)
        free(self._values.at)
        free(self._line.at)

    @property
    def click_ids(self):
        """By place; None: that postback is not plain."""
        return tuple(self._click_ids)

    @property
    def rest(self):
        """The places of all that is left to others, as far as that is known."""
        cdef list known = self._click_ids if self._entries is None else self._entries
        return [place for place in range(self._count) if known[place] is None]

    cdef Slot *_slot(self, Item *item, int number):
        return <Slot *>(self._slots.at + item.slots) + number

    cdef int _read(self, Py_ssize_t place, arrival) except -1:
        """Names and values of a postback, and its click_id if it has exactly one name that can give it."""
        cdef Item *item = self._items + place
        cdef unsigned char names[MAX_NAMES_BYTES]
        cdef Py_ssize_t size
        cdef Slot *click
        item.slots, item.count = self._slots.size, 0
        if type(arrival) is Unread:
            size = _read_query(&self._slots, &self._values, item, arrival.query, names)
        elif type(arrival) is UnreadLine:
            if arrival.idempotency_key is not None or arrival.signed is not None:
                return 0
            self._held.append(arrival.line)
            size = _read_line(&self._slots, item, arrival.line, names)
        elif type(arrival) is Arrival and type(arrival.sent) is dict and arrival.idempotency_key is None and (
            arrival.fault is None and arrival.signed is None and arrival.proven_for is None
        ):
            # Slots point into its texts, so they must stay, whatever becomes of the mapping.
            self._held.append(list((<dict>arrival.sent).values()))
            size = _read_fields(&self._slots, item, arrival.sent, names)
        else:
            return 0
        if size <= 0:
            return 0
        listed = PyBytes_FromStringAndSize(<const char *>names, size)
        item.click = self._plain._click_place(listed)
        if item.click < 0:
            return 0
        click = self._slot(item, item.click)
        if _counts(click):
            self._names[place] = listed
            self._click_ids[place] = _text(click)
        return 0

    def decide(self, packed):
        """What of it is a conversion, as the queue takes it, by place; None for what is left to others. `packed`: the
        clicks by id, as they are cached."""
        cdef Py_ssize_t place
        self._entries = [None] * self._count
        for place in range(self._count):
            click_id = self._click_ids[place]
            if click_id is not None:
                click = packed.get(click_id)
                if click is not None:
                    self._entries[place] = self._decide(place, self._arrivals[place].receipt, click_id, click)
        return list(self._entries)

    cdef object _decide(self, Py_ssize_t place, receipt, str click_id, bytes packed):
        cdef Item *item = self._items + place
        cdef Slot *slots = self._slot(item, 0)
        cdef Said said
        cdef long long campaign_id, publisher_id, received_ms
        cdef int number
        cdef unsigned char country[2]
        cdef CampaignPlan campaign
        cdef GoalPlan goal
        cdef Priced priced
        cdef Layout layout
        cdef bytes status, amounts, fact, field, postback_id

        if not _unpack(packed, &campaign_id, &publisher_id, &said.clicked_ms, country):
            return None
        campaign = self._plain._campaign(campaign_id)
        if campaign is None:
            return None
        layout = _layout(campaign.advertiser, self._names[place])
        if layout is None or layout.fields[CLICK_ID] != item.click:
            return None
        for number in range(FIELDS_COUNT):
            if layout.fields[number] >= 0 and not _counts(slots + layout.fields[number]):
                return None
        for number in range(len(layout.keys)):
            if not _is_kept(slots + layout.kept[number]):
                return None

        postback_id = receipt.postback_id
        said.received_us = receipt.received_us
        if postback_id is None or len(postback_id) != 16 or said.received_us < 0:
            return None
        received_ms = said.received_us // 1000
        if received_ms - said.clicked_ms > campaign.window_ms:
            return None
        if campaign.min_age_ms and received_ms - said.clicked_ms < campaign.min_age_ms:
            return None
        if campaign.advertiser.accepts is not None:
            if layout.fields[TOKEN] < 0 or not campaign.advertiser.accepts(_text(slots + layout.fields[TOKEN])):
                return None
        goal = campaign.default_goal
        if layout.fields[GOAL] >= 0:
            goal = campaign.goals.get(_lower(slots + layout.fields[GOAL]))
        if goal is None:
            return None
        priced = _priced(goal, publisher_id, country)
        if priced is None:
            return None

        status = goal.status
        if layout.fields[STATUS] >= 0:
            status = _given.get(_lower(slots + layout.fields[STATUS]))
            if status is None:
                return None
        said.event_ms = -1
        if layout.fields[EVENT_TIME] >= 0:
            said.event_ms = _time_ms(slots + layout.fields[EVENT_TIME])
            if said.event_ms < 0:
                return None
        said.click = slots + item.click
        said.txn = slots + layout.fields[TXN_ID] if layout.fields[TXN_ID] >= 0 else NULL
        said.event = slots + layout.fields[EVENT_ID] if layout.fields[EVENT_ID] >= 0 else NULL

        fact = self._sale(&said, campaign, layout, slots, received_ms)
        if fact is None:
            return None
        amounts = priced.amounts
        if amounts is None and said.micros >= 0:
            amounts = priced.price(said.sale_micros if said.is_converted else <unsigned long long>said.micros)
        if amounts is None:
            return None
        field, conversion_id = self._claim(&said, goal, postback_id)
        self._line.size = 0
        self._put_columns(&said, priced, postback_id, conversion_id, status, amounts, receipt.remote_ip)
        self._put_params(&said, layout, slots)
        self._conversion_ids[place] = conversion_id
        self._profiles[place] = campaign.advertiser.profile
        return Entry(
            click_id,
            field,
            postback_id[16 - _token_bytes:] + fact,
            said.clicked_ms + campaign.window_ms,
            _conversion,
            PyBytes_FromStringAndSize(<const char *>self._line.at, self._line.size),
        )

    cdef bytes _sale(self, Said *said, CampaignPlan campaign, Layout layout, Slot *slots, long long at_ms):
        """The fact that is claimed: the amount and its currency, empty where there is none. None where it is not plain.
        The sale in the campaign's currency is put into `said`."""
        cdef Buffer *line = &self._line
        cdef Slot *currency
        cdef int number
        said.micros, said.is_converted, said.sale_micros, said.rate_nanos = -1, False, 0, 0
        if layout.fields[SALE_AMOUNT] < 0:
            return b""
        said.micros = _micros(slots + layout.fields[SALE_AMOUNT])
        if said.micros < 0:
            return None
        line.size = 0
        _put_micros(line, said.micros)
        if layout.fields[CURRENCY] < 0:
            _put_bytes(line, campaign.currency)
            return PyBytes_FromStringAndSize(<const char *>line.at, line.size)
        currency = slots + layout.fields[CURRENCY]
        if currency.size != 3:
            return None
        for number in range(3):
            said.code[number] = currency.at[number]
            if 97 <= said.code[number] <= 122:
                said.code[number] -= 32
            if not 65 <= said.code[number] <= 90:
                return None
        _put(line, said.code, 3)
        if memcmp(said.code, PyBytes_AS_STRING(campaign.currency), 3) != 0:
            converted = campaign.convert(PyUnicode_DecodeASCII(<const char *>said.code, 3, NULL), said.micros, at_ms)
            if converted is None:
                return None
            said.sale_micros, said.rate_nanos = converted
            said.is_converted = True
        return PyBytes_FromStringAndSize(<const char *>line.at, line.size)

    cdef tuple _claim(self, Said *said, GoalPlan goal, bytes postback_id):
        """(the claim's field, the conversion's id): see `dedup.policy.claim_for`."""
        cdef Buffer *line = &self._line
        cdef bytes field
        line.size = 0
        _put_number(line, said.click.size)
        _put_byte(line, 58)
        _put(line, said.click.at, said.click.size)
        _put_bytes(line, goal.id_text)
        _put_byte(line, 58)
        if goal.is_once:
            field = goal.id_text
            _put_byte(line, 110)
        elif not goal.is_always:
            field = goal.id_text + b":"
            _put_byte(line, 116)
            if said.txn != NULL:
                field += PyBytes_FromStringAndSize(<const char *>said.txn.at, said.txn.size)
                _put(line, said.txn.at, said.txn.size)
        elif said.event != NULL:
            field = goal.id_text + b":" + PyBytes_FromStringAndSize(<const char *>said.event.at, said.event.size)
            _put_byte(line, 101)
            _put(line, said.event.at, said.event.size)
        else:
            field = b""
            _put_byte(line, 117)
            _put_bytes(line, postback_id)
        identity = _copy_identity()
        identity.update(PyBytes_FromStringAndSize(<const char *>line.at, line.size))
        return field, _conversion_id(said.clicked_ms, identity.digest())

    cdef int _put_columns(
        self, Said *said, Priced priced, bytes postback_id, str conversion_id, bytes status, bytes amounts, address
    ) except -1:
        """The line's columns in the order of `storage.records.COLUMNS`, but for the last, each with a tab behind it."""
        cdef Buffer *line = &self._line
        _put_uuid(line, <Text>PyBytes_AS_STRING(postback_id))
        _put_byte(line, 9)
        _put_number(line, said.received_us)
        _put_bytes(line, priced.before)
        _put(line, said.click.at, said.click.size)
        _put_byte(line, 9)
        _put_number(line, said.clicked_ms)
        _put_byte(line, 9)
        if said.txn == NULL:
            _put_null(line)
        else:
            _put(line, said.txn.at, said.txn.size)
        _put_byte(line, 9)
        _put(line, <Text>PyUnicode_AsUTF8AndSize(conversion_id, NULL), 36)
        _put_byte(line, 9)
        _put_bytes(line, status)
        _put_bytes(line, priced.after)
        if said.is_converted:
            _put_number(line, said.sale_micros)
        elif said.micros >= 0:
            _put_number(line, said.micros)
        else:
            _put_null(line)
        _put_byte(line, 9)
        _put_bytes(line, amounts)
        _put_byte(line, 9)
        if not said.is_converted:
            _put(line, <Text>b"\\N\t\\N\t\\N\t", 9)
        else:
            _put_number(line, said.micros)
            _put_byte(line, 9)
            _put(line, said.code, 3)
            _put_byte(line, 9)
            _put_number(line, said.rate_nanos)
            _put_byte(line, 9)
        if said.event_ms < 0:
            _put_null(line)
        else:
            _put_number(line, said.event_ms)
        _put_byte(line, 9)
        if address is not None:
            address = self._plain._address(address)
        if address is None:
            _put_null(line)
        else:
            _put_bytes(line, address.encode())
        return _put_byte(line, 9)

    cdef int _put_params(self, Said *said, Layout layout, Slot *slots) except -1:
        """The last column: JSON without blanks."""
        cdef Buffer *line = &self._line
        cdef Slot *slot
        cdef bytes key
        cdef int number
        _put_byte(line, 123)
        for number in range(len(layout.keys)):
            key = layout.keys[number]
            _put_bytes(line, key)
            slot = slots + layout.kept[number]
            _put(line, slot.at, slot.size)
            _put(line, <Text>b'",', 2)
        if said.event != NULL:
            _put(line, <Text>b'"event_id":"', 12)
            _put(line, said.event.at, said.event.size)
            _put(line, <Text>b'",', 2)
        if line.at[line.size - 1] == 44:
            line.size -= 1
        return _put_byte(line, 125)

    def outcomes(self, verdicts):
        """What is answered to those that were decided here, by place, once the queue has, or has not, taken them."""
        cdef Py_ssize_t place
        if len(verdicts) != self._count:
            raise ValueError("a verdict for each is needed")
        found = [AWAY] * self._count
        for place in range(self._count):
            if self._conversion_ids[place] is None:
                continue
            verdict = verdicts[place]
            if verdict is _accepted:
                result = _result_accepted
            elif verdict is _duplicate:
                result = _result_duplicate
            elif verdict is _conflict:
                result = _result_conflict
            else:
                if verdict is _full:
                    found[place] = UNAVAILABLE
                continue
            found[place] = Outcome(result, self._conversion_ids[place], None, None, self._profiles[place])
        return found


cdef str _conversion_id(long long clicked_ms, bytes digest):
    """See `dedup.policy.conversion_id`."""
    cdef Text bits = <Text>PyBytes_AS_STRING(digest)
    cdef unsigned int top = <unsigned int>bits[0] << 24 | bits[1] << 16 | bits[2] << 8 | bits[3]
    cdef unsigned char data[16]
    cdef unsigned char text[37]
    cdef Buffer buffer
    cdef int number
    for number in range(6):
        data[number] = <unsigned char>(clicked_ms >> (40 - 8 * number))
    data[6] = 0x80 | (top >> 22 & 0xF)
    data[7] = top >> 14 & 0xFF
    data[8] = 0x80 | (top >> 8 & 0x3F)
    data[9] = top & 0xFF
    memcpy(data + 10, bits + 4, 6)
    buffer.at, buffer.size, buffer.room = text, 0, 37
    _put_uuid(&buffer, data)
    return PyUnicode_DecodeASCII(<const char *>text, 36, NULL)


cdef bint _unpack(bytes packed, long long *campaign_id, long long *publisher_id, long long *clicked_ms, unsigned char *country):
    """See `ingest.clicks.unpack_click`."""
    cdef Text at = <Text>PyBytes_AS_STRING(packed)
    cdef Text end = at + PyBytes_GET_SIZE(packed)
    cdef long long numbers[3]
    cdef Text begin
    cdef int number
    for number in range(3):
        begin = at
        numbers[number] = 0
        while at < end and 48 <= at[0] <= 57:
            if at - begin == 18:
                return False
            numbers[number] = numbers[number] * 10 + at[0] - 48
            at += 1
        if at == begin or at == end or at[0] != 44:
            return False
        at += 1
    if numbers[2] >> 48:  # more than a conversion's id has room for
        return False
    campaign_id[0], publisher_id[0], clicked_ms[0] = numbers[0], numbers[1], numbers[2]
    country[0] = country[1] = 0
    if end - at == 2 and 65 <= at[0] <= 90 and 65 <= at[1] <= 90:
        country[0], country[1] = at[0], at[1]
        return True
    return at == end


cdef Layout _layout(AdvertiserPlan advertiser, bytes listed):
    """The layout of a list of names: made once and kept, as are the lists that have none."""
    found = advertiser.layouts.get(listed, advertiser)
    if found is advertiser:
        if len(advertiser.layouts) >= LISTS_REMEMBERED:
            advertiser.layouts.clear()
        names = _split(listed)
        found = advertiser.layout(names)
        if found is not None:
            (<Layout?>found).check(len(names))
        advertiser.layouts[listed] = found
    return found


cdef Priced _priced(GoalPlan goal, long long publisher_id, unsigned char *country):
    if publisher_id >= 1 << 46:
        return None
    key = publisher_id << 16 | country[0] << 8 | country[1]
    found = goal.known.get(key, goal)
    if found is goal:
        if len(goal.known) >= RATES_REMEMBERED:
            goal.known.clear()
        where = None if country[0] == 0 else PyUnicode_DecodeASCII(<const char *>country, 2, NULL)
        found = goal.known[key] = goal.priced(publisher_id, where)
    return found


cdef tuple _split(bytes listed):
    return tuple(listed.decode("ascii").rstrip("\n").split("\n"))


cdef class Plain:
    """Reads and decides plain postbacks under one snapshot of the catalog.

    `click_place`: which of a list of names is the only one that can give the click_id, -1 where that is not so;
    `campaign`: the plan of a campaign by its id, None where its postbacks are not plain; `address`: what is stored of an
    address.
    """

    cdef object _find_click, _find_campaign, _address
    cdef dict _click_places, _campaigns

    def __init__(self, click_place, campaign, address):
        self._find_click, self._find_campaign, self._address = click_place, campaign, address
        self._click_places = {}
        self._campaigns = {}

    def read(self, arrivals):
        """What of a batch is plain."""
        return Sheet(self, arrivals)

    cdef int _click_place(self, bytes listed) except? -2:
        """Lists of names are looked at when they come again: those that never do are not worth it."""
        found = self._click_places.get(listed, self)
        if found is self:
            if len(self._click_places) >= LISTS_REMEMBERED:
                self._click_places.clear()
            self._click_places[listed] = None
            return -1
        if found is None:
            names = _split(listed)
            found = self._find_click(names)
            if not -1 <= found < len(names):
                raise ValueError("a place beyond the names")
            self._click_places[listed] = found
        return found

    cdef CampaignPlan _campaign(self, long long campaign_id):
        found = self._campaigns.get(campaign_id, self)
        if found is self:
            if len(self._campaigns) >= RATES_REMEMBERED:
                self._campaigns.clear()
            found = self._campaigns[campaign_id] = self._find_campaign(campaign_id)
        return found
