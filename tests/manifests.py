"""The rows of a manifest, for tests of a batch."""

from __future__ import annotations

import pyarrow.parquet

from deepseek_ocr_mcp.batch.files import Location
from deepseek_ocr_mcp.batch.state import MANIFEST, ManifestRow


def rows_of(out: Location) -> list[ManifestRow]:
    """All rows of the whole manifest, in its order; none where there is none."""
    if not out.exists(MANIFEST):
        return []
    with out.fs.open(out.path(MANIFEST), "rb") as file:
        found = pyarrow.parquet.read_table(file).to_pylist()
    return [ManifestRow(**{name: value for name, value in row.items() if value is not None}) for row in found]
