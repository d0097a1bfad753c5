"""Fields that the JSON of several commands has in common."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nstx.models.cost import Cost


def cost_json(cost: "Cost") -> dict[str, Any]:
    """Return a cost as plain data."""
    return {
        "total": cost.total,
        "content": cost.content,
        "style": cost.style,
        "total_variation": cost.total_variation,
        "style_layers": dict(cost.style_layers),
        "content_layers": dict(cost.content_layers),
    }


def extractor_json(extractor: tuple[str, str] | None) -> dict[str, str] | None:
    """Return what computed targets; None if none had to be computed."""
    if extractor is None:
        return None
    name, runs_on = extractor
    return {"name": name, "runs_on": runs_on}
