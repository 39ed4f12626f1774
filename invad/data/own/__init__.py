"""Data of one's own: a folder of images, or a table of them, becomes a data set described by one CSV table."""
