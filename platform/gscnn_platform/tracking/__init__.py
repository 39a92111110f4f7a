"""One MLflow run per training run, without losing metrics. The only package that imports mlflow.

The driver creates the run. From then on everything that is tracked goes through the run's outbox, a folder beside its
checkpoints: rank 0 writes metrics and pictures to it, and the driver writes the best model and the final status. The
outbox is delivered in the background, in order and exactly once, whenever the server answers; `jobs.sync-tracking`
delivers what is left after the run has ended.

__init__.pyi lists the names. Each is imported on first use: a command that fails early does not import MLflow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
