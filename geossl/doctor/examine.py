"""``examine``: every look at everything, in the order in which things rest on each other."""

from __future__ import annotations

from geossl.doctor import scheduler, software
from geossl.doctor.finding import Diagnosis, Finding, of_error
from geossl.errors import GeosslError
from geossl.regions import Region, load_region


def examine(region: str | Region | None = None, product: str | None = None) -> Diagnosis:
    """Look at Python, packages, torch, GDAL, PROJ, cube, products, disk, memory and Prefect.

    Nothing is changed, and nothing is asked outside this machine but a cube or a server that is configured.

    Args:
        region: look at its scenes, and at disk and memory against its planned work.
        product: ODC product of the region, where several have scenes there.

    Raises:
        InputError: no such region.
    """
    area = region if isinstance(region, Region) or region is None else load_region(region)
    findings: list[Finding] = [software.python(), software.packages()]
    findings.append(software.torch_and_cuda())
    findings += software.gdal_and_proj()
    try:
        from geossl.doctor import cube, resources

        findings += cube.cubes()
        if area is not None:
            findings.append(cube.scenes(area, product))
        findings += resources.resources(area, product)
    except GeosslError as error:
        findings.append(of_error("cube", error))
    findings += [scheduler.prefect(), *scheduler.leftovers()]
    return Diagnosis.of(findings)
