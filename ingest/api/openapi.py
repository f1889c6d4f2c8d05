"""The OpenAPI 3.1 document of /api/v1, made from `ingest.api.schemas`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ingest import __version__
from ingest.api import schemas
from ingest.api.requests import DEFAULT_LIMIT, JSON, MERGE_PATCH
from ingest.catalog import GoalType, Standing, Status
from ingest.catalog_change import Kind
from ingest.catalog_filters import FILTERS, HISTORY
from ingest.catalog_service import MAX_PAGE
from ingest.event_url import EventUrl

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/"
_RATE_ID: Final[Schema] = {"type": "string", "examples": ["EUR-USD-2026-11-01"]}
_ID: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
PLURALS: Final = {
    Kind.ADVERTISER: "advertisers",
    Kind.PUBLISHER: "publishers",
    Kind.CAMPAIGN: "campaigns",
    Kind.GOAL: "goals",
    Kind.EXCHANGE_RATE: "exchange-rates",
}
"""How each kind's path ends."""
_ABOUT: Final = """\
Advertisers, publishers, campaigns, goals with their rates and caps, and exchange rates. Keys are those of a catalog
file. A change is in force at every receiver within a second; each is remembered under /history.

Every request carries a key: `Authorization: Bearer KEY`. A key of role `read` may GET, one of role `admin` may change.

A document has a version, which is its ETag too. Who changes it names the version that was read, as `If-Match: "3"` or
as `version` in the body; if it has changed since, nothing is changed (412 for the header, 409 for the body) and the
answer names the present version. A patch is a JSON merge patch (RFC 7396): lists are replaced as a whole, null takes a
key out.

Nothing is ever deleted: archive with `{"status": "archived"}`, take it back with `active`.
"""


def openapi_document() -> Schema:
    """The document, as plain values."""
    types = [*schemas.DOCUMENTS.values(), schemas.Margin, schemas.Problem, schemas.Change, EventUrl]
    _, components = msgspec.json.schema_components(types, ref_template=_REF + "{name}")
    inputs: dict[str, Schema] = {}
    for kind, document in schemas.DOCUMENTS.items():
        name = document.__name__
        given = _inlined(components[name], components)
        inputs[f"{name}New"] = _new(given, kind)
        inputs[f"{name}Patch"] = _patch(given, kind)
    for kind, document in schemas.DOCUMENTS.items():
        components[document.__name__] = _view(components[document.__name__], kind)
    for nested in (schemas.Terms, schemas.Payout, schemas.Rate, schemas.Cap):
        components[nested.__name__]["required"] = list(components[nested.__name__]["properties"])
    paths: dict[str, Schema] = {}
    for kind, plural in PLURALS.items():
        paths[f"/{plural}"] = {"get": _list(kind), "post": _create(kind)}
        paths[f"/{plural}/{{id}}"] = {"parameters": [_path_id(kind)], "get": _get(kind), "patch": _change(kind)}
    paths["/campaigns/{id}/goals/{goal}/url"] = {
        "parameters": [_path("id", _ID, "The campaign's."), _path("goal", _ID, "The goal's.")],
        "get": _url(),
    }
    paths["/history"] = {"get": _history()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "postback", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/api/v1"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: components[name] for name in sorted(components)} | inputs,
        },
    }


# Documents -----------------------------------------------------------------------------------------------------------


def _view(fields: Schema, kind: Kind) -> Schema:
    """What is shown: everything, always."""
    properties: Schema = {"id": _id(kind), "version": {"type": "integer", "minimum": 1}, **fields["properties"]}
    if kind is Kind.GOAL:
        properties["margins"] = {
            "type": "array",
            "items": {"$ref": f"{_REF}Margin"},
            "description": "Of each rate, in order.",
        }
        properties["warnings"] = {
            "type": "array",
            "items": {"$ref": f"{_REF}Finding"},
            "description": "Payouts above their revenue.",
        }
    return {**fields, "properties": properties, "required": list(properties)}


