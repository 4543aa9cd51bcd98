"""What configs ask about their data while they are composed, such as the number of classes."""

from collections.abc import Callable
from typing import Any

from mambavision_lab.data.class_folders import count_classes
from mambavision_lab.data.find_shards import count_shard_classes
from mambavision_lab.data.hf_splits import count_hf_classes
from mambavision_lab.data.labels_file import has_several_labels
from mambavision_lab.data.medmnist_sets import find_set

# What stands for the answer of missing data, in tasks that can do without them.
UNKNOWN: dict[str, Any] = {
    "count_classes": 1,
    "is_multilabel": False,
    "count_shard_classes": 1,
    "count_hf_classes": 1,
}
RESOLVERS: dict[str, Callable[..., Any]] = {
    "count_classes": count_classes,
    "is_multilabel": has_several_labels,
    "count_shard_classes": count_shard_classes,
    "count_hf_classes": count_hf_classes,
    "medmnist": lambda name, key, num_axes=2: getattr(find_set(name, num_axes), key),
}
