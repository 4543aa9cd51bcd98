"""Turn the logits of images into their most probable classes by name, or into all of their labels."""

from torch import Tensor

Ranking = list[tuple[str, float]]  # class and probability, best first


def rank(logits: Tensor, class_names: list[str], top_k: int) -> list[Ranking]:
    """Turn logits (N, num_classes) into the top_k classes and probabilities of each image."""
    # A head may be wider than the data have classes; the surplus was never trained on.
    best = logits[:, : len(class_names)].softmax(dim=1).topk(min(top_k, len(class_names)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        [(class_names[i], p) for i, p in zip(indices, probabilities, strict=True)]
        for indices, probabilities in pairs
    ]


def rank_several(logits: Tensor, class_names: list[str], threshold: float) -> list[Ranking]:
    """Turn logits (N, num_classes) into the classes of each image at or above a probability, best first."""
    rankings = []
    for probabilities in logits[:, : len(class_names)].sigmoid().tolist():
        found = [(c, p) for c, p in zip(class_names, probabilities, strict=True) if p >= threshold]
        rankings.append(sorted(found, key=lambda pair: -pair[1]))
    return rankings
