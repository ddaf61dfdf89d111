"""Features of many videos in Parquet files, and the nearest of them to a text or a clip."""
