"""Decide claims over rows that were measured apart: python examples/kinofigures/join.py FOLDER... --output JOINED.

A folder is one that `kinoclip reproduce` wrote, on any machine; its `results.json` and `time.json` suffice, the first also packed by
gzip. A row with all its runs is taken from the first folder that has it. Learning curves are not drawn. What is written can be joined again.
"""

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from kinoclip.storage import claimed, write_json
from kinoclip.training.comparison import RowResult
from kinoclip.training.reproduce import RESULTS, TIME, conclude


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    options = parser.parse_args(arguments)
    if options.output.exists():
        parser.error(f"{options.output} exists; name a new folder")
    rows: dict[str, RowResult] = {}
    work: dict = {"seconds": 0.0, "machines": []}
    for folder in options.folders:
        for fields in json.loads(read(folder / RESULTS)):
            rows.setdefault(fields["recipe"], RowResult(**fields))
        spent = json.loads(read(folder / TIME))
        work["seconds"] += spent["seconds"]
        work["machines"] += [machine for machine in spent["machines"] if machine not in work["machines"]]
    options.output.mkdir(parents=True)
    write_json(options.output / TIME, work, owns=claimed)
    write_json(options.output / RESULTS, [row.to_dict() for row in rows.values()], owns=claimed)
    conclude(options.output, list(rows.values()), work, print)
    print(f"{len(rows)} rows: {options.output / 'results.md'}")


def read(path: Path) -> bytes:
    packed = Path(f"{path}.gz")
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    if not path.exists():
        raise SystemExit(f"{path.parent} has no {path.name}. Name a folder in which `kinoclip reproduce` has ended.")
    return path.read_bytes()


if __name__ == "__main__":
    main()
