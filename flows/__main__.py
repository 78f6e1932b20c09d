"""``python -m flows``: serve the deployments of ``prefect.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.serve import DEFAULT_PORT, DEPLOYMENTS, serve
from geossl.errors import GeosslError


def main(
    deployments: Annotated[Path, typer.Option(help="The file that names what is served, and when.")] = DEPLOYMENTS,
    port: Annotated[
        int, typer.Option(help="Where a server of one's own listens; PREFECT_API_URL names another.")
    ] = DEFAULT_PORT,
) -> None:
    """Serve every deployment from this process, with a Prefect server on this machine where none is configured."""
    try:
        serve(deployments, port)
    except GeosslError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("stopped; the next run continues where this one was", file=sys.stderr)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
