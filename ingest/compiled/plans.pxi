# What the catalog says, as it is needed here --------------------------------------------------------------------------


cdef class Layout:
    """Where in a list of names the standard ones are (-1: nowhere), and the params: each as it begins in JSON, and its
    place."""

    cdef int fields[FIELDS_COUNT]
    cdef int kept[MAX_PARAMS]
    cdef list keys

    def __init__(self, tuple fields not None, list params not None):
        cdef int number
        if len(fields) != FIELDS_COUNT or len(params) > MAX_PARAMS:
            raise ValueError("a layout of other fields, or of too many params")
        for number in range(FIELDS_COUNT):
            self.fields[number] = fields[number]
        self.keys = [<bytes?>key for key, _ in params]
        for number in range(len(params)):
            self.kept[number] = params[number][1]

    cdef int check(self, Py_ssize_t count) except -1:
        """That no place is beyond `count` names: where the values are, nothing looks again."""
        cdef int number
        for number in range(FIELDS_COUNT):
            if not -1 <= self.fields[number] < count:
                raise ValueError("a place beyond the names")
        for number in range(len(self.keys)):
            if not 0 <= self.kept[number] < count:
                raise ValueError("a place beyond the names")
        return 0


cdef class Priced:
    """What one conversion of a goal comes to, for a publisher and a country: columns of the line, as bytes.

    `before`: from reason to goal_version; `after`: country and currency; `amounts`: revenue and payout, None where they
    hang on the sale: then `price` gives them for its micros, None where they are too large.
    """

    cdef bytes before, after, amounts
    cdef object price

    def __init__(self, bytes before not None, bytes after not None, bytes amounts, price):
        self.before, self.after, self.amounts, self.price = before, after, amounts, price


cdef class GoalPlan:
    """An active goal. `priced` gives what it comes to for (publisher, country), None where nothing covers them."""

    cdef bytes id_text, status
    cdef bint is_once, is_always
    cdef object priced
    cdef dict known

    def __init__(self, long long goal_id, policy, bytes status not None, priced):
        self.id_text = b"%d" % goal_id
        self.is_once, self.is_always = policy is _no, policy is _yes
        self.status, self.priced = status, priced
        self.known = {}


cdef class AdvertiserPlan:
    """Whose postbacks may be plain. `layout` makes the layout of a list of names, None where there is none; `accepts`
    judges a token, None: none is asked for."""

    cdef object layout, accepts, profile
    cdef dict layouts

    def __init__(self, layout, accepts, profile):
        self.layout, self.accepts, self.profile = layout, accepts, profile
        self.layouts = {}


cdef class CampaignPlan:
    """An active campaign. `convert` gives, of a currency, micros in it and a time in ms, the micros in this one and the
    rate; None where that cannot be."""

    cdef AdvertiserPlan advertiser
    cdef long long window_ms, min_age_ms
    cdef bytes currency
    cdef dict goals
    cdef GoalPlan default_goal
    cdef object convert

    def __init__(
        self,
        AdvertiserPlan advertiser not None,
        long long window_ms,
        long long min_age_ms,
        bytes currency not None,
        dict goals not None,
        GoalPlan default_goal,
        convert,
    ):
        if len(currency) != 3:
            raise ValueError("a currency of more or fewer than three letters")
        self.advertiser, self.window_ms, self.min_age_ms = advertiser, window_ms, min_age_ms
        self.currency, self.goals, self.default_goal, self.convert = currency, goals, default_goal, convert


