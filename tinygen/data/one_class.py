"""One class normal, or all but one: what an anomaly detector learns from, and the whole test split to judge it.

    data = load("mnist-only-8")         # training images of the class 8 alone
    data = load("mnist-without-8")      # of all others: 8 is anomalous
    data.normal                         # (8,): the numbers of the normal classes
    data.anomalous()                    # bool (10000,): the test images of another class

A class is given by its name or its number: fashion-mnist-only-ankle-boot is fashion-mnist-only-9. Names are offered
for digits, mnist, mnist-5k and fashion-mnist; `only` and `without` take any labelled data set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

import numpy as np

from .dataset import Dataset
from .pixels import DataError

BASES = ("digits", "mnist", "fashion-mnist", "mnist-5k")
KINDS = ("only", "without")
NAMES = tuple(f"{base}-{kind}-{number}" for base in BASES for kind in KINDS for number in range(10))
OFFERED = f"mnist-only-8, mnist-without-8 and the like of {', '.join(BASES)}"  # of which there are too many to list


@dataclass(frozen=True, repr=False)
class OneClass(Dataset):
    """A data set whose training images are of the `normal` classes alone; the test split has all classes."""

    normal: tuple[int, ...] = ()

    def anomalous(self) -> np.ndarray:
        """Which test images are of a class that is not normal, bool (N,)."""
        assert self.test_labels is not None
        return ~np.isin(self.test_labels, self.normal)


def only(dataset: Dataset, name: str) -> OneClass:
    """The training images of one class, by its name or number, which is normal. DataError for an unknown class."""
    name = class_of(dataset, name)
    return _one_class(dataset.only(name), "only", name, (dataset.classes.index(name),))


def without(dataset: Dataset, name: str) -> OneClass:
    """The training images of all classes but one, which is anomalous. DataError for an unknown class."""
    name = class_of(dataset, name)
    others = tuple(k for k, other in enumerate(dataset.classes) if other != name)
    return _one_class(dataset.without(name), "without", name, others)


def parts(name: str) -> tuple[str, str, str] | None:
    """("mnist", "only", "8") of mnist-only-8; None for a name of another form or base."""
    found = re.fullmatch(rf"(.+?)-({'|'.join(KINDS)})-([^+]*)", name)
    return (found[1], found[2], found[3]) if found and found[1] in BASES else None


def class_of(dataset: Dataset, name: str) -> str:
    """The class that is meant: the one of that name in any case, blanks and / as -; or else the one of that number.

    DataError where there is none.
    """
    near = [known for known in dataset.classes if plain(known) == plain(name)]
    if near:
        return near[0]
    if re.fullmatch("[0-9]+", name) and int(name) < len(dataset.classes):
        return dataset.classes[int(name)]
    there = ", ".join(plain(known) for known in dataset.classes[:20]) + (", ..." if len(dataset.classes) > 20 else "")
    numbers = "" if there[:1].isdigit() or not there else f", or a number from 0 to {len(dataset.classes) - 1}"
    raise DataError(f"{dataset.name} has no class {name!r}; it has {there or 'no classes'}{numbers}")


def plain(name: str) -> str:
    """The name of a class as part of that of a data set: "Ankle boot" is ankle-boot."""
    return re.sub(r"[\s/_]+", "-", name.strip().lower())


def _one_class(dataset: Dataset, kind: str, name: str, normal: tuple[int, ...]) -> OneClass:
    given = {field.name: getattr(dataset, field.name) for field in fields(Dataset)}
    return OneClass(**given | {"name": f"{dataset.name}-{kind}-{plain(name)}"}, normal=normal)
