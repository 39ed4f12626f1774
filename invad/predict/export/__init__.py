"""A trained model as one file for other runtimes: encoder, method, anomaly map and blur in one graph, thresholds in its metadata."""
