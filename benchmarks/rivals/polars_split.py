"""The split of a month's pools in Polars: python polars_split.py FROM TO.

Reads flattrs.parquet and pledges.parquet, writes shares.parquet (member, creator, micro) and takes.parquet (creator,
micro), and prints the seconds it took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polars as pl


def shares(folder: Path) -> pl.LazyFrame:
    """What every member's pool gives every creator."""
    # The last version of each flattr, whichever row holds it; bit 19 of it: taken back.
    merged = (
        pl.scan_parquet(folder / "flattrs.parquet")
        .group_by("member_id", "creator_id", "thing_low", "thing_high")
        .agg(pl.col("version").max(), pl.col("tie").first())
        .filter(pl.col("version") & 524288 == 0)
    )
    pairs = merged.group_by("member_id", "creator_id").agg(
        pl.col("tie").first(), pl.len().cast(pl.Int64).alias("flattrs")
    )
    totals = pairs.group_by("member_id").agg(pl.col("flattrs").sum().alias("total"))
    pools = pl.scan_parquet(folder / "pledges.parquet").select(
        "member_id", pool=pl.col("amount_micro").cast(pl.Int64) - pl.col("amount_micro").cast(pl.Int64) * 1000 // 10000
    )
    product = pl.col("pool") * pl.col("flattrs")
    floors = (
        pairs.join(totals.join(pools, on="member_id"), on="member_id")
        .with_columns(floor=product // pl.col("total"), short=pl.col("total") - product % pl.col("total"))
        .sort("member_id", "short", "tie", "creator_id")
    )
    left = pl.col("pool") - pl.col("floor").sum().over("member_id")
    place = pl.int_range(pl.len()).over("member_id")
    return floors.select("member_id", "creator_id", micro=pl.col("floor") + (place < left).cast(pl.Int64))


def main() -> None:
    """Split, write, say how long it took."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(exist_ok=True)
    began = time.perf_counter()
    shares(source).sink_parquet(target / "shares.parquet", compression="lz4", engine="streaming")
    takes = pl.scan_parquet(target / "shares.parquet").group_by("creator_id").agg(pl.col("micro").sum())
    takes.sink_parquet(target / "takes.parquet", compression="lz4", engine="streaming")
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
