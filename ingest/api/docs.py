"""The OpenAPI document as a page for people: no script, and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

STYLE: Final = """\
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1, h2 { line-height: 1.2; } h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); overflow-x: auto; padding: .75rem; }
section { border-left: 3px solid var(--line); margin: 1.5rem 0; padding-left: 1rem; }
.method { border: 1px solid var(--line); border-radius: 3px; padding: 0 .4rem; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0; }
td, th { text-align: left; vertical-align: top; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    title = f"{document['info']['title']} API {document['info']['version']}"
    about = "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f'<title>{escape(title)}</title><link rel="stylesheet" href="docs.css"></head><body>',
            f"<h1>{escape(title)}</h1>{about}",
            '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
            "<h2>Operations</h2>",
            *_operations(document),
            "<h2>Documents</h2>",
            *_schemas(document["components"]["schemas"]),
            "</body></html>",
        )
    )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    root = document["servers"][0]["url"]
    for path, item in document["paths"].items():
        for method in ("get", "post", "patch"):
            operation = item.get(method)
            if operation is None:
                continue
            yield f'<section id="{escape(operation["operationId"])}"><h3>'
            yield f'<span class="method">{method.upper()}</span> <code>{escape(root + path)}</code></h3>'
            yield f"<p>{escape(operation['summary'])}.</p>"
            yield from _parameters([*item.get("parameters", []), *operation.get("parameters", [])])
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<p>Body, <code>{escape(media)}</code>: {_link(content['schema'])}</p>"
            yield from _answers(operation["responses"])
            yield "</section>"


def _parameters(parameters: list[Mapping[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "<table><tr><th>parameter</th><th>in</th><th>meaning</th><th>values</th></tr>"
    for one in parameters:
        cells = (f"<code>{escape(one['name'])}</code>", escape(one["in"]), escape(one.get("description", "")))
        values = f"<code>{escape(json.dumps(one['schema'], ensure_ascii=False))}</code>"
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in (*cells, values))}</tr>"
    yield "</table>"


def _answers(responses: Mapping[str, Any]) -> Iterator[str]:
    yield "<table><tr><th>status</th><th>meaning</th><th>body</th></tr>"
    for status, response in responses.items():
        bodies = ", ".join(_link(content["schema"]) for content in response["content"].values())
        yield f"<tr><td>{status}</td><td>{escape(response['description'])}</td><td>{bodies}</td></tr>"
    yield "</table>"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        shown = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f'<details id="schema-{escape(name)}"><summary>{escape(name)}</summary><pre>{shown}</pre></details>'


def _link(schema: Mapping[str, Any]) -> str:
    """A reference to a schema of the page, also of the items of a list's page."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    items = schema.get("properties", {}).get("items", {}).get("items")
    return f"a page of {_link(items)}" if items else "see the document"
