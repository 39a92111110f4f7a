"""Search spaces: domains as text, and sets of them by dotted config key."""

from gscnn_platform.domains.domain import Domain, SearchSpaceError, Value, parse_domain
from gscnn_platform.domains.space import VARIANT, SearchSpace, check, with_sets

__all__ = ["VARIANT", "Domain", "SearchSpace", "SearchSpaceError", "Value", "check", "parse_domain", "with_sets"]
