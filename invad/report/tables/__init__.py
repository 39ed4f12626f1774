"""Tables of the report: what they say, and how they are written."""
