"""Drop-in versions of River classes that would break the fold's promises, catalogued under River's own names.

Two promises are at stake. Same bits: some classes walk over a Python set of texts or number things by their memory
address, both of which differ between processes and after a reload, and sums of floats differ with the order. Missing
is absent: in Headrace an observation lacks the fields that are missing, where some transformers would raise. The
versions here change nothing else, so wherever River's behaviour was defined it is River's. Each must stay a subclass
with River's signature, as River clones models by their signatures.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from river import (
    compose,
    dummy,
    feature_extraction,
    forest,
    multiclass,
    neighbors,
    preprocessing,
    rules,
    tree,
)

from headrace.contracts.events import Features

T = TypeVar("T")


class InOrder(dict[Any, None]):
    """A set of classes in the order in which they first came, with the part of set's interface that River uses."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        # Another set has no order worth keeping; it comes only from KNN's clean-up.
        ordered = (
            sorted(items, key=lambda item: (type(item).__name__, item)) if isinstance(items, set) else items
        )
        super().__init__((item, None) for item in ordered)

    def add(self, item: Any) -> None:
        """Like set.add."""
        self[item] = None

    def __sub__(self, other: Iterable[Any]) -> list[Any]:
        return [item for item in self if item not in set(other)]


class Numbered(dict[int, Any]):
    """Rules by number: whatever new key is given, the next number is taken."""

    def __init__(self, rules: Mapping[int, Any] = MappingProxyType({}), following: int = 0) -> None:
        super().__init__(rules)
        self.following = following

    def __setitem__(self, key: int, rule: Any) -> None:
        if key not in self:
            key = self.following
            self.following += 1
        super().__setitem__(key, rule)

    def __reduce__(self) -> tuple[Any, ...]:
        return Numbered, (dict(self), self.following)


class Converted(Generic[T]):
    """An attribute whose every assigned value is converted first; lives in the instance under its own name."""

    def __init__(self, convert: Callable[[Any], T]) -> None:
        self.convert = convert

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> T:
        if instance is None:
            raise AttributeError(self.name)
        try:
            value: T = instance.__dict__[self.name]
        except KeyError:
            raise AttributeError(self.name) from None
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.name] = self.convert(value)


class NoChangeClassifier(dummy.NoChangeClassifier):
    """Classes in the order in which they came."""

    classes = Converted(InOrder)


class HoeffdingAdaptiveTreeClassifier(tree.HoeffdingAdaptiveTreeClassifier):
    """Classes in the order in which they came."""

    classes = Converted(InOrder)


class AMFClassifier(forest.AMFClassifier):
    """Classes in the order in which they came."""

    _classes = Converted(InOrder)


class KNNClassifier(neighbors.KNNClassifier):
    """Classes in the order in which they came."""

    classes = Converted(InOrder)


class OneVsOneClassifier(multiclass.OneVsOneClassifier):
    """Classes in the order in which they came."""

    classes = Converted(InOrder)


class AMRules(rules.AMRules):
    """Rules numbered in the order in which they were found, not by memory address."""

    _rules = Converted(Numbered)


