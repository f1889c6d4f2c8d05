"""Reason codes: the contract with senders and with whoever queries `reason`."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a postback was not counted, or was counted otherwise than usual (`goal_not_assigned`)."""

    UNKNOWN_CLICK = "unknown_click"
    CLICK_EXPIRED = "click_expired"
    CLICK_TOO_FRESH = "click_too_fresh"
    UNKNOWN_CAMPAIGN = "unknown_campaign"
    CAMPAIGN_INACTIVE = "campaign_inactive"
    UNKNOWN_GOAL = "unknown_goal"
    GOAL_INACTIVE = "goal_inactive"
    OUTSIDE_COVERAGE = "outside_coverage"
    MISSING_SALE_AMOUNT = "missing_sale_amount"
    BAD_AMOUNT = "bad_amount"
    BAD_CURRENCY = "bad_currency"
    NO_EXCHANGE_RATE = "no_exchange_rate"
    MISSING_CLICK_ID = "missing_click_id"
    BAD_PARAMETER = "bad_parameter"
    BAD_TOKEN = "bad_token"  # noqa: S105 - a reason code, no secret
    BAD_SIGNATURE = "bad_signature"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    OVER_CAP = "over_cap"
    GOAL_NOT_ASSIGNED = "goal_not_assigned"
