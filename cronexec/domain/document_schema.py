"""The published JSON Schemas (draft 2020-12), made from the models so that the two agree.

A schema accepts at least what the parser accepts. It is looser in a few places that a schema cannot judge:
whether a cron expression is one, whether a time zone exists, how large a document is.
"""

from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def publish_schema(generated: dict[str, Any], title: str) -> dict[str, Any]:
    """Return what pydantic generated as it is published: null allowed where a field may be left out."""
    return {"$schema": DIALECT, **_rewrite(generated), "title": title}


def _rewrite(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_rewrite(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    written = {
        key: value for key, value in schema.items() if key not in {"title", "discriminator", "properties"}
    }
    written = {
        key: value if key in {"default", "examples"} else _rewrite(value) for key, value in written.items()
    }
    return {**written, **_rewrite_properties(schema)} if "properties" in schema else written


def _rewrite_properties(schema: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = schema["properties"]
    tags = ["type"] if "const" in properties.get("type", {}) else []
    required = [*tags, *(name for name in schema.get("required", []) if name not in tags)]
    return {
        "properties": {
            name: _rewrite(field) if name in required else _allow_null(_rewrite(field))
            for name, field in properties.items()
        },
        **({"required": required} if required else {}),
    }


def _allow_null(field: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {
        key: field[key] for key in ("description", "default", "examples") if key in field
    }
    accepted = {key: value for key, value in field.items() if key not in about}
    alternatives = accepted["anyOf"] if set(accepted) == {"anyOf"} else [accepted]
    if not accepted or {"type": "null"} in alternatives:
        return field
    return {"anyOf": [*alternatives, {"type": "null"}], **about}
