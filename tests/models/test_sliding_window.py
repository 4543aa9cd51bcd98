import pytest
import torch
from torch import nn

from mambavision_lab.models.sliding_window import predict_windows


@pytest.mark.parametrize(
    ("sides", "window"),
    [((37, 50), (16, 16)), ((10, 12), (16, 16)), ((3, 4), (16, 16)), ((5, 20, 33), (8, 16, 16))],
)
def test_windows_of_a_pixelwise_network_give_the_whole(sides, window):
    def net(x):
        assert x.shape[2:] == window
        return torch.cat([x, -x], dim=1)

    image = torch.randn(1, *sides)
    shares = predict_windows(net, image, window)
    torch.testing.assert_close(shares, net_of_all(image))


def net_of_all(image):
    return torch.cat([image, -image])[None].softmax(1)[0]


def test_middle_of_a_window_counts_more_than_its_border():
    conv = nn.Conv2d(1, 2, 5, padding=2)
    image = torch.randn(1, 40, 40)
    with torch.no_grad():
        whole = conv(image[None]).softmax(1)[0]
        overlapping = predict_windows(conv, image, (16, 16), overlap=0.75)
        apart = predict_windows(conv, image, (16, 16), overlap=0.0)
    inner = (slice(None), slice(8, 32), slice(8, 32))
    errors = [(shares - whole)[inner].abs().mean() for shares in (overlapping, apart)]
    assert errors[0] < 0.2 * errors[1]


def test_overlap_of_one_is_refused():
    with pytest.raises(ValueError, match="overlap=1"):
        predict_windows(lambda x: x, torch.zeros(1, 8, 8), (4, 4), overlap=1)
