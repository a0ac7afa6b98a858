"""The place of each key among all groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.groups.sums import Places


class Index:
    """The places of the keys of all groups, in the order in which they came."""

    def __init__(self) -> None:
        self.integers: Any = Places()       # while all keys are integers of 64 bits with a sign
        self.numbers: dict[Any, int] | None = None      # else
        self.labels: list[Any] = []         # of `numbers`, and how many of them count
        self.n = 0
        self.outdated = False               # `numbers` may hold keys that were cut

    def __len__(self) -> int:
        return len(self.integers) if self.numbers is None else self.n

    def find(self, keys: Any) -> NDArray[np.int64]:
        """The place of each of some different keys, -1 where there is none."""
        if self.numbers is None and isinstance(keys, np.ndarray):
            if keys.dtype == np.int64:
                found: NDArray[np.int64] = self.integers.of(keys)
                return found
            self.become_general()
        if self.numbers is None:
            if not len(self):
                return np.full(len(keys), -1)
            self.become_general()
        elif self.outdated:
            self.number()
        numbers: Any = self.numbers
        listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.array([numbers.get(key, -1) for key in listed], np.int64)

    def place(self, key: Any) -> int:
        """The place of a key, -1 if it is not there."""
        if self.numbers is None:
            if not isinstance(key, int) or not -2**63 <= key < 2**63:
                return -1
            return int(self.integers.of(np.array([key], np.int64))[0])
        place = self.numbers.get(key, -1)
        return place if place < self.n else -1

    def become_general(self) -> None:
        self.labels = self.all()
        self.n = len(self.labels)
        self.number()

    def number(self) -> None:
        """Number the labels that count."""
        self.numbers = {key: i for i, key in enumerate(self.labels[:self.n])}
        self.outdated = False

    def add(self, keys: Any) -> None:
        """Add different keys that are not there."""
        if self.numbers is None and isinstance(keys, np.ndarray) and keys.dtype == np.int64:
            self.integers.add_all(keys)
            return
        if self.numbers is None:
            self.become_general()
        elif self.outdated:
            self.number()
        listed = keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
        numbers: Any = self.numbers
        numbers.update({key: self.n + i for i, key in enumerate(listed)})
        self.labels[self.n:] = listed
        self.n = len(self.labels)

    def cut(self, n: int) -> None:
        """Forget the keys from place n on, of which some may not have been added. This takes no memory."""
        self.n, self.outdated = n, True
        if self.numbers is None:
            self.integers.cut(n)

    def all(self) -> list[Any]:
        """All keys, in the order of their places."""
        found: list[Any] = self.integers.all().tolist() if self.numbers is None else self.labels[:self.n]
        return found

    def whole(self) -> Any:
        """All keys: an array of int64, or a list."""
        return self.integers.all() if self.numbers is None else self.labels[:self.n]

    def copy(self) -> Index:
        new = Index()
        new.integers.omit = self.integers.omit
        if self.numbers is not None or len(self):
            new.add(self.whole())
        return new
