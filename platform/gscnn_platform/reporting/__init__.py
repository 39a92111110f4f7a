"""Evaluation of checkpoints on a store: counted, drawn, put on one HTML page, tracked."""
