"""``edge-all doctor``: whether a bundle can be trusted on this machine, and which of its graphs to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_all.cli import options


@click.command("doctor")
@click.option("--bundle", "path", type=options.PATH, help="[default: newest in ./models, else the built-in one]")
@click.option("--target", "chosen", type=click.Choice(options.TARGETS), multiple=True, help="[default: the bundle's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.device
@options.threads
def command(path: Path | None, chosen: tuple[str, ...], as_json: bool, device: str | None, threads: int | None) -> None:
    """Check a bundle on this machine: CPU, engines, and whether its answers here are those it was made with.

    Exits with 3 where they are not.
    """
    from edge_all import bundle, doctor
    from edge_all.errors import GateError

    loaded = bundle.load(path or bundle.default())
    found = doctor.examine(loaded, chosen, device, threads)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print(found)
    failed = [c for c in found["checks"] if c["precision"] and not (c["available"] and c["probe"]["passed"])]
    if failed:
        where = ", ".join(f"{check['target']} {check['precision']}" for check in failed)
        raise GateError(f"{loaded.name} does not answer here as where it was made: {where}; do not use it so")


def _print(found: dict[str, Any]) -> None:
    from edge_all.cli.output import print_table
    from edge_all.doctor import remark

    machine, devices = found["machine"], found["devices"]
    limit = f" (limited to {machine['limited_to']} by ONEDNN_MAX_CPU_ISA)" if machine["limited_to"] else ""
    lines = {
        "CPU": f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']} MB",
        "for INT8": f"{' '.join(machine['instruction_sets']) or 'nothing that is known'}{limit}",
        "engines": ", ".join(f"{name} {version}" for name, version in machine["engines"].items()),
        "ONNX Runtime": ", ".join(devices["onnxruntime"]),
        "OpenVINO": ", ".join(f"{name} ({full})" for name, full in devices["openvino"].items()) or "not installed",
        "bundle": f"{found['name']} ({found['digest'][:16]}) in {found['bundle']}",
    }
    for name, text in lines.items():
        click.echo(f"{name:>12}  {text}")
    click.echo()
    rows = [_cells(check) for check in found["checks"]]
    print_table(["target", "precision", "probe", "labels", "off by", "graph ms"], rows, right=["off by", "graph ms"])
    for check in found["checks"]:
        if check.get("error"):
            click.echo(f"{check['target']} {check['precision'] or ''}: {check['error']}")
    if note := remark(machine["instruction_sets"]):
        click.echo(note)
    best = found["recommendation"]
    use = f"--target {best['target']} --precision {best['precision']}" if best["target"] else "none of it"
    click.echo(f"\nUse here: {use}: {best['why']}.")


def _cells(check: dict[str, Any]) -> list[str]:
    if not check["available"]:
        return [check["target"], check["precision"] or "-", "not run", "-", "-", "-"]
    probe = check["probe"]
    return [
        check["target"], check["precision"], "passed" if probe["passed"] else "FAILED",
        f"{probe['same_label']} of {probe['images']}", f"{probe['max_difference']:.4f}", f"{check['graph_ms']:.2f}",
    ]  # fmt: skip