def _new(given: Schema, kind: Kind) -> Schema:
    """What a creation gives; null is as left out."""
    required = set(given["required"])
    properties = {name: field if name in required else _nullable(field) for name, field in given["properties"].items()}
    about = "None: it is given one." if kind is not Kind.EXCHANGE_RATE else "Made of from, to and valid_from."
    properties["id"] = _nullable({**_id(kind), "description": about})
    return {**given, "title": f"{given['title']}New", "properties": properties}


def _patch(given: Schema, kind: Kind) -> Schema:
    """What a merge patch may hold; null sets what may be left out back to its default."""
    required = set(given["required"])
    properties = {name: field if name in required else _nullable(field) for name, field in given["properties"].items()}
    if kind is Kind.ADVERTISER:
        aliases = given["properties"]["aliases"]
        names = {**aliases, "additionalProperties": _nullable(aliases["additionalProperties"])}
        properties["aliases"] = _nullable(names)
    properties["version"] = {"type": "integer", "description": "The version that was read, where If-Match is not sent."}
    properties["id"] = {**_id(kind), "description": "Cannot be changed."}
    return {**given, "title": f"{given['title']}Patch", "properties": properties, "required": []}


def _id(kind: Kind) -> Schema:
    return dict(_RATE_ID if kind is Kind.EXCHANGE_RATE else _ID)


def _nullable(schema: Schema) -> Schema:
    if {"type": "null"} in schema.get("anyOf", []):
        return schema
    return {"anyOf": [{key: value for key, value in schema.items() if key != "default"}, {"type": "null"}]}


