"""From a model folder to what it says of any image: score, decision, anomaly map, and the regions above the threshold."""
