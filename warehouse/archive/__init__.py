"""The archive of sealed months: out of the tables into Parquet files, and back."""
