"""Image features: a Hugging Face backbone and an FPN neck (Lin et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoBackbone, ResNetConfig

from wpt_training.models.config import BackboneConfig, ConfigError


class ImageEncoder(nn.Module):
    """(B·N, 3, h, w) to one feature map a level, finest first, each with `channels` channels."""

    def __init__(self, config: BackboneConfig, channels: int) -> None:
        super().__init__()
        self.backbone = _backbone(config)
        widths: list[int] = self.backbone.channels  # type: ignore[assignment]
        # Pretrained statistics stay: batches of large images are too small for their own.
        self.keeps_statistics = bool(config.name)
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        inner = min(config.levels, len(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(inner))
        self.coarser = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(config.levels - inner)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [
            lateral(feature)
            for lateral, feature in zip(self.lateral, self.backbone(images).feature_maps, strict=True)
        ]
        for fine in range(len(maps) - 2, -1, -1):
            size = maps[fine].shape[-2:]
            maps[fine] = maps[fine] + F.interpolate(maps[fine + 1], size=size, mode="nearest")
        levels = [smooth(maps[level]) for level, smooth in enumerate(self.smooth)]
        for coarser in self.coarser:
            levels.append(coarser(levels[-1]))
        return levels

    def train(self, mode: bool = True) -> ImageEncoder:
        super().train(mode)
        if self.keeps_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def fuse(self) -> None:
        """Folds batch normalisation into the convolutions before it; for inference only."""
        for module in self.backbone.modules():
            convolution = getattr(module, "convolution", None)
            normalization = getattr(module, "normalization", None)
            if isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d):
                module.convolution = fuse_conv_bn_eval(convolution, normalization)
                module.normalization = nn.Identity()


def _backbone(config: BackboneConfig) -> nn.Module:
    # The stride-4 map is left out: at these resolutions it costs more than all others together.
    if config.name:
        try:
            return AutoBackbone.from_pretrained(config.name, out_indices=(2, 3, 4))
        except OSError as error:
            raise ConfigError(
                f"backbone.name: '{config.name}' could not be fetched ({str(error).splitlines()[0]}); "
                "put its files into the Hugging Face cache, or leave the name empty"
            ) from error
    stages = len(config.hidden_sizes)
    resnet = ResNetConfig(  # type: ignore[call-arg]
        embedding_size=config.embedding_size,
        hidden_sizes=config.hidden_sizes,
        depths=config.depths,
        layer_type=config.layer_type,
        out_features=[f"stage{stage}" for stage in range(2, stages + 1)],
    )
    return AutoBackbone.from_config(resnet)
