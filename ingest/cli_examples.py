"""An example of each command, shown at the end of its `--help`."""

from __future__ import annotations

from typing import Final

import typer

EXAMPLES: Final = {
    "serve": ("serve --sample", "serve --role writer --config /etc/postback.toml"),
    "migrate": ("migrate --config /etc/postback.toml",),
    "status": ("status", "status --watch --every 5", "status --json"),
    "info": ("info --json",),
    "demo": ("demo",),
    "simulate": ("simulate 'click_id=demo-us-1&goal=purchase&txn_id=A-17&sale_amount=49.99' --from 203.0.113.7",),
    "url": ("url 100 purchase --sender appsflyer --base https://track.example.com", "url 100 --curl"),
    "senders": ("senders",),
    "sql": ("sql 'select count(*) from conversions'", "sql --format csv 'select * from campaigns'"),
    "query": ("query", "query campaign_by_day --campaign 100 --from 2026-11-01"),
    "export": ("export november.csv --from 2026-11-01 --to 2026-12-01 --table days",),
    "reconcile": ("reconcile their-list.csv --advertiser 1 --txn-id order_id --amount total --csv differs.csv",),
    "grant-readonly": ("grant-readonly analyst",),
    "adjust": (
        "adjust refunds.csv --dry-run",
        "adjust click_id=demo-us-1 goal=purchase txn_id=A-17 kind=refund percent=30 reference=R-1",
    ),
    "replay": ("replay --reason unknown_goal --since 2026-11-20 --campaign 100 --dry-run",),
    "erase": ("erase demo-us-1 --dry-run",),
    "partitions": ("partitions", "partitions --drop-expired --dry-run"),
    "clicks import": ("clicks import clicks.csv",),
    "catalog import": ("catalog import catalog.toml",),
    "catalog export": ("catalog export catalog.toml",),
    "dead-letters list": ("dead-letters list --limit 20",),
    "dead-letters retry": ("dead-letters retry 17 18", "dead-letters retry --all"),
    "dead-letters discard": ("dead-letters discard 17",),
    "keys create": ("keys create --name dashboard --role read",),
    "keys list": ("keys list",),
    "keys revoke": ("keys revoke 3",),
    "outbound list": ("outbound list",),
    "outbound set": ("outbound set 10 'https://publisher.example/postback?id={click_id}&sum={payout}' --goal 1000",),
    "outbound remove": ("outbound remove 10 --goal 1000",),
    "outbound secret": ("outbound secret 10",),
    "outbound test": ("outbound test 10 --dry-run",),
    "outbound messages": ("outbound messages --state given_up --publisher 10",),
    "outbound retry": ("outbound retry 10",),
}
"""By the command's name: what to type after `postback`."""


def add_examples(app: typer.Typer, prefix: str = "") -> None:
    """To every command that was added before, and to those of its groups."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        if examples := EXAMPLES.get(f"{prefix}{name}"):
            # \b: a paragraph whose lines stay as they are.
            command.epilog = "Examples:\n\n\b\n" + "\n".join(f"  postback {example}" for example in examples)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, f"{prefix}{group.name} ")
