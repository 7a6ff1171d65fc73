"""Train the small residual network of tutorial 12 with PyTorch, and export it as ONNX: tutorials/files/digits-resnet.onnx.

    python data_scripts/train_digits_resnet.py ../shared/data/mnist/mnist.npz

Needs PyTorch, which is not a dependency of this project. The exported file and PyTorch's logits of one digit come with the
tutorial, so that it runs without. Takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

FILES = Path(__file__).resolve().parent.parent / "tutorials" / "files"


class Gate(nn.Module):
    """Squeeze and excite: each channel times a number between 0 and 1 that all channels decide together."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        gate = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(gate))))


class Block(nn.Module):
    """x + f(x), with a depthwise convolution, a gate and a 1 × 1 convolution in f."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1, self.gate = nn.BatchNorm2d(channels), Gate(channels)
        self.pointwise, self.norm2 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.gate(torch.relu(self.norm1(self.depthwise(x))))
        return torch.relu(x + self.norm2(self.pointwise(y)))


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.block1, self.block2 = Block(16), Block(16)
        self.wide, self.norm3 = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.block3, self.classifier = Block(32), nn.Linear(32, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.norm3(self.wide(self.block2(self.block1(x))))), 2)
        return self.classifier(self.block3(x).mean((2, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path, help="mnist.npz")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with np.load(arguments.mnist) as stored:
        images, labels = (torch.from_numpy(stored[f"train_{name}"]) for name in ("images", "labels"))
        tests, answers = (torch.from_numpy(stored[f"test_{name}"]) for name in ("images", "labels"))
    x, y = images[:, None].float() / 255, labels.long()
    net, batch = Digits(), 128
    steps = arguments.epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(arguments.epochs):
        for rows in torch.randperm(len(x))[: len(x) // batch * batch].view(-1, batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            right = sum(
                (net(t[:, None].float() / 255).argmax(1) == a).sum()
                for t, a in zip(tests.split(500), answers.split(500), strict=True)
            )
        print(f"epoch {epoch + 1}: {int(right)} of {len(tests)} test digits")
        net.train()

    net.eval()
    FILES.mkdir(exist_ok=True)
    digit = tests[answers == 5][3]
    one = digit[None, None].float() / 255
    torch.onnx.export(net, one, FILES / "digits-resnet.onnx", input_names=["image"], output_names=["logits"], dynamo=False)
    with torch.no_grad():
        np.savez_compressed(FILES / "digit.npz", digit=digit.numpy(), logits=net(one).numpy()[0])


if __name__ == "__main__":
    main()
