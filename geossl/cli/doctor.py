"""``geossl doctor``: is everything in order here, and if not, what is to be done?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from geossl.cli.common import JsonOption, ProductOption, RegionOption, run_verb

if TYPE_CHECKING:
    from geossl.doctor.finding import Diagnosis


def doctor(region: RegionOption = None, product: ProductOption = None, as_json: JsonOption = False) -> None:
    """Look at Python, packages, torch, GDAL, PROJ, cube, products, disk, memory and Prefect; exit 1 if anything fails.

    Example: geossl doctor --region malardalen
    """
    seen: list[Diagnosis] = []

    def work() -> Diagnosis:
        from geossl.doctor.examine import examine

        seen.append(examine(region, product))
        return seen[0]

    run_verb(work, as_json, lambda diagnosis: diagnosis.text())
    if not seen[0].healthy:
        raise typer.Exit(1)
