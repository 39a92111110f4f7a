"""Runs on disk: a run's folder and its content, and where it is tracked. Knows nothing of Ray and MLflow."""
