"""What the measures of every kind of test have: a value or more of each class."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

ClassTable = tuple[list[str], list[tuple[str, int, list[float]]]]


@dataclass
class ClassQuality(ABC):
    """Metrics of one test by class.

    Attributes:
        names: Class names; numbers where the run stored none.
        title: Of the figure of `class_values`.
        counted: What a class has a number of.
        groups: Headings of the stored pictures, by group.
    """

    names: list[str]
    title: ClassVar[str] = "Precision and recall by class"
    counted: ClassVar[str] = "images"
    groups: ClassVar[dict[str, str]] = {
        "mistakes": "Most confident mistakes",
        "random": "Randomly chosen predictions",
    }

    @abstractmethod
    def class_table(self) -> ClassTable:
        """Return the names of the values, and class, number and values of each, the worst class first."""

    @abstractmethod
    def class_values(self) -> list[tuple[str, np.ndarray]]:
        """Return what is compared between classes, by name."""

    def legend(self) -> list[tuple[str, str]]:
        """Return name and CSS colour of each class that has a colour in the pictures."""
        return []


def names_of(predictions: dict[str, np.ndarray], num_classes: int) -> list[str]:
    """Return the names that a run stored, and numbers for the classes without one."""
    names = [str(name) for name in predictions.get("class_names", [])]
    return names + [str(index) for index in range(len(names), num_classes)]


def sort_classes(rows: list[Any], column: int) -> list[tuple[str, int, list[float]]]:
    """Sort rows of a class table by a value, NaN last."""
    return sorted(rows, key=lambda row: (math.isnan(row[2][column]), row[2][column]))
