import pytest
import torch

from roadseg.errors import ConfigError
from roadseg.models import Segmenter, build_model, enlarge, normalise
from roadseg.models.efficientnet_lite import EfficientNetLite0, SameConv2d, imagenet_state


@pytest.mark.parametrize("arch", ["unet", "unet-lite"])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (50, 71), (33, 47)])
def test_any_size_comes_back_at_full_size(arch, size) -> None:
    network = build_model(arch, num_classes=11, width=6).eval()
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        class_map, logits = Segmenter(network)(frames)
    assert class_map.shape == (2, *size) and class_map.dtype == torch.uint8
    assert logits.shape[:2] == (2, 11)
    assert class_map.max() < 11


def test_unet_has_the_parameters_of_the_paper() -> None:
    network = build_model("unet", num_classes=2, width=64)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    ups = [m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert len(convolutions) + len(ups) == 23  # "In total the network has 23 convolutional layers."
    assert max(m.out_channels for m in convolutions) == 1024


def test_unet_sees_as_far_as_the_papers() -> None:
    # Figure 1: a tile of 388 pixels is computed from 572, so 92 are seen on each side of a block of
    # 16; the pooling grid rounds that up to 94. NaN spreads wherever a pixel is seen from.
    network = build_model("unet", num_classes=1, width=1).eval()
    image = torch.ones(1, 3, 32, 384)
    image[..., 128:144] = torch.nan
    reached = network(image)[0, 0].isnan().any(dim=0).nonzero().squeeze()
    assert (reached.min(), reached.max()) == (128 - 94, 143 + 94)


def test_imagenet_weights_fill_the_encoder_exactly() -> None:
    encoder = EfficientNetLite0(pretrained=True)
    state = imagenet_state()
    assert state.keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_encoder_gives_features_of_every_stride() -> None:
    encoder = EfficientNetLite0(pretrained=False).eval()
    features = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape[1:]) for f in features] == [
        (channels, 64 // 2**i, 96 // 2**i)
        for i, channels in enumerate(EfficientNetLite0.channels, start=1)
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


def test_training_and_evaluation_clamp_alike() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetLite0(pretrained=False)
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


def test_pretrained_unet_is_refused() -> None:
    with pytest.raises(ConfigError, match="no-pretrained"):
        build_model("unet", num_classes=11, width=8, pretrained=True)


def test_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unet, unet-lite"):
        build_model("resnet", num_classes=11, width=8)