def _inlined(schema: Any, components: Mapping[str, Schema]) -> Any:
    """The schema without references, as it is on the way in: a decimal may also be a whole number."""
    if isinstance(schema, list):
        return [_inlined(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = components[schema["$ref"].removeprefix(_REF)]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    inlined = {key: value if key == "default" else _inlined(value, components) for key, value in schema.items()}
    if inlined.get("format") == "decimal":
        default = {key: inlined.pop(key) for key in ("default",) if key in inlined}
        return {"anyOf": [inlined, {"type": "integer", "minimum": 0}], **default}
    return inlined


# Operations ----------------------------------------------------------------------------------------------------------


def _name(kind: Kind) -> str:
    return schemas.DOCUMENTS[kind].__name__


def _words(kind: Kind) -> str:
    return kind.value.replace("_", " ")


def _list(kind: Kind) -> Schema:
    page = _page({"$ref": _REF + _name(kind)})
    return _operation(
        kind,
        f"list{_name(kind)}s",
        f"{_words(kind).capitalize()}s in order of their ids",
        {"200": _json("A page.", page)},
        422,
        parameters=[*_filters(kind), *_paging()],
    )


def _get(kind: Kind) -> Schema:
    return _operation(kind, f"get{_name(kind)}", f"One {_words(kind)}", {"200": _one(kind, "It.")}, 404, 422)


def _create(kind: Kind) -> Schema:
    return _operation(
        kind,
        f"create{_name(kind)}",
        f"A new {_words(kind)}",
        {"201": _one(kind, "It is there now.", {"Location": {"schema": {"type": "string"}}})},
        *(400, 408, 409, 413, 415, 422),
        body={JSON: f"{_name(kind)}New"},
    )


def _change(kind: Kind) -> Schema:
    return _operation(
        kind,
        f"patch{_name(kind)}",
        f"Change, archive or take back a {_words(kind)}",
        {"200": _one(kind, "As it is now; what changes nothing makes no new version.")},
        *(400, 404, 408, 409, 412, 413, 415, 422, 428),
        parameters=[
            {
                "name": "If-Match",
                "in": "header",
                "schema": {"type": "string", "pattern": '^"[0-9]{1,9}"$', "examples": ['"3"']},
                "description": "The version that was read.",
            }
        ],
        body={MERGE_PATCH: f"{_name(kind)}Patch", JSON: f"{_name(kind)}Patch"},
    )


def _url() -> Schema:
    text = {"type": "string"}
    return _operation(
        "goal",
        "getEventUrl",
        "The event postback to hand to the advertiser",
        {"200": _json("It.", {"$ref": f"{_REF}EventUrl"})},
        *(404, 422),
        parameters=[
            _query(
                "base", {**text, "examples": ["https://t.example.com"]}, "Where advertisers reach us; none: as you do."
            ),
            _query("sender", {**text, "default": "generic"}, "Whose macros; `postback senders` lists them."),
            _query("event_time", {"enum": ["true", "false"], "default": "false"}, "With the time of the event."),
        ],
    )


def _history() -> Schema:
    return _operation(
        "history",
        "listHistory",
        "Changes of the catalog, the newest first",
        {"200": _json("A page.", _page({"$ref": f"{_REF}Change"}))},
        422,
        parameters=[*_filters(HISTORY), *_paging()],
    )


_ERRORS: Final = {
    400: "The body is not JSON.",
    401: "No key, or none that is good.",
    403: "The key's role may not do that: `read` changes nothing, `clicks` sees nothing.",
    404: "There is none.",
    408: "The body did not arrive in time.",
    409: "It exists already, or has changed since the version in the body.",
    412: "It has changed since the version in If-Match.",
    413: "The body is too long.",
    415: "The body is of another type.",
    422: "A field, a parameter or a header is wrong; `errors` names it.",
    428: "The version that was read is not named.",
    503: "The database cannot be asked. Retry-After says when to try again.",
}


def _operation(tag: str, operation_id: str, summary: str, answers: Schema, *errors: int, **more: Any) -> Schema:
    body = more.pop("body", None)
    if body is not None:
        content = {media: {"schema": {"$ref": _REF + name}} for media, name in body.items()}
        more["requestBody"] = {"required": True, "content": content}
    problems = {
        str(status): {
            "description": _ERRORS[status],
            "content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}},
        }
        for status in sorted({*errors, 401, 403, 503})
    }
    return {
        "operationId": operation_id,
        "tags": [str(tag)],
        "summary": summary,
        **more,
        "responses": answers | problems,
    }


def _one(kind: Kind, description: str, headers: Schema | None = None) -> Schema:
    answer = _json(description, {"$ref": _REF + _name(kind)})
    return {**answer, "headers": {"ETag": {"schema": {"type": "string"}}, **(headers or {})}}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _page(item: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": item},
            "next_cursor": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "null: that was all."},
        },
        "required": ["items", "next_cursor"],
        "additionalProperties": False,
    }


def _filters(name: str) -> list[Schema]:
    statuses: type[Status | Standing] = Status if name in {Kind.CAMPAIGN, Kind.GOAL} else Standing
    known: dict[str, tuple[Schema, str]] = {
        "status": ({"enum": [one.value for one in statuses]}, "Only those."),
        "search": ({"type": "string", "minLength": 1, "maxLength": 200}, "A part of a name, without regard to case."),
        "advertiser": (_ID, "Only this one's."),
        "campaign": (_ID, "Only this one's."),
        "type": ({"enum": [one.value for one in GoalType]}, "Only those."),
        "from": ({"type": "string", "pattern": "^[A-Z]{3}$"}, "Only from this currency."),
        "to": ({"type": "string", "pattern": "^[A-Z]{3}$"}, "Only to this currency."),
        "kind": ({"enum": [one.value for one in Kind]}, "Only those."),
        "id": ({"type": "string", "minLength": 1, "maxLength": 64}, "Only this one's; say its kind too."),
        "changed_by": ({"type": "string", "minLength": 1, "maxLength": 200}, "Only this one's doing."),
    }
    return [_query(key, *known[key]) for key in FILTERS[name]]


def _paging() -> list[Schema]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_LIMIT}
    return [
        _query("cursor", {"type": "string"}, "The next_cursor of the page before."),
        _query("limit", limit, "The most there may be on a page."),
    ]


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _path(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _path_id(kind: Kind) -> Schema:
    return _path("id", _id(kind), f"The {_words(kind)}'s.")
