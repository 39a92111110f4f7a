"""A search space: domains by dotted config key, and variants, checked before the sweep starts."""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from typing import Any, Final, Literal

from pydantic import ValidationError

from gscnn_platform.config import EXECUTION, Config, ExperimentConfig, flatten, with_overrides
from gscnn_platform.invalid_values import explain
from gscnn_platform.sweeps.domains import MOST_LISTED, Domain, SearchSpaceError, Value, parse_domain, written

VARIANT: Final = "variant"
"""Key of the variant's name in a trial's sampled settings."""

SEARCHABLE: Final = (
    "seed",
    "init.",
    "model.",
    "loss.",
    "augmentation.",
    "optimizer.",
    "training.",
    "data.boundary_radius",
    "data.class_uniform",
)
"""Prefixes of the keys that can be searched. Other keys describe the run's name, data or machines."""

NOT_SEARCHED: Final = {
    "model.num_classes": "it belongs to the store, and all trials read one store",
    "training.best_metric": "it is the score that the sweep maximizes, --metric",
    **dict.fromkeys(EXECUTION, "it changes how a run is executed, not what it computes"),
}
"""Keys with a SEARCHABLE prefix that cannot be searched, and why."""


class SearchSpace(Config):
    """A search space: every variant is combined with every combination, or sample, of the domains."""

    description: str
    """The purpose of the sweep, in one line."""
    domains: Mapping[str, str]
    """Dotted config key -> text of its domain."""
    variants: Mapping[str, Mapping[str, Any]] = {}
    """Name -> overrides that belong together; a key that a variant does not list keeps the recipe's value."""
    search: Literal["random", "optuna", "grid"]
    """Default search method."""

    def parsed(self) -> dict[str, Domain]:
        """Returns key -> Domain; last is VARIANT -> the variants' names, unless `domains` narrows it.

        Raises:
            SearchSpaceError: a text is not a domain; the message has the key.
        """
        found: dict[str, Domain] = {}
        for key, text in self.domains.items():
            try:
                found[key] = parse_domain(text)
            except SearchSpaceError as error:
                raise SearchSpaceError(f"{key}: {error}") from error
        # Last, so that a grid changes it fastest: an interrupted sweep has then compared all variants.
        names = found.pop(VARIANT, Domain("choice", tuple(self.variants)) if self.variants else None)
        return found if names is None else found | {VARIANT: names}

    def overrides(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the overrides for `with_overrides`: sampled values, with the variant replaced by its overrides."""
        variant = self.variants[sampled[VARIANT]] if VARIANT in sampled else {}
        return {**variant, **{key: value for key, value in sampled.items() if key != VARIANT}}

    def values_of(self, key: str) -> list[Any]:
        """Returns all values (the ends of a range) that a trial may have for `key`; none if all have the recipe's."""
        domains = self.parsed()
        values: list[Any] = [*(domains[key].extremes() if key in domains else ())]
        return values + [overrides[key] for overrides in self.variants.values() if key in overrides]

    def grid(self) -> list[dict[str, Any]]:
        """Returns all combinations as key -> value; the last key changes fastest.

        Raises:
            SearchSpaceError: the values of a domain cannot be listed, or there are more than MOST_LISTED combinations.
        """
        listed: dict[str, Sequence[Value]] = {}
        for key, domain in self.parsed().items():
            values = domain.values()
            if values is None:
                raise SearchSpaceError(
                    f"{key}: a grid cannot list {domain}: pass --search random, or choose values with --set "
                    f"'{key}=choice(...)'"
                )
            listed[key] = values
        total = math.prod(map(len, listed.values()))
        if total > MOST_LISTED:
            sizes = ", ".join(f"{key} {len(values)}" for key, values in listed.items())
            raise SearchSpaceError(
                f"the grid has {total} trials ({sizes}), more than the maximum of {MOST_LISTED}: pass --search random"
            )
        return [dict(zip(listed, values, strict=True)) for values in product(*listed.values())]


def with_sets(space: SearchSpace | None, sets: Sequence[str]) -> SearchSpace:
    """Returns `space`, or an empty one, with the command line's `KEY=DOMAIN` added; a later domain replaces a key's.

    A grid search remains one if only choices are added; otherwise the search becomes optuna.

    Raises:
        SearchSpaceError: a text is not KEY=DOMAIN.
    """
    space = space or SearchSpace(description="set on the command line", domains={}, search="grid")
    added: dict[str, str] = {}
    for text in sets:
        key, equals, domain = text.partition("=")
        if not equals or not key.strip():
            lacks = "no key before its '='" if equals else "no '='"
            raise SearchSpaceError(f"--set {text!r} has {lacks}: write --set 'loss.edge=loguniform(1, 50)'")
        added[key.strip()] = domain.strip()
    merged = space.model_copy(update={"domains": {**space.domains, **added}})
    listed = all(domain.kind == "choice" for key, domain in merged.parsed().items() if key in added)
    return merged if listed or space.search != "grid" else merged.model_copy(update={"search": "optuna"})


def check(space: SearchSpace, config: ExperimentConfig) -> None:
    """Applies every variant and every extreme value of each key to `config`, and every trial of a finite space.

    Raises:
        SearchSpaceError: a key cannot be searched or is not in the config, the config rejects a value, or two variants
            are the same on it; the message says what to do.
    """
    domains = space.parsed()
    if not domains:
        raise SearchSpaceError("nothing to search: pass --space NAME, or --set 'loss.edge=loguniform(1, 50)'")
    names = domains[VARIANT].extremes() if VARIANT in domains else ()
    for name in names:
        if name not in space.variants:
            known = ", ".join(space.variants) or "none in this space"
            raise SearchSpaceError(f"{VARIANT}: there is no variant named {name!r}; there are: {known}")
    variants = {str(name): space.variants[str(name)] for name in names}
    for key in sorted({*domains, *(key for overrides in variants.values() for key in overrides)} - {VARIANT}):
        _check_key(key, config)
    resolved: dict[str, ExperimentConfig] = {}
    for name, overrides in variants.items():
        both = sorted(domains.keys() & overrides.keys())
        if both:
            raise SearchSpaceError(f"{both[0]} is searched and also set by variant {name!r}: remove one of them")
        resolved[name] = _resolve(config, overrides, f"variant {name!r}")
        twin = next((other for other in resolved if other != name and resolved[other] == resolved[name]), None)
        if twin is not None:
            raise SearchSpaceError(
                f"variants {twin!r} and {name!r} are the same on {config.name}: choose a recipe with what they vary"
            )
    for name, base in (resolved or {"": config}).items():
        where = f" of variant {name!r}" if name else ""
        for key, domain in domains.items():
            for value in domain.extremes() if key != VARIANT else ():
                _resolve(base, {key: value}, f"{key} = {written(value)}{where}, from {domain},")
    if all(domain.values() is not None for domain in domains.values()):
        total = math.prod(len(domain.extremes()) for domain in domains.values())
        for sampled in space.grid() if total <= MOST_LISTED else ():
            together = ", ".join(f"{key} = {written(value)}" for key, value in sampled.items())
            _resolve(config, space.overrides(sampled), together)


def _check_key(key: str, config: ExperimentConfig) -> None:
    fields, refusal = flatten(config.model_dump()), _refusal(key)
    if key in fields and refusal is None:
        return
    if key in fields:
        raise SearchSpaceError(f"{key} cannot be searched: {refusal}")
    near = get_close_matches(key, [field for field in fields if _refusal(field) is None], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "see --help of jobs.train for its fields"
    raise SearchSpaceError(f"{key!r} is not a field of the config: {hint}")


def _refusal(key: str) -> str | None:
    if key.startswith("data.") and key not in SEARCHABLE:
        return "it belongs to the store or changes how it is read, and all trials read one store: run a sweep for each"
    if not key.startswith(SEARCHABLE):
        return "it changes where and how a run is executed, not what it computes"
    return NOT_SEARCHED.get(key)


def _resolve(config: ExperimentConfig, overrides: Mapping[str, Any], what: str) -> ExperimentConfig:
    try:
        return with_overrides(config, overrides)
    except ValidationError as error:
        reasons = explain(error).replace("\n", "; ")
        raise SearchSpaceError(f"{what} does not fit {config.name}: {reasons}") from error
