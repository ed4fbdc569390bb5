"""The OpenAPI description of what our API is sent: JSON, a form, or an image."""

from typing import Any

from pydantic import BaseModel

from cutline.serving.schemas import Fields, ImageInput

EXAMPLE_IMAGE = (  # a PNG of 2 x 2 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8Dwn4GBgYmBgYGBgQEAHyQCAkHnN1sA"
    "AAAASUVORK5CYII="
)
_EXAMPLES: dict[str, dict[str, Any]] = {
    "images": {"images": [{"data": EXAMPLE_IMAGE}], "num_beams": 5},
    "captions": {"captions": ["a dog on a beach", "a cat"]},
    "texts": {"texts": ["a dog on a beach", "a cat"]},
}


def describe_body(kind: type[Fields]) -> dict[str, Any]:
    """Return the description of a request body."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema.pop("description", None)
    example = {} if "images" in kind.model_fields else {"image": {"data": EXAMPLE_IMAGE}}
    for name, part in _EXAMPLES.items():
        if name in kind.model_fields:
            example |= part
    return {
        "required": True,
        "content": {
            "application/json": {"schema": _inline_image(schema), "example": example},
            "multipart/form-data": {"schema": _describe_form(schema)},
        },
    }


def describe_json(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a request body that is JSON."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    schema.pop("description", None)
    return {
        "required": True,
        "content": {"application/json": {"schema": _inline_parts(schema, parts)}},
    }


def _inline_parts(schema: Any, parts: dict[str, Any]) -> Any:
    """Return a schema with those it refers to in their places; none refers to itself."""
    if isinstance(schema, list):
        return [_inline_parts(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline_parts(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _inline_parts(each, parts) for name, each in schema.items()}


def _inline_image(schema: dict[str, Any]) -> dict[str, Any]:
    """Put the schema of an image where it is referred to."""
    image = ImageInput.model_json_schema()
    properties = dict(schema["properties"])
    if "images" in properties:
        properties["images"] = properties["images"] | {"items": image}
    else:
        properties["image"] = image
    return {**schema, "properties": properties}


def _describe_form(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form, whose images are files."""
    file = {"type": "string", "format": "binary"}
    properties = dict(schema["properties"])
    if "images" in properties:
        properties["images"] = {"type": "array", "items": file, "minItems": 1}
    else:
        properties["image"] = file
    return {**schema, "properties": properties}
