"""List the named networks: native image size, published weights and published accuracy.

Their other sizes are in `configs/model/`. Accuracies: Hatamizadeh and Kautz 2024, arXiv:2407.08083,
and the cards of the published weights.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        config: Its choice of `model=` on the command line.
        image_size: Pixels per side that it was designed for.
        is_plain: Whether it is of the plain family, whose patch follows the image.
        stride: Pixels per side of a token of the last map, in the hierarchical family.
        num_classes: Classes that it is counted with.
        weights: Id of its published weights on the Hugging Face hub.
        top1: Published ImageNet-1K accuracy in percent, trained on ImageNet-1K alone.
        top1_21k: The same after pre-training on ImageNet-21K.
    """

    config: str
    image_size: int = 224
    is_plain: bool = False
    stride: int = 32
    num_classes: int = 1000
    weights: str | None = None
    top1: float | None = None
    top1_21k: float | None = None

    @property
    def name(self) -> str:
        """Last part of its config's name, by which timm knows it."""
        return self.config.rpartition("/")[2]

    def size_options(self) -> dict[str, Any]:
        """Return its constructor's options of the image size; the hierarchical family has none."""
        return {"image_size": self.image_size} if self.is_plain else {}


VARIANTS = (
    Variant("mambavision_nano", image_size=32, is_plain=True, num_classes=10),
    Variant("mambavision_tiny", is_plain=True),
    Variant("mambavision_small", is_plain=True),
    Variant("mambavision_base", is_plain=True),
    Variant("mambavision_micro", image_size=32, stride=16, num_classes=10),
    Variant("nvidia/mambavision_t", weights="nvidia/MambaVision-T-1K", top1=82.3),
    Variant("nvidia/mambavision_t2", weights="nvidia/MambaVision-T2-1K", top1=82.7),
    Variant("nvidia/mambavision_s", weights="nvidia/MambaVision-S-1K", top1=83.3),
    Variant("nvidia/mambavision_b", weights="nvidia/MambaVision-B-1K", top1=84.2, top1_21k=84.9),
    Variant("nvidia/mambavision_l", weights="nvidia/MambaVision-L-1K", top1=85.0, top1_21k=86.1),
    Variant("nvidia/mambavision_l2", weights="nvidia/MambaVision-L2-1K", top1=85.3),
    Variant(
        "nvidia/mambavision_l2_512",
        image_size=512,
        weights="nvidia/MambaVision-L2-512-21K",
        top1_21k=87.3,
    ),
    Variant(
        "nvidia/mambavision_l3",
        image_size=256,
        weights="nvidia/MambaVision-L3-256-21K",
        top1_21k=87.3,
    ),
    Variant(
        "nvidia/mambavision_l3_512",
        image_size=512,
        weights="nvidia/MambaVision-L3-512-21K",
        top1_21k=88.1,
    ),
)
BASELINES = (Variant("vit_small", is_plain=True), Variant("resnet50", is_plain=True))
