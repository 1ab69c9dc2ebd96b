"""What `--tap auto` finds with each backbone, and how its taps hold on looks that their heads were fitted without.

python benchmarks/transfer.py efficientnet_lite0 mobilenetv2=FILE ... --data DIR --json FILE
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np

from edge_all import machine
from edge_all.export import tap_table, taps
from edge_all.export.assemble import tap_report
from edge_all.export.backbones import load
from edge_all.export.dataset import Dataset, folds, groups, read
from edge_all.export.graph import weights
from edge_all.export.graph.preprocess import Preprocess
from edge_all.export.head.fit import HeadSpec
from edge_all.export.head.scorer import resampled
from edge_all.export.taps.pooled import Search
from edge_all.record import TapTable


@click.command(help=__doc__)
@click.argument("backbones", nargs=-1, required=True, metavar="BACKBONE[=WEIGHTS]...")
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="One folder for each class.")
@click.option("--every", default=1, show_default=True, help="Use every N-th image of each class alone.")
@click.option("--target", default="openvino", show_default=True, help="Whose engine time is measured in.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write all tables to a file.")
def main(backbones: tuple[str, ...], data: Path, every: int, target: str, report: Path | None) -> None:
    """Compare the taps of each backbone, and print the table of each and the choices of all."""
    images, spec = _part(read(data), every), HeadSpec(selector="anova", classifier="svm")
    tables: dict[str, TapTable] = {}
    for given in backbones:
        name, _, file = given.partition("=")
        backbone = load(name)
        search = Search(
            backbone=backbone,
            weights=weights.load(backbone, file or "auto"),
            data=images,
            folds=folds(images, "block"),
            size=backbone.input_size,
            preprocess=Preprocess(),
            spec=spec,
            augmented=True,
            target=target,
            units=resampled(images, groups(images)),
        )
        begun = time.monotonic()
        tables[name] = taps.choose(search, "transfer", lambda done, total: None).table
        spent = time.monotonic() - begun
        click.echo("\n".join([f"\n## {name}, {spent / 60:.0f} minutes", "", *tap_report.lines(tables[name])]))
        if report:
            report.write_text(
                json.dumps({"machine": machine.describe(), "images": len(images), "tables": tables}, indent=1) + "\n",
                encoding="utf-8",
            )
    click.echo("\n| backbone | tap | ms | accuracy | transfer | worst |\n|---|---|---|---|---|---|")
    for name, table in tables.items():
        c = next(c for c in table["candidates"] if tap_table.is_chosen(table, c))
        click.echo(
            f"| {name} | {c['tap']} | {c['ms']:.2f} | {c['accuracy']:.2f} | {c['transfer']:.2f} | {c['worst']:.2f} |"
        )


def _part(images: Dataset, every: int) -> Dataset:
    """Every N-th image of each class, in the order of their names."""
    place = np.arange(len(images)) - np.searchsorted(images.labels, images.labels)  # they are in order of their classes
    return images.subset(place % every == 0)


if __name__ == "__main__":
    main()