class RandomTreesEmbedding(feature_extraction.RandomTreesEmbedding):
    """Leaves are found again after a reload; River remembers their memory addresses."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_leaf_indices"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._leaf_indices = [
            {id(leaf): i for i, leaf in enumerate(tree.iter_leaves())} for tree in self.trees
        ]


class Select(compose.Select):
    """Keeps the given fields that are present, in the order given."""

    def __init__(self, *keys: str) -> None:
        self.keys: Any = tuple(dict.fromkeys(keys))

    def transform_one(self, x: Features) -> Features:
        """The chosen part of `x`."""
        return {key: x[key] for key in self.keys if key in x}


class Grouper(compose.Grouper):
    """Observations without the field form a group of their own."""

    def _get_key(self, x: Features) -> str:
        return "_".join(str(x.get(str(key), "")) for key in self.by)


class StatImputer(preprocessing.StatImputer):
    """Fills in fields that are absent (River's own fills in fields that are None)."""

    def learn_one(self, x: Features) -> None:
        """Update the statistics of the fields that are present."""
        statistic: Any
        for name, statistic in self.stats.items():
            if name in x:
                statistic.update(x[name])

    def transform_one(self, x: Features) -> Features:
        """`x` with what is missing filled in, as far as there is anything to fill in with."""
        filled = dict(x)
        for name, statistic in self.stats.items():
            if name not in filled:
                value = statistic.get()
                if value is not None:
                    filled[name] = value
        return filled


class PreviousImputer(preprocessing.PreviousImputer):
    """Fills in fields that are absent with their latest value (River's own fills in fields that are None)."""

    def learn_one(self, x: Features) -> None:
        """Remember the latest values."""
        self._latest.update(x)

    def transform_one(self, x: Features) -> Features:
        """`x` with what is missing filled in, fields in the order in which they first came."""
        return {**self._latest, **x}


class GapEncoder(preprocessing.GapEncoder):
    """No text, nothing learnt and all topics zero."""

    def learn_one(self, x: Features) -> None:
        """Learn the field `on` if it is present."""
        if self.on in x:
            super().learn_one(x)

    def transform_one(self, x: Features) -> dict[int, float]:
        """The weight of each topic."""
        if self.on in x:
            topics: dict[int, float] = super().transform_one(x)
            return topics
        return dict.fromkeys(range(self.n_components), 0.0)


class _Aggregating:
    """What `Agg` and `TargetAgg` share: a missing group is a group of its own, a missing value is not counted."""

    by: list[str] | None

    def _make_key(self, x: Features) -> tuple[Any, ...] | None:
        return tuple(x.get(key) for key in self.by) if self.by else None


class Agg(_Aggregating, feature_extraction.Agg):
    """Counts what is present."""

    def learn_one(self, x: Features, t: Any = None) -> None:
        """Update the group's statistic if the field is present."""
        if self.on in x:
            super().learn_one(x, t)


class TargetAgg(_Aggregating, feature_extraction.TargetAgg):
    """Observations without the field form a group of their own."""


class BagOfWords(feature_extraction.BagOfWords):
    """No text, no words."""

    def process_text(self, x: Features) -> Any:
        """The words of the field `on`."""
        return super().process_text(x) if self.on in x else []


class TFIDF(feature_extraction.TFIDF):
    """No text, no words; words are counted in the order of the text."""

    def process_text(self, x: Features) -> Any:
        """The words of the field `on`."""
        return super().process_text(x) if self.on in x else []

    def learn_one(self, x: Features) -> None:
        """Count each word of the text once."""
        if self.on in x:
            self.dfs.update(dict.fromkeys(self.process_text(x), 1))
            self.n += 1


REPLACED: Mapping[type, type[Any]] = MappingProxyType(
    {
        compose.Grouper: Grouper,
        compose.Select: Select,
        dummy.NoChangeClassifier: NoChangeClassifier,
        feature_extraction.Agg: Agg,
        feature_extraction.BagOfWords: BagOfWords,
        feature_extraction.RandomTreesEmbedding: RandomTreesEmbedding,
        feature_extraction.TFIDF: TFIDF,
        feature_extraction.TargetAgg: TargetAgg,
        forest.AMFClassifier: AMFClassifier,
        multiclass.OneVsOneClassifier: OneVsOneClassifier,
        neighbors.KNNClassifier: KNNClassifier,
        preprocessing.GapEncoder: GapEncoder,
        preprocessing.PreviousImputer: PreviousImputer,
        preprocessing.StatImputer: StatImputer,
        rules.AMRules: AMRules,
        tree.HoeffdingAdaptiveTreeClassifier: HoeffdingAdaptiveTreeClassifier,
    }
)
"""River class -> the class that is built in its place."""
