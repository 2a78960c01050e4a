"""Our small residual net, for work of a CPU's size."""

from torch import Tensor, nn

from vssl_training.encoder.features import Backbone, Features


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm beside a 1×1 shortcut; the first halves the map."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class SmallNet(Backbone):
    """A fast residual net for small images on CPUs: 5×5 stride-2 stem, `depth` blocks at widths w, 2w, 4w.

    The last map is pooled to 2×2 cells, not to one: at this size where things are in the picture is worth keeping.
    """

    def __init__(self, width: int, depth: int = 1, pool: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.channels = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(inputs, outputs, stride), *(ResidualBlock(outputs, outputs, 1) for _ in range(depth - 1))
            )
            for inputs, outputs, stride in zip((width, *self.channels), self.channels, (1, 2, 2), strict=False)
        )
        self.pool = pool
        self.features = pool**2 * self.channels[-1]

    def forward(self, images: Tensor) -> Features:
        """Features of float images [N, 3, S, S] in 0 … 1."""
        maps = []
        x = self.stem(self.normalised(images))
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(images, nn.functional.adaptive_avg_pool2d(x, self.pool).flatten(1), tuple(maps))
