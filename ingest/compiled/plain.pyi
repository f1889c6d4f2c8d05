"""What ingest/compiled/plain.pyx has for others."""

from collections.abc import Callable, Mapping, Sequence

from dedup.policy import TrackMultiple
from dedup.port import Entry, Verdict
from ingest.arrival import Waiting
from ingest.catalog import Profile
from ingest.outcome import Outcome

class Layout:
    def __init__(self, fields: tuple[int, ...], params: list[tuple[bytes, int]]) -> None: ...

class Priced:
    def __init__(
        self, before: bytes, after: bytes, amounts: bytes | None, price: Callable[[int], bytes | None]
    ) -> None: ...

class GoalPlan:
    def __init__(
        self, goal_id: int, policy: TrackMultiple, status: bytes, priced: Callable[[int, str | None], Priced | None]
    ) -> None: ...

class AdvertiserPlan:
    def __init__(
        self,
        layout: Callable[[tuple[str, ...]], Layout | None],
        accepts: Callable[[str], bool] | None,
        profile: Profile,
    ) -> None: ...

class CampaignPlan:
    def __init__(
        self,
        advertiser: AdvertiserPlan,
        window_ms: int,
        min_age_ms: int,
        currency: bytes,
        goals: dict[bytes, GoalPlan],
        default_goal: GoalPlan | None,
        convert: Callable[[str, int, int], tuple[int, int] | None],
    ) -> None: ...

class Sheet:
    @property
    def click_ids(self) -> Sequence[str | None]: ...
    @property
    def rest(self) -> Sequence[int]: ...
    def decide(self, packed: Mapping[str, bytes | None]) -> list[Entry | None]: ...
    def outcomes(self, verdicts: Sequence[Verdict]) -> list[Outcome]: ...

class Plain:
    def __init__(
        self,
        click_place: Callable[[tuple[str, ...]], int],
        campaign: Callable[[int], CampaignPlan | None],
        address: Callable[[str], str | None],
    ) -> None: ...
    def read(self, arrivals: Sequence[Waiting]) -> Sheet: ...
