"""Figures of a network as a whole, from test images of its run."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mambavision_lab.data.base import ImageDataModule
from mambavision_lab.data.volumes import side_by_side
from mambavision_lab.errors import missing_extra
from mambavision_lab.explainers.features import feature_maps
from mambavision_lab.explainers.features_of_layers import similarity, singular_values
from mambavision_lab.explainers.receptive_field import receptive_field
from mambavision_lab.explainers.record import record
from mambavision_lab.explainers.scan import half_lives, step_sizes
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.report.figures import COLORS, INK, new_figure, shorten
from mambavision_lab.tasks.explain_images import test_images

_NUM_IMAGES = 256  # of the embedding and the features
_NUM_FIELDS = 32  # of the receptive field
_MAX_CLASSES = 20  # named in the legend


def network_figures(
    inference: MambaVisionInference, data: ImageDataModule
) -> list[tuple[str, Figure]]:
    """Draw receptive field, similarity of layers, singular values, histograms and an embedding.

    Raises:
        ConfigError: scikit-learn is missing, or the network has no layers with maps.
    """
    named = [*test_images(data, _NUM_IMAGES)]
    pixels = torch.stack([image.pixels for image in named])
    images = inference.normalize(pixels).to(inference.device)
    net = inference.net
    maps = feature_maps(net, images)
    field = receptive_field(net, images[:_NUM_FIELDS])
    figures = [
        (
            "Effective receptive field (mean |gradient|)",
            _draw_field(field),
        ),
        ("Similarity of layers (linear CKA)", _draw_similarity(maps)),
        ("Singular values of features", _draw_singular_values(maps)),
        ("Weights of each kind of layer", _draw_weights(net)),
    ]
    figures += _draw_scans(net, images[:1])
    features = inference.features([*pixels])
    figures.append(("Test features, t-SNE", _draw_embedding(features, [i.true for i in named])))
    return figures


def _draw_field(field: Tensor) -> Figure:
    figure, axes = new_figure(3.6, 3.4)
    axes.imshow(side_by_side(field[None])[0].cpu().numpy() ** 0.5, cmap="cividis")
    _plain(axes, "pixels", "pixels (root of the gradient)")
    return figure


def _draw_similarity(maps: dict[str, Tensor]) -> Figure:
    figure, axes = new_figure(4.2, 3.8)
    picture = axes.imshow(similarity(maps), cmap="cividis", vmin=0, vmax=1)
    names = [*maps]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    _plain(axes, "", "")
    figure.colorbar(picture).ax.tick_params(colors=INK)
    return figure


def _draw_singular_values(maps: dict[str, Tensor]) -> Figure:
    figure, axes = new_figure()
    for i, (name, features) in enumerate(maps.items()):
        values = singular_values(features).numpy()
        axes.semilogy(
            np.linspace(0, 1, len(values)),
            values.clip(1e-6),
            label=name,
            color=COLORS[i % len(COLORS)],
        )
    _plain(axes, "index / channels", "value / largest")
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def _draw_weights(net: torch.nn.Module) -> Figure:
    figure, axes = new_figure()
    kinds: dict[str, list[Tensor]] = {}
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            kinds.setdefault(type(module).__name__, []).append(weight.detach().flatten().cpu())
    for i, (kind, weights) in enumerate(kinds.items()):
        axes.hist(
            torch.cat(weights).numpy(),
            80,
            histtype="step",
            density=True,
            label=kind,
            color=COLORS[i % len(COLORS)],
        )
    axes.set_yscale("log")
    _plain(axes, "weight", "density")
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def _draw_scans(net: torch.nn.Module, image: Tensor) -> list[tuple[str, Figure]]:
    """Draw histograms of the step sizes and half-lives of each mixer; nothing without mixers."""
    calls, figures = record(net, image).scans, []
    if not calls:
        return []
    for title, unit, values_of in (
        ("Step sizes of the scans", "step size (1)", step_sizes),
        ("Half-lives of the scans' channels", "half-life (tokens)", half_lives),
    ):
        figure, axes = new_figure()
        for i, call in enumerate(calls):
            values = values_of(call).detach().flatten().clamp(1e-6, 1e6).log10().cpu().numpy()
            axes.hist(values, 60, histtype="step", label=call.name, color=COLORS[i % len(COLORS)])
        _plain(axes, f"log10 of the {unit}", "tokens x channels")
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
        figures.append((title, figure))
    return figures


def _draw_embedding(features: Tensor, classes: list[str | None]) -> Figure:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise missing_extra("network=true", "scikit-learn", "explain") from error
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=0)
    places = tsne.fit_transform(features.numpy())
    figure, axes = new_figure()
    names = sorted({name or "unknown" for name in classes})
    for i, name in enumerate(names):
        own = places[[(c or "unknown") == name for c in classes]]
        marker = "osD^v"[i // len(COLORS) % 5]
        label = shorten(name, 16) if len(names) <= _MAX_CLASSES else None
        axes.scatter(
            own[:, 0], own[:, 1], s=12, color=COLORS[i % len(COLORS)], marker=marker, label=label
        )
    _plain(axes, "", "")
    axes.set(xticks=[], yticks=[])
    if len(names) <= _MAX_CLASSES:
        axes.legend(fontsize=7, frameon=False, labelcolor=INK, ncols=2)
    return figure


def _plain(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=INK)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
