"""``python -m geossl``: the same as the ``geossl`` command."""

from geossl.cli.main import main

main()
