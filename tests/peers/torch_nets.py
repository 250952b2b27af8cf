"""The networks of lungai-models in PyTorch: `build("lung" | "detector" | "classifier" | "reducer", config_json)`.

Weights go both ways: `load_lungai(net, "best.safetensors")` reads ours, and what `torch.save(net.state_dict(), "x.pt")` or safetensors'
`save_file` writes is read by `cargo xtask import-torch`. A configuration is the JSON of the network in a frozen model's manifest.json
(`networks.lung`), or the same mapping from an experiment's YAML. Needs PyTorch and numpy.

    torch_nets.py KIND CONFIG.json FOLDER

answers lungai-train's `..._is_the_same_in_pytorch`: FOLDER holds shape.json, input.f32 and our weights, ours.safetensors. It gets
ours0.f32, .. (the outputs with our weights), weights.pt and weights.safetensors (weights of PyTorch's) and theirs0.f32, .. (the outputs
with those). Exit code 77: PyTorch is not here.
"""
import json
import struct
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.stderr.write(f"the peer's Python lacks {error.name}")
    sys.exit(77)

CLASSIFIER_OUTPUTS = 7
BOX_VALUES = 4


class ConvNorm(nn.Module):
    """Convolution, group, instance or batch normalisation or a bias instead, ReLU."""

    def __init__(self, inputs, outputs, stride=1, norm="group"):
        super().__init__()
        if norm not in ("group", "instance", "batch", None):
            raise ValueError(f"{norm} normalisation is not in these networks: group, instance or batch")
        self.conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=norm is None)
        eighths = max(g for g in range(1, -(-outputs // 8) + 1) if outputs % g == 0)
        groups = outputs if norm == "instance" else eighths
        if norm == "batch":
            self.norm = nn.BatchNorm3d(outputs, eps=1e-5, momentum=0.1)
        else:
            self.norm = nn.GroupNorm(groups, outputs, eps=1e-5) if norm else None

    def linear(self, x):
        y = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def forward(self, x):
        return F.relu(self.linear(x))


class Residual(nn.Module):
    """relu(f(x) + projection(x)); where it halves the size the projection averages first."""

    def __init__(self, inputs, outputs, stride=1, norm="group"):
        super().__init__()
        self.first = ConvNorm(inputs, outputs, stride, norm)
        self.second = ConvNorm(outputs, outputs, 1, norm)
        self.projection = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else None
        self.stride = stride

    def forward(self, x):
        y = self.second.linear(self.first(x))
        short = F.avg_pool3d(x, 2) if self.stride == 2 else x
        return F.relu(y + (short if self.projection is None else self.projection(short)))


class Up(nn.Module):
    """1x1x1 convolution to eight times the channels, then depth to space."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv3d(inputs, 8 * outputs, 1)

    def forward(self, x):
        y = self.conv(x)
        b, c, d, h, w = y.shape
        y = y.view(b, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return y.reshape(b, c // 8, 2 * d, 2 * h, 2 * w)


class Double(nn.Module):
    def __init__(self, inputs, outputs, norm):
        super().__init__()
        self.first = ConvNorm(inputs, outputs, norm=norm)
        self.second = ConvNorm(outputs, outputs, norm=norm)

    def forward(self, x):
        return self.second(self.first(x))


class LungNet(nn.Module):
    """scans [b, 2, d, h, w] to logits [b, 3, d, h, w]."""

    def __init__(self, width, depth, norm="group", deep_supervision=0):
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(Double(i, o, norm) for i, o in zip([2] + widths, widths[:-1]))
        self.bottleneck = Double(widths[-2], widths[-1], norm)
        down = list(reversed(range(depth)))
        self.up = nn.ModuleList(Up(widths[level + 1], widths[level]) for level in down)
        self.decoder = nn.ModuleList(Double(2 * widths[level], widths[level], norm) for level in down)
        self.head = nn.Conv3d(width, 3, 1)
        # Heads of coarser levels, which only training looks at.
        self.deep = nn.ModuleList(nn.Conv3d(widths[level], 3, 1) for level in range(1, deep_supervision + 1))

    def forward(self, x):
        skips = []
        for level in self.encoder:
            skips.append(level(x))
            x = F.max_pool3d(skips[-1], 2)
        x = self.bottleneck(x)
        for up, level in zip(self.up, self.decoder):
            x = level(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


class DetectorNet(nn.Module):
    """patches [b, 1, d, h, w] to class [b, anchors, d/4, h/4, w/4] and boxes [b, 4 anchors, d/4, h/4, w/4]."""

    def __init__(self, stem, widths, head_width, anchors):
        super().__init__()
        pooled = stem == "pool"
        self.stem = ConvNorm(1, widths[0], norm=None) if pooled else None
        inputs = [widths[0] if pooled else 1] + widths
        self.encoder = nn.ModuleList(Residual(i, o, norm=None) for i, o in zip(inputs, widths))
        out = 1 if pooled else 2
        top_down = list(reversed(range(out, len(widths) - 1)))
        self.up = nn.ModuleList(Up(widths[level + 1], widths[level]) for level in top_down)
        self.lateral = nn.ModuleList(nn.Conv3d(widths[level], widths[level], 1) for level in top_down)
        self.neck = ConvNorm(widths[out], head_width, norm=None)
        setattr(self, "class", nn.Conv3d(head_width, anchors, 1))
        self.boxes = nn.Conv3d(head_width, BOX_VALUES * anchors, 1)

    def forward(self, x):
        if self.stem is not None:
            x = F.max_pool3d(self.stem(x), 2)
        levels = []
        for depth, level in enumerate(self.encoder):
            x = level(F.max_pool3d(x, 2) if depth > 0 else x)
            levels.append(x)
        levels.pop()
        for up, lateral in zip(self.up, self.lateral):
            x = up(x) + lateral(levels.pop())
        x = self.neck(x)
        return getattr(self, "class")(x), self.boxes(x)


class CubeNet(nn.Module):
    """What the classifier and the reducer share: stem, residual stages, and a matrix on each channel's mean in the middle (where
    wanted), its mean, and its largest value."""

    def __init__(self, width, blocks, outputs, middle):
        super().__init__()
        self.stem = ConvNorm(1, width)
        stages, inputs = [], width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stages.append(Residual(inputs, width << stage, stride=2 if stage > 0 and block == 0 else 1))
                inputs = width << stage
        self.stages = nn.ModuleList(stages)
        self.middle = middle
        self.head = nn.Linear((3 if middle else 2) * inputs, outputs)

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        cells = x.flatten(2)
        pooled = [cells.mean(2), cells.amax(2)]
        if self.middle:
            d, h, w = (slice((edge - 1) // 2, edge // 2 + 1) for edge in x.shape[2:])
            pooled.insert(0, x[:, :, d, h, w].flatten(2).mean(2))
        return self.head(torch.cat(pooled, 1))


class ClassifierNet(CubeNet):
    """patches [b, 1, n, n, n] to [b, 7]."""

    def __init__(self, width, blocks, middle=False):
        super().__init__(width, blocks, CLASSIFIER_OUTPUTS, middle)


class ReducerNet(CubeNet):
    """patches [b, 1, n, n, n] to [b, 1]."""

    def __init__(self, width, blocks):
        super().__init__(width, blocks, 1, middle=True)


def build(kind, config_json):
    """The network `kind` of a configuration (JSON text or mapping), with PyTorch's own initial weights."""
    config = json.loads(config_json) if isinstance(config_json, str) else config_json
    if kind == "lung":
        return LungNet(config["width"], config["depth"], config["norm"], config["deep_supervision"])
    if kind == "detector":
        return DetectorNet(config["stem"], config["widths"], config["head_width"], len(config["anchors_mm"]))
    if kind == "classifier":
        return ClassifierNet(config["width"], config["blocks"], config.get("middle", False))
    if kind == "reducer":
        return ReducerNet(config["width"], config["blocks"])
    raise ValueError(f"kind is {kind}, not lung, detector, classifier or reducer")


def load_lungai(net, path):
    """Gives `net` the weights of our safetensors file: a norm's gamma and beta are PyTorch's weight and bias, a matrix is turned."""
    blob = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    state = {}
    for name, entry in json.loads(blob[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", name
        start, end = (8 + length + at for at in entry["data_offsets"])
        value = torch.from_numpy(np.frombuffer(blob[start:end], np.float32).reshape(entry["shape"]).copy())
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        name = name.replace(".running.mean", ".running_mean").replace(".running.variance", ".running_var")
        state[name] = value.T.contiguous() if value.ndim == 2 else value
    missing, unknown = net.load_state_dict(state, strict=False)
    # PyTorch counts batches, and does not need to.
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    assert not missing and not unknown, (missing, unknown)
    return net


def save_safetensors(net, path):
    """The state dict as safetensors, as `safetensors.torch.save_file` would write it."""
    header, blobs, at = {}, [], 0
    for name, value in net.state_dict().items():
        if value.dtype != torch.float32:
            continue
        blobs.append(value.contiguous().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main(kind, config, folder):
    folder = Path(folder)
    x = np.fromfile(folder / "input.f32", np.float32).reshape(json.loads((folder / "shape.json").read_text()))

    def run(net, name):
        with torch.no_grad():
            out = net.eval()(torch.from_numpy(x))
        for k, y in enumerate(out if isinstance(out, tuple) else [out]):
            y.contiguous().numpy().tofile(folder / f"{name}{k}.f32")

    net = build(kind, Path(config).read_text())
    run(load_lungai(net, folder / "ours.safetensors"), "ours")
    torch.manual_seed(1)
    net = build(kind, Path(config).read_text())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.add_(torch.rand_like(buffer))
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, folder / "weights.pt")
    save_safetensors(net, folder / "weights.safetensors")
    run(net, "theirs")


if __name__ == "__main__":
    main(*sys.argv[1:])
