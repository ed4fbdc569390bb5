"""What a run is of: data, model, machine, versions and settings."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from cutline.config import Recipe, to_dict
from cutline.report import About, flatten_settings, format_command
from cutline.training.run.history import RunHistory
from cutline.training.run.log import LogLine

_TASKS = {
    "caption": "captioning",
    "scst": "captioning, by self-critical sequence training",
    "match": "matching of images and texts",
    "pretrain": "captioning and matching",
}
_SHOWN_PACKAGES = ("cutline", "torch", "python")


def describe_run(run: RunHistory) -> About:
    """Return what a run is of; old run directories tell less."""
    others = {"Task": _TASKS.get(run.settings["task"], run.settings["task"])}
    others |= dict(_iter_facts(run))
    return About(
        data=run.settings["data.train"],
        model=describe_init(run.settings),
        others=others | {"Seed": str(run.settings["seed"])},
        settings=run.settings,
        changed=list_changed_settings(run.settings),
        command=format_command(run.starts[-1]["command"]) if run.starts else "",
    )


def list_changed_settings(settings: Mapping[str, object]) -> list[str]:
    """Return the settings of a recipe, by dotted name, that differ from their defaults."""
    defaults = flatten_settings(to_dict(Recipe()))
    return [name for name, value in settings.items() if value != defaults.get(name)]


def describe_init(settings: Mapping[str, object]) -> str:
    """Return the weights that training with the settings of a recipe starts from."""
    names = ("captioner", "matcher", "vision", "text")
    weights = [str(value) for name in names if (value := settings[f"init.{name}"])]
    return " and ".join(weights) or "random weights"


def _iter_facts(run: RunHistory) -> Iterator[tuple[str, str]]:
    """Yield what `run.json` tells, by name."""
    if not run.starts:
        return
    first, last = run.starts[0], run.starts[-1]
    yield "Training images", _count_data(last["data"]["train"])
    yield "Validation images", _count_data(last["data"]["val"])
    yield "Parameters", f"{last['num_params']:,}"
    yield "Started", f"{datetime.fromisoformat(first['started']).astimezone():%Y-%m-%d %H:%M %Z}"
    if len(run.starts) > 1:
        yield "Resumed", "once" if len(run.starts) == 2 else f"{len(run.starts) - 1} times"
    processes = f", {last['world_size']} processes" if last["world_size"] > 1 else ""
    yield "Device", f"{last['device']}{processes}"
    yield "Machine", last["machine"]
    yield "Trained with", _describe_versions(last)


def _count_data(data: LogLine) -> str:
    if not data["num_images"]:
        return "none"
    return f"{data['num_images']:,}, with {data['num_captions']:,} captions"


def list_comparable_facts(run: RunHistory) -> dict[str, str]:
    """Return what may explain why a run differs from another one, by name; "" if it is unknown."""
    names = ("training data", "validation data", "device", "processes", "trained with")
    if not run.starts:
        return dict.fromkeys(names, "")
    last = run.starts[-1]
    values = (
        *map(_identify_data, last["data"].values()),
        last["device"],
        str(last["world_size"]),
        _describe_versions(last),
    )
    return dict(zip(names, values, strict=True))


def _identify_data(data: LogLine) -> str:
    return f"{_count_data(data)} (fingerprint {data['fingerprint'][:8]})"


def _describe_versions(start: LogLine) -> str:
    versions = start["versions"]
    return ", ".join(f"{name} {versions[name]}" for name in _SHOWN_PACKAGES if name in versions)
