from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from roadseg.errors import ConfigError
from roadseg.models.architectures import NETWORKS, build_model
from roadseg.models.efficientnet_lite import (
    VARIANTS,
    DepthwiseConv2d,
    EfficientNetLite,
    SameConv2d,
    imagenet_state,
)
from roadseg.models.segmenter import Segmenter, enlarge, normalise
from roadseg.spec import ARCHITECTURES, ModelSpec


def build(arch: str, width: int, classes: int = 11, **changes: Any) -> torch.nn.Module:
    names = tuple(map(str, range(classes)))
    return build_model(ModelSpec(arch=arch, width=width, class_names=names, **changes))


MODELS = [
    ("unet", {"output_stride": 1}),
    ("unet-lite", {}),
    ("unet-lite", {"output_stride": 2}),
    ("unet-lite", {"encoder": "lite2"}),
    ("deeplabv3plus", {}),
]


@pytest.mark.parametrize(("arch", "changes"), MODELS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (50, 71), (33, 47)])
def test_any_size_comes_back_at_full_size(arch, changes, size) -> None:
    network = build(arch, 6, **changes).eval()
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        class_map, logits = Segmenter(network)(frames)
    assert class_map.shape == (2, *size) and class_map.dtype == torch.uint8
    assert logits.shape[:2] == (2, 11)
    assert class_map.max() < 11


def test_unet_has_the_parameters_of_the_paper() -> None:
    network = build("unet", 64, classes=2)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    ups = [m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert len(convolutions) + len(ups) == 23  # "In total the network has 23 convolutional layers."
    assert max(m.out_channels for m in convolutions) == 1024


def test_unet_sees_as_far_as_the_papers() -> None:
    # Figure 1: a tile of 388 pixels is computed from 572, so 92 are seen on each side of a block of
    # 16; the pooling grid rounds that up to 94. NaN spreads wherever a pixel is seen from.
    network = build("unet", 1, classes=1).eval()
    image = torch.ones(1, 3, 32, 384)
    image[..., 128:144] = torch.nan
    reached = network(image)[0, 0].isnan().any(dim=0).nonzero().squeeze()
    assert (reached.min(), reached.max()) == (128 - 94, 143 + 94)


@pytest.mark.parametrize("variant", VARIANTS)
def test_imagenet_weights_fill_the_encoder_exactly(variant) -> None:
    encoder = EfficientNetLite(variant, pretrained=True)
    state = imagenet_state(variant)
    assert state.keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_encoder_gives_features_of_every_stride() -> None:
    encoder = EfficientNetLite("lite0", pretrained=False).eval()
    features = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 64 // 2**i, 96 // 2**i) for i, channels in enumerate(encoder.channels, start=1)
    ]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [8, 9])
def test_same_padding_samples_where_tensorflow_does(kernel, side) -> None:
    # TensorFlow pads max((ceil(n / 2) - 1) * 2 + k - n, 0) pixels, the odd one at the end.
    conv = SameConv2d(1, 1, kernel, stride=2, bias=False)
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1  # picks the window's first pixel
    ramp = torch.arange(1.0, side + 1).expand(side, side)[None, None]
    total = (-(-side // 2) - 1) * 2 + kernel - side
    padded = [0.0] * (total // 2) + list(range(1, side + 1))
    assert conv(ramp)[0, 0, -1].tolist() == padded[: 2 * -(-side // 2) : 2]


def test_large_depthwise_filter_is_in_fp32_under_a_cpus_autocast() -> None:
    conv = DepthwiseConv2d(4, 4, 5, groups=4)
    x = torch.randn(1, 4, 9, 9, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        answer = conv(x)
    assert answer.dtype == torch.bfloat16
    assert torch.equal(answer, conv(x.float()).bfloat16())


def test_training_and_evaluation_clamp_alike() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetLite("lite0", pretrained=False)
    x = torch.linspace(-10, 10, 50)
    trained = encoder._act.train()(x.clone())
    assert torch.equal(trained, encoder._act.eval()(x))


def test_normalise_is_that_of_the_encoders_training() -> None:
    frames = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    expected = (torch.tensor([0.0, 127.0, 255.0]) - 127) / 128
    torch.testing.assert_close(normalise(frames).flatten(), expected)


def test_enlarged_logits_keep_their_centres() -> None:
    ramp = (torch.arange(8.0) * 4 + 1.5).expand(1, 1, 8, 8)
    enlarged = enlarge(ramp, (32, 32))[0, 0, 16]
    torch.testing.assert_close(enlarged[2:-2], torch.arange(2.0, 30.0))


def test_each_architecture_that_is_known_can_be_built_at_its_usual_widths() -> None:
    assert set(NETWORKS) == set(ARCHITECTURES)
    for arch, known in ARCHITECTURES.items():
        for stride in known.widths:
            network = build(arch, 6, output_stride=stride).eval()
            with torch.inference_mode():
                logits = network(torch.zeros(1, 3, 64, 96))
            assert logits.shape == (1, 11, 64 // stride, 96 // stride)


def test_pretrained_unet_is_refused() -> None:
    with pytest.raises(ConfigError, match="no pretrained weights"):
        build_model(ModelSpec(arch="unet", width=8), pretrained=True)


def test_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unet, unet-lite, deeplabv3plus"):
        build("resnet", 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"encoder": "b7"}, "lite0, lite1, lite2"), ({"output_stride": 8}, "has 2 and 4")],
)
def test_unknown_part_of_a_model_is_refused_with_the_known_ones(changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        build("unet-lite", 8, **changes)


@pytest.mark.parametrize(("arch", "changes"), MODELS)
def test_logits_have_the_stated_stride(arch, changes) -> None:
    logits = build(arch, 6, **changes).eval()(torch.zeros(1, 3, 64, 96))
    assert 64 // logits.shape[2] == changes.get("output_stride", 4)


def test_dilated_encoder_has_the_weights_of_the_strided_one_and_finer_features() -> None:
    strided = EfficientNetLite("lite0", pretrained=True).eval()
    dilated = EfficientNetLite("lite0", pretrained=True, output_stride=16).eval()
    x = torch.rand(1, 3, 128, 160) * 2 - 1
    for coarse, fine in zip(strided(x)[:-1], dilated(x)[:-1], strict=True):
        assert torch.equal(coarse, fine)  # up to stride 16 they are the same network
    assert dilated(x)[-1].shape[2:] == (8, 10) and strided(x)[-1].shape[2:] == (4, 5)
