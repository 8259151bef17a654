#!/usr/bin/env bash
# pyarrow writes a column of floats in which one value is not a number, and three readers look for that row.
# A good guess: filters give the rows that they give of the same table in memory.
# Seen: the statistics that pyarrow writes leave the NaN out. pyarrow takes them for a promise about every row: `not (x <= 1)`
# loses the NaN, and where all other values are equal, is_nan() itself finds nothing. DuckDB, for which NaN is the largest
# number, does not find it by isnan() either, and its max() depends on whether the table is sorted first. Polars finds it.
. "$(dirname "$0")/common.sh"
python_with pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0
python_runs <<'EOF'
import duckdb
import polars
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from finding import as_described, versions

versions("pyarrow", "duckdb", "polars")
NAN, X = float("nan"), compute.field("x")
LARGE = {"pyarrow": ~(X <= 1), "duckdb": "NOT (x <= 1)", "polars": ~(polars.col("x") <= 1)}
ODD = {"pyarrow": compute.is_nan(X), "duckdb": "isnan(x)", "polars": polars.col("x").is_nan()}


def rows(file, filters):
    """The rows of a file that pass, by each reader."""
    return {
        "pyarrow": parquet.read_table(file, filters=filters["pyarrow"])["n"].to_pylist(),
        "duckdb": [n for (n,) in duckdb.sql(f"SELECT n FROM '{file}' WHERE {filters['duckdb']}").fetchall()],
        "polars": polars.scan_parquet(file).filter(filters["polars"]).collect()["n"].to_list(),
    }


def written(file, values):
    table = pyarrow.table({"n": [0, 1, 2], "x": values})
    parquet.write_table(table, file)
    return table


table = written("far.parquet", [0.25, NAN, 0.75])
memory = duckdb.sql("SELECT * FROM 'far.parquet'").arrow().read_all()
as_described("the row is in the file", str(memory["x"].to_pylist()), "[0.25, nan, 0.75]")
as_described("not (x <= 1), pyarrow in memory", table.filter(LARGE["pyarrow"])["n"].to_pylist(), [1])
as_described("not (x <= 1), DuckDB in memory", duckdb.sql(f"SELECT n FROM memory WHERE {LARGE['duckdb']}").fetchall(), [(1,)])
as_described("not (x <= 1), of the file", rows("far.parquet", LARGE), {"pyarrow": [], "duckdb": [], "polars": [1]})
as_described("NaN, of the file", rows("far.parquet", ODD), {"pyarrow": [1], "duckdb": [], "polars": [1]})
largest = [duckdb.sql(f"SELECT max(x) FROM {source}").fetchall()[0][0] for source in
           ("'far.parquet'", "(SELECT * FROM 'far.parquet' ORDER BY n)", "memory")]
as_described("DuckDB's max(): of the file, sorted first, in memory", str(largest), "[0.75, nan, nan]")
written("near.parquet", [0.5, NAN, 0.5])
as_described("NaN among equal values", rows("near.parquet", ODD), {"pyarrow": [], "duckdb": [], "polars": [1]})
EOF
