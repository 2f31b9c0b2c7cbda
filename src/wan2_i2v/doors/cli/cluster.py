"""`wan2-i2v cluster`: what the Ray cluster has, before jobs are given to it."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from wan2_i2v.doors.cli import output
from wan2_i2v.doors.cli.output import AsJson

if TYPE_CHECKING:
    from wan2_i2v.cluster.connection import Node, Seen

app = typer.Typer(help="The Ray cluster that --backend ray uses.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """The Ray cluster that --backend ray uses."""


@app.command()
def status(json: AsJson = False) -> int:
    """Show the cluster's machines and cards, and whether each can run this program.

    The cluster is that of RAY_ADDRESS, else the one that this machine is part of. Exits with 12 when there is none, or a machine
    cannot work.
    """
    from wan2_i2v.cluster import connection
    from wan2_i2v.errors import ClusterError

    ray = connection.connect()
    nodes = connection.nodes(ray)
    seen = connection.ask(ray, nodes)
    total, free = ray.cluster_resources(), ray.available_resources()
    found = {
        "address": ray.get_runtime_context().gcs_address,
        "token_authentication": os.environ.get("RAY_AUTH_MODE") == "token",
        "cards": int(total.get("GPU", 0)),
        "free_cards": free.get("GPU", 0.0),
        "processors": int(total.get("CPU", 0)),
        "object_store_gib": round(total.get("object_store_memory", 0) / 2**30, 1),
    }
    if json:
        output.result(found | {"machines": [_plain(node, seen[node.id]) for node in nodes]})
    else:
        _show(found, nodes, seen)
    able = all(one.error is None for one in seen.values())
    return 0 if able else ClusterError.exit_code


def _plain(node: Node, seen: Seen) -> dict[str, Any]:
    card = None if seen.card is None else dataclasses.asdict(seen.card)
    return dataclasses.asdict(node) | {"version": seen.version, "card": card, "error": seen.error}


def _show(found: dict[str, Any], nodes: tuple[Node, ...], seen: dict[str, Seen]) -> None:
    tokens = "on" if found["token_authentication"] else "OFF: anyone who reaches the cluster's ports can run code there"
    typer.echo(
        f"{found['address']}: {found['cards']} cards ({found['free_cards']:g} free), {found['processors']} processors, "
        f"object store {found['object_store_gib']} GiB; token authentication {tokens}"
    )
    table = Table("machine", "cards", "processors", "card", "wan2-i2v", box=None, header_style="dim")
    for node in nodes:
        one = seen[node.id]
        label = "none that a driver lists" if one.card is None else one.card.label
        told = one.version if one.error is None else f"cannot work: {one.error['message']}"
        table.add_row(node.name, str(node.cards), str(node.cpus), label, told)
    output.console().print(table)
