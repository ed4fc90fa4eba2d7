"""Names for versions that follow from where they stand: `champion`, `challenger`, `canary`, `previous`.

`champion-flights` is the version that is champion of stream `flights`. Without a stream an alias means what it means on
every stream that has it for the model; if they disagree, there is none, as nobody could say which was meant. Nothing of
this is stored: it is read from the streams' decisions, and setting an alias is a decision about a stream.
"""

from collections.abc import Iterable, Mapping

from services.registry.domain.history import Decision, standing

ROLES = ("champion", "challenger", "canary", "previous")

Aliases = dict[str, dict[str, int]]
"""By model: by alias, the version."""


def on_stream(decisions: Iterable[Decision]) -> Aliases:
    """What the decisions of a stream, oldest first, come to: by model, by role, the version."""
    stood = standing(decisions)
    found: Aliases = {}
    for model, placed in stood.line_up.items():
        if placed.role != "retired":
            found.setdefault(model, {})[placed.role] = placed.version
        if placed.share > 0:
            found.setdefault(model, {})["canary"] = placed.version
    if stood.previous is not None:
        model, version = stood.previous
        found.setdefault(model, {})["previous"] = version
    return found


def aliases(streams: Mapping[str, Iterable[Decision]]) -> Aliases:
    """All aliases on these streams, by model, by alias."""
    found: Aliases = {}
    meant: dict[tuple[str, str], set[int]] = {}
    for stream, decisions in streams.items():
        for model, roles in on_stream(decisions).items():
            for role, version in roles.items():
                found.setdefault(model, {})[f"{role}-{stream}"] = version
                meant.setdefault((model, role), set()).add(version)
    for (model, role), versions in meant.items():
        if len(versions) == 1:
            found[model][role] = next(iter(versions))
    return found
