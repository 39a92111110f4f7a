"""SEARCH_SPACES: name -> search space. Pure data; docs/search-spaces.md says how to add one."""

from typing import Final

from gscnn_platform.sweeps.domains import SearchSpaceError
from gscnn_platform.sweeps.space import SearchSpace

SEARCH_SPACES: Final[dict[str, SearchSpace]] = {
    "loss": SearchSpace(
        description="weights and settings of the paper's loss terms, class weights, boundary radius",
        domains={
            "loss.edge": "loguniform(1, 50)",
            "loss.attention": "uniform(0, 2)",
            "loss.attention_threshold": "uniform(0.5, 0.95)",
            "loss.attention_start": "uniform(0, 0.5)",
            "loss.dual": "uniform(0, 2)",
            "loss.dual_temperature": "loguniform(0.3, 3)",
            "loss.dual_threshold": "uniform(0.1, 0.5)",
            "loss.class_weights": "choice(none, image)",
            "data.boundary_radius": "randint(1, 5)",
        },
        search="optuna",
    ),
    "loss-small": SearchSpace(
        description="weights of the edge loss and of the attention loss",
        domains={"loss.edge": "loguniform(1, 50)", "loss.attention": "uniform(0, 2)"},
        search="optuna",
    ),
    "optimizer": SearchSpace(
        description="SGD and its schedule",
        domains={
            "optimizer.name": "choice(sgd)",
            "optimizer.lr": "loguniform(0.001, 0.1)",
            "optimizer.weight_decay": "loguniform(1e-05, 0.01)",
            "optimizer.momentum": "uniform(0.8, 0.99)",
            "optimizer.nesterov": "choice(true, false)",
            "optimizer.poly_power": "uniform(0.5, 2)",
        },
        search="optuna",
    ),
    "finetune": SearchSpace(
        description="learning rates, weight decay, batch norm and augmentation of a training that starts from weights",
        domains={
            "optimizer.lr": "loguniform(0.001, 0.05)",
            "optimizer.backbone_lr_factor": "loguniform(0.05, 1)",
            "optimizer.weight_decay": "loguniform(1e-05, 0.001)",
            "optimizer.decay_norms_and_biases": "choice(true, false)",
            "model.freeze_batch_norm": "choice(true, false)",
            "augmentation.colour_jitter": "uniform(0, 0.4)",
            "augmentation.blur": "uniform(0, 0.5)",
        },
        search="optuna",
    ),
    "classes": SearchSpace(
        description="each way to count rare classes more, against equal weights, under three seeds",
        domains={"seed": "choice(0, 1, 2)"},
        variants={
            "equal": {"loss.class_weights": None, "data.class_uniform": 0},
            "image": {"loss.class_weights": "image", "data.class_uniform": 0},
            "inverse log": {"loss.class_weights": "inverse_log", "data.class_uniform": 0},
            "median frequency": {"loss.class_weights": "median_frequency", "data.class_uniform": 0},
            "effective number": {"loss.class_weights": "effective_number", "data.class_uniform": 0},
            "class-uniform crops": {"loss.class_weights": None, "data.class_uniform": 0.5},
        },
        search="grid",
    ),
    "seeds": SearchSpace(
        description="the same settings with five seeds: mean and standard deviation",
        domains={"seed": "choice(0, 1, 2, 3, 4)"},
        search="grid",
    ),
    "ablation": SearchSpace(
        description="from DeepLabV3+ to the full Gated-SCNN, adding a part at a time, with three seeds",
        domains={"seed": "choice(0, 1, 2)"},
        variants={
            "control": {"model.architecture": "deeplabv3plus", "loss.edge": 0, "loss.attention": 0, "loss.dual": 0},
            "+ shape stream": {"model.architecture": "gscnn", "loss.edge": 0, "loss.attention": 0, "loss.dual": 0},
            "+ edge loss": {"model.architecture": "gscnn", "loss.attention": 0, "loss.dual": 0},
            "+ attention": {"model.architecture": "gscnn", "loss.dual": 0},
            "+ dual regularizer": {"model.architecture": "gscnn", "loss.dual": 1},
        },
        search="grid",
    ),
}


def find_space(name: str | None) -> SearchSpace | None:
    """Returns the search space with this name; None for None.

    Raises:
        SearchSpaceError: there is no search space with this name.
    """
    if name is not None and name not in SEARCH_SPACES:
        raise SearchSpaceError(f"--space {name!r}: there is no such space; there are: {', '.join(SEARCH_SPACES)}")
    return None if name is None else SEARCH_SPACES[name]
