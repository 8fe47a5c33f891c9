"""One target under atheris, which looks at what each input reaches: a part of the command.

A program of its own, since atheris must see the package while it is imported.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hda_fsspec"]):
    from .engine import probe, tell
    from .seeds import seeds_of
    from .targets import TARGETS


def main() -> None:
    """Fuzz, and end the process: with 0 if nothing was found."""
    name, seconds, seed, findings, most_bytes = sys.argv[1:]
    target = TARGETS[name]
    logging.getLogger("hda_fsspec").setLevel(logging.CRITICAL)

    def run(data: bytes) -> None:
        finding = probe(target.run, data)
        if finding is not None:
            tell(finding, Path(findings), name)
            raise finding.error

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds_of(target)):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        options = [f"-max_total_time={int(float(seconds))}", f"-seed={int(seed) + 1}"]
        options += ["-max_len=65536", f"-rss_limit_mb={int(most_bytes) >> 20}", "-timeout=30"]
        options += [f"-artifact_prefix={folder}/"]
        atheris.Setup([sys.argv[0], *options, folder], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
