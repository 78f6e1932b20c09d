"""The label file of a task, empty: ``geossl labels template``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from geossl.labels.read import Fields
from geossl.labels.template import write_template
from geossl.tasks.spec import TaskSpec, load_task


@dataclass(frozen=True)
class TemplateResult:
    """An empty label file: where it is, its columns, and the classes that may stand in the label column (none where
    it takes numbers or the user's own names).
    """

    path: Path
    task: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]


def label_template(task: str | Path | TaskSpec, out: str | Path | None = None) -> TemplateResult:
    """Write an empty GeoPackage with the fields of a task's labels.

    Args:
        task: a shipped task, the YAML of one's own, or a spec.
        out: the file; by default ``<task>-labels.gpkg`` in the working directory.

    Raises:
        InputError: unknown task, or the file is there already.
    """
    spec = load_task(task)
    fields = Fields(spec.label_field, spec.date_field, spec.confidence_field)
    path = Path(out) if out else Path(f"{spec.name}-labels.gpkg")
    numbers = not spec.classes and not spec.from_chips
    write_template(path, spec.name, fields, spec.class_names, numbers)
    columns = tuple(name for name in (fields.label, fields.date, fields.confidence) if name is not None)
    return TemplateResult(path.absolute(), spec.name, columns, spec.class_names)
