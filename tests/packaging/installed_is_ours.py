"""Exit 1 unless the named distributions are installed from the wheels in a folder, file by file.

The name micro-core belongs to a stranger in the public index, so an installer's word is not enough.
Usage: python installed_is_ours.py FOLDER NAME…
"""

import csv
import io
import sys
import zipfile
from importlib import metadata
from pathlib import Path


def difference(folder: Path, name: str) -> str | None:
    """Return in what the installed distribution differs from the one wheel of that name in the folder, or None."""
    wheels = list(folder.glob(f"{name.replace('-', '_')}-*.whl"))
    if len(wheels) != 1:
        return f"{name}: {len(wheels)} wheels in {folder}, expected 1"
    record = metadata.distribution(name).read_text("RECORD") or ""
    missing = _hashes_in(wheels[0]) - _hashes(record)
    return f"{name}: not installed from {wheels[0].name}: {sorted(missing)[0]}" if missing else None


def _hashes_in(wheel: Path) -> set[tuple[str, str]]:
    with zipfile.ZipFile(wheel) as archive:
        record = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/RECORD"))
        return _hashes(archive.read(record).decode())


def _hashes(record: str) -> set[tuple[str, str]]:
    return {(row[0], row[1]) for row in csv.reader(io.StringIO(record)) if len(row) > 1 and row[1]}


if __name__ == "__main__":
    differences = [text for name in sys.argv[2:] if (text := difference(Path(sys.argv[1]), name))]
    sys.exit("\n".join(differences) or None)
