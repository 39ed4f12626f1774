"""Model and features, or anybody's files -> anomaly maps, scores and thresholds."""
