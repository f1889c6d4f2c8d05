"""Claims over any input: the same event always has the same id, another never."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from dedup.policy import TrackMultiple, claim_for

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
policies = st.sampled_from(list(TrackMultiple))
events = st.fixed_dictionaries(
    {
        "click_id": texts,
        "clicked_ms": st.integers(0, 2**48 - 1),
        "goal_id": st.integers(1, 2**63 - 1),
        "txn_id": st.none() | texts,
        "event_id": st.none() | texts,
        "nonce": st.binary(min_size=16, max_size=16),
    }
)


def identity(policy: TrackMultiple, event: dict[str, object]) -> tuple[object, ...]:
    """What makes an event one of its own under the policy."""
    common = (event["click_id"], event["clicked_ms"], event["goal_id"])
    if policy is TrackMultiple.NO:
        return (*common, "no")
    if policy is TrackMultiple.YES_WITH_TXN_ID:
        return (*common, "txn", event["txn_id"] or "")
    return (*common, "event", event["event_id"]) if event["event_id"] else (*common, "nonce", event["nonce"])


@given(policies, events)
def test_ids_are_well_formed_and_repeatable(policy: TrackMultiple, event: dict[str, object]) -> None:
    claim = claim_for(policy, **event)  # type: ignore[arg-type]  # the strategy makes what it takes
    assert claim == claim_for(policy, **event)  # type: ignore[arg-type]  # the same
    made = UUID(claim.conversion_id)
    assert (made.version, made.variant, made.int >> 80) == (8, RFC_4122, event["clicked_ms"])
    assert (claim.field is None) == (policy is TrackMultiple.YES and not event["event_id"])


@given(st.data())
def test_two_events_share_an_id_only_if_they_are_the_same(data: st.DataObject) -> None:
    first_policy, first = data.draw(policies), data.draw(events)
    # Mostly alike, or the two would never meet.
    second_policy = data.draw(st.just(first_policy) | policies)
    second = {name: data.draw(st.just(value) | texts_like(name)) for name, value in first.items()}
    one = claim_for(first_policy, **first)  # type: ignore[arg-type]  # the strategy makes what it takes
    other = claim_for(second_policy, **second)  # type: ignore[arg-type]  # the same
    is_same = identity(first_policy, first) == identity(second_policy, second)
    assert (one.conversion_id == other.conversion_id) == is_same
    if first_policy is second_policy and first["click_id"] == second["click_id"] and one.field is not None:
        # One click: fields meet exactly where events do, whatever its time (which never changes for a click).
        assert (one.field == other.field) == (identity(first_policy, first)[2:] == identity(second_policy, second)[2:])


def texts_like(name: str) -> st.SearchStrategy[object]:
    """Values of one of the event's members."""
    if name == "clicked_ms":
        return st.integers(0, 2**48 - 1)
    if name == "goal_id":
        return st.integers(1, 2**63 - 1)
    if name == "nonce":
        return st.binary(min_size=16, max_size=16)
    return texts
