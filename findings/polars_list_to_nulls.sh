#!/usr/bin/env bash
# JSON Lines whose first hundred documents have an empty list, or lack a field that a later one has.
# A good guess: Polars, which looks at the first hundred lines for its schema, refuses the later line, as it does where a
# field was null or an integer until then; DuckDB, pandas and pyarrow, which look further, read it.
# Seen: no error. The list of words comes with a null for each word, and the late field is gone. (A list of objects is refused.)
. "$(dirname "$0")/common.sh"
python_with polars==2.1.0 duckdb==2.0.1 pandas==3.1.1 pyarrow==26.0.1
python_runs <<'EOF'
import json

import duckdb
import pandas
import polars
import pyarrow.json
from finding import as_described, versions

versions("polars", "duckdb", "pandas", "pyarrow")
FILE = "shard.jsonl"
NOTES = ["cut", "blank"]


def written(early, late):
    with open(FILE, "w") as file:
        file.writelines(json.dumps({"id": i, **(early if i < 149 else late)}) + "\n" for i in range(150))


def by_polars(**settings):
    try:
        return polars.read_ndjson(FILE, **settings).to_dicts()[-1]
    except polars.exceptions.ComputeError as error:
        return str(error).split(":")[0]


last = {"id": 149, "notes": NOTES}
written({"notes": []}, {"notes": NOTES})
as_described("an empty list first, DuckDB", duckdb.sql(f"SELECT * FROM '{FILE}'").fetchall()[-1], (149, NOTES))
as_described("pandas", pandas.read_json(FILE, lines=True).to_dict("records")[-1], last)
as_described("pyarrow", pyarrow.json.read_json(FILE).to_pylist()[-1], last)
as_described("Polars", by_polars(), {"id": 149, "notes": [None, None]})
as_described("scan_ndjson", polars.scan_ndjson(FILE).collect().to_dicts()[-1], {"id": 149, "notes": [None, None]})
as_described("all lines looked at", by_polars(infer_schema_length=None), last)
written({"notes": []}, {"notes": [{"code": "cut"}]})
as_described("a list of objects", by_polars(), "expected null in json value, got object")
written({"notes": None}, {"notes": NOTES})
as_described("null first", by_polars(), "got non-null value for NULL-typed column")
written({"facts": {"pages": 1}}, {"facts": {"pages": 1, "notes": NOTES}})
as_described("a late field inside", by_polars(), {"id": 149, "facts": {"pages": 1}})
written({}, {"notes": NOTES})
as_described("a late field", by_polars(), {"id": 149})
EOF
