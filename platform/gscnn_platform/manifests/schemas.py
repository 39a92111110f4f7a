"""Validates a document against a JSON schema, with readable messages."""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

from gscnn_platform.manifests.documents import Document, Fault
from gscnn_platform.text_files import suggestion

TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
"""JSON schema type -> readable name."""


def schema_faults(document: Document, schema: Mapping[str, Any]) -> Iterator[Fault]:
    """Every place where the document violates the schema (draft 7)."""
    errors = jsonschema.Draft7Validator(schema).iter_errors(document.value)
    for error in sorted(errors, key=lambda error: [str(key) for key in error.absolute_path]):
        yield from _faults(document, error)


def _faults(document: Document, error: Any) -> Iterator[Fault]:
    field, value, rule = tuple(error.absolute_path), error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        for key in [key for key in value if key not in known]:
            yield document.fault((*field, key), f"there is no such field{suggestion(str(key), known)}")
    elif error.validator == "required":
        missing = [key for key in rule if key not in value]
        yield document.fault(field, f"lacks {', '.join(missing)}")
    elif error.validator == "type":
        types = [rule] if isinstance(rule, str) else rule
        yield document.fault(field, f"is {value!r}; it must be {' or '.join(TYPES[name] for name in types)}")
    elif error.validator == "enum":
        names = [str(name) for name in rule]
        yield document.fault(field, f"is {value!r}; it must be {' or '.join(names)}{suggestion(str(value), names)}")
    elif error.validator == "const":
        yield document.fault(field, f"is {value!r}; it must be {rule}")
    else:
        yield document.fault(field, error.message)
