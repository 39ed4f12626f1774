"""Raw data -> split table: one row for each image of a benchmark."""
