"""LOCAL objects and their counterparts, compared value by value. Works between any two vendors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from django.db.models import IntegerField, QuerySet

from synchro.compare.columns import Columns, write_alike
from synchro.compare.report import Value
from synchro.engine.link import Link
from synchro.engine.members import differing_members
from synchro.engine.relations import Target, Translation, translate
from synchro.engine.resolve import find, references
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.registry import ModelClass, many_to_many_of, model_label

Row = tuple[Any, ...]
#: Keys with gaps up to this many times their number are read as one range.
_DENSE = 2


@dataclass(frozen=True, slots=True)
class NotOnRemote:
    """What stands for a LOCAL object that REMOTE does not have. It is no value that a row could have."""

    target: str

    def __str__(self) -> str:
        return f"{self.target}, which REMOTE lacks"


@dataclass(slots=True)
class Compared:
    """What was found out about some LOCAL objects, by object id."""

    missing: list[str] = field(default_factory=list)
    #: Objects whose row differs, and objects whose many-to-many relations do.
    rows: dict[str, list[Value]] = field(default_factory=dict)
    members: dict[str, list[Value]] = field(default_factory=dict)
    #: The keys under which REMOTE knows the objects, or knew them.
    keys: dict[str, str] = field(default_factory=dict)
    #: Objects, also targets of relations, whose counterparts were found by a key that nobody remembers yet.
    unremembered: dict[ModelClass, list[str]] = field(default_factory=dict)

    @property
    def differing(self) -> set[str]:
        """The objects that differ in any way."""
        return {*self.missing, *self.rows, *self.members}


class Comparer:
    """Compares objects of one model."""

    def __init__(self, link: Link, model: ModelClass) -> None:
        self.link = link
        self.model = model
        self.columns = Columns(model, link.local, link.remote)
        self._can_glance = write_alike(link.local, link.remote)
        self._has_numbers = _is_number(model)
        self.text: Callable[[Any], str] = str if self._has_numbers else lambda pk: pk_to_text(model, pk)
        self._pk: Callable[[str], Any] = int if self._has_numbers else lambda text: pk_from_text(model, text)
        self._has_members = bool(many_to_many_of(model))

    def read(self, object_ids: Iterable[str]) -> dict[Any, Row]:
        """Return LOCAL's rows of the objects in full."""
        return self._read(object_ids, glance=False)

    def screen_some(self, object_ids: Iterable[str]) -> dict[Any, Row]:
        """Return LOCAL's rows of the objects as they are compared the first time."""
        return self._read(object_ids, glance=self._can_glance)

    def screen(self, objects: QuerySet[Any]) -> dict[Any, Row]:
        """Return LOCAL's rows as they are compared the first time."""
        return self.columns.glance(objects) if self._can_glance else self.columns.read(objects)

    def compare(self, rows: Mapping[Any, Row], *, carefully: bool = False) -> Compared:
        """Compare LOCAL's rows with their counterparts.

        Args:
            carefully: as a second look at rows that were read in full: it is told which values differ, and REMOTE's
                mirrors are asked first, as the engine does under its lock.
        """
        compared = Compared()
        ours = {self.text(pk): row for pk, row in rows.items()}
        pks, theirs = self._counterparts(ours, compared, carefully=carefully)
        compared.missing = [each for each in ours if each not in pks]
        expected = self._expected({each: row for each, row in ours.items() if each in pks}, compared, carefully)
        glance = self._can_glance and not carefully
        for each, row in expected.items():
            other = theirs[pks[each]]
            if glance:
                if row != other:
                    compared.rows[each] = []
            elif numbers := self.columns.differing(row, other):
                compared.rows[each] = [self._value(number, row, other) for number in numbers]
        if self._has_members:
            self._compare_members({self.text(pk): pk for pk in rows}, pks, compared)
        return compared

    def _read(self, object_ids: Iterable[str], *, glance: bool) -> dict[Any, Row]:
        pks = set(map(self._pk, object_ids))
        return {pk: row for pk, row in self._rows(self.link.local, pks, glance=glance).items() if pk in pks}

    def _rows(self, using: str, pks: Iterable[Any], *, glance: bool) -> dict[Any, Row]:
        """Return the rows with these keys, and maybe others between them."""
        keys = list(pks)
        rows = self.model._base_manager.using(using).order_by("pk")
        read = self.columns.glance if glance else self.columns.read
        if self._has_numbers and len(keys) > 1 and (high := max(keys)) - (low := min(keys)) < _DENSE * len(keys):
            return read(rows.filter(pk__gte=low, pk__lte=high))
        return read(rows.filter(pk_among(self.model, keys)))

    def _counterparts(
        self, ours: Mapping[str, Row], compared: Compared, *, carefully: bool
    ) -> tuple[dict[str, Any], dict[Any, Row]]:
        """Return REMOTE's primary keys of the objects, and REMOTE's rows by primary key."""
        known = {} if carefully else references(self.link, self.model, list(ours))
        compared.keys = known
        candidates = {each: self._pk(key) for each, key in known.items()}
        glance = self._can_glance and not carefully
        theirs = self._rows(self.link.remote, candidates.values(), glance=glance) if candidates else {}
        pks = {each: pk for each, pk in candidates.items() if pk in theirs}
        if rest := [each for each in ours if each not in pks]:
            found = find(self.link, self.model, rest)
            compared.keys |= found.remembered() | {each: self.text(pk) for each, pk in found.pks.items()}
            new = {each: pk for each, pk in found.pks.items() if found.referenced.get(each) != self.text(pk)}
            if new:
                compared.unremembered[self.model] = list(new)
            if found.pks:
                theirs |= self._rows(self.link.remote, found.pks.values(), glance=glance)
            pks |= {each: pk for each, pk in found.pks.items() if pk in theirs}
        return pks, theirs

    def _expected(self, rows: dict[str, Row], compared: Compared, carefully: bool) -> dict[str, Row]:
        """Return the rows as REMOTE should have them: its own keys for foreign keys."""
        if not (self.columns.keys or self.columns.generic_keys) or not rows:
            return rows
        instances: Any = {each: _Instance(**self.columns.first(row)) for each, row in rows.items()}
        translation = translate(self.link, self.model, instances)
        for model, keys in translation.discovered.items():
            compared.unremembered.setdefault(model, []).extend(keys)
        gone = self._gone(translation) if carefully else set()
        return {each: self._translated(each, row, translation, gone) for each, row in rows.items()}

    def _translated(self, object_id: str, row: Row, translation: Translation, gone: set[Target]) -> Row:
        values = self.columns.first(row)
        found = translation.values.get(object_id, {})
        missing = translation.missing.get(object_id, {})
        for name in self.columns.keys:
            if values[name] is not None:
                values[name] = found.get(name, NotOnRemote(f"{name} {values[name]}"))
        for name in self.columns.generic_keys:
            if name in found:
                values[name] = self.model._meta.get_field(name).to_python(found[name])  # type: ignore[union-attr]
        for name, target in missing.items():
            # Where nothing forbids it, both sides may go on pointing to what is gone.
            text = f"{model_label(target[0])} {target[1]}"
            values[name] = _ANYTHING if target in gone else NotOnRemote(text)
        return (*values.values(), *row[len(values) :])

    def _gone(self, translation: Translation) -> set[Target]:
        """Return the targets that LOCAL does not have either."""
        targets = {target for missing in translation.missing.values() for target in missing.values()}
        gone = set()
        for model in {model for model, _ in targets}:
            ids = {object_id for each, object_id in targets if each is model}
            pks = [pk_from_text(model, each) for each in ids]
            living = (
                model._base_manager.using(self.link.local).filter(pk_among(model, pks)).values_list("pk", flat=True)
            )
            gone |= {(model, each) for each in ids - {pk_to_text(model, pk) for pk in living}}
        return gone

    def _compare_members(self, local_pks: Mapping[str, Any], pks: Mapping[str, Any], compared: Compared) -> None:
        owners = {each: local_pks[each] for each in pks}
        for each, relations in differing_members(self.link, self.model, owners, pks).items():
            compared.members[each] = [
                Value(name, *(", ".join(sorted(map(str, members))) for members in sides))
                for name, sides in relations.items()
            ]

    def _value(self, number: int, ours: Row, theirs: Row) -> Value:
        return Value(self.columns.fields[number].name, ours[number], theirs[number])


class _Instance(SimpleNamespace):
    """The attributes of an object as far as they are compared; the others are empty."""

    def __getattr__(self, name: str) -> None:
        return None


class _Anything:
    """Equal to every value that points to something."""

    def __eq__(self, other: object) -> bool:
        return other is not None

    __hash__ = object.__hash__


_ANYTHING = _Anything()


def _is_number(model: ModelClass) -> bool:
    """Tell whether primary keys are whole numbers, whose text needs no field to be made or read."""
    pk: Any = model._meta.pk
    return isinstance(pk, IntegerField) and type(pk).__module__.startswith("django.db.models")
