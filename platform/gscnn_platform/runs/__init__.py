"""A run on disk: its folder with all that is in it, and where it is tracked. Knows nothing of Ray and MLflow."""
