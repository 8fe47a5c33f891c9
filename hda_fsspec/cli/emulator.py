"""``emulator``: a local service of files, for tests and for a first look."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from hda_fsspec.cli.commands import Options, command, json_option
from hda_fsspec.cli.terminal import echo_json

# What the emulator calls the options whose names are longer there.
_LONG_NAMES = {
    "preparation": "preparation_seconds",
    "latency": "latency_seconds",
    "rate": "rate_bytes_per_second",
}


def _names(
    ctx: click.Context,  # noqa: ARG001  (click's signature)
    param: click.Parameter,  # noqa: ARG001
    value: str | None,
) -> tuple[str, ...] | None:
    return None if value is None else tuple(filter(None, value.split(",")))


@command(
    "hda-fsspec emulator --samples",
    "hda-fsspec emulator data/",
    "hda-fsspec emulator catalogue.json --port 8080",
    "hda-fsspec emulator data/ --profile month --polls 3 --fault-rate 0.05",
    "hda-fsspec emulator --replay hda-probe.jsonl",
)
@click.argument("source", metavar="[DIR_OR_JSON]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--replay",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="answer from a recording that 'doctor --probe' has made, in the place of files",
)
@click.option(
    "--samples",
    is_flag=True,
    help="serve small data sets of invented values under the ids of real ones",
)
@click.option("--port", type=int, metavar="PORT", help="by default a free one")
@click.option(
    "--profile", metavar="NAME", help="catalogue times: day (the default), month, exact, ..."
)
@click.option("--polls", type=int, metavar="N", help="status polls before an order is ready")
@click.option(
    "--preparation", type=float, metavar="SECONDS", help="time that an order is being prepared"
)
@click.option("--latency", type=float, metavar="SECONDS", help="added to every answer")
@click.option("--rate", type=float, metavar="BYTES", help="bytes per second of a download")
@click.option("--quota", type=int, metavar="N", help="new orders per hour")
@click.option(
    "--fault-rate",
    type=float,
    metavar="SHARE",
    help="spoil so large a share of all answers at random",
)
@click.option("--fault-seed", type=int, metavar="N", help="which answers that is")
@click.option(
    "--odd",
    metavar="NAMES",
    callback=_names,
    help="answers that are odd for good, such as head-405,schema-404",
)
@click.option("--token-seconds", type=float, metavar="SECONDS", help="life of a token")
@click.option("--paging", metavar="STYLE", help="total or next")
@click.option(
    "--sizes", metavar="KIND", help="sizes in the catalogue: exact, ND, estimate or missing"
)
@json_option
def emulator(
    options: Options, source: Path | None, samples: bool, is_json: bool, **given: Any
) -> None:
    """Serve files as the service would, until interrupted.

    The files are those of a folder, with one sub-folder for each data set, those that a JSON file
    lists, or samples in the manner of eight data sets, written into the cache folder. First prints
    four lines for a shell, which say how to reach it: HDA_URL, HDA_USER, HDA_PASSWORD and
    HDA_CACHE_DIR; with --json one object that has them. No account is needed, and nothing leaves
    this machine.
    """
    import platformdirs

    if [samples, source is not None, given["replay"] is not None].count(True) != 1:
        msg = "Name a folder or a JSON file to serve, or give --samples, or --replay FILE."
        raise click.UsageError(msg)
    from hda_fsspec.emulator import write_samples
    from hda_fsspec.emulator.serve_command import serve

    more = {_LONG_NAMES.get(k, k): value for k, value in given.items() if value is not None}
    if "user" in options.given:
        more["user"] = options.given["user"]
    # Not a temporary one: an emulator of the same files that is started again goes on with it.
    cache_dir = platformdirs.user_cache_path("hda_fsspec_emulator", appauthor=False)
    if samples:
        source = write_samples(cache_dir / "samples")
    serve(source, cache_dir=cache_dir, out=_AsJson() if is_json else None, **more)


class _AsJson(io.StringIO):
    """Takes the lines for a shell, and prints the variables that they set as one object."""

    def flush(self) -> None:
        """Print it."""
        words = (shlex.split(line)[-1].partition("=") for line in self.getvalue().splitlines())
        echo_json({name: value for name, _, value in words})
        sys.stdout.flush()
