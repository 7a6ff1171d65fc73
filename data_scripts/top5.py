"""How many photographs of ImageNet a model gets right, with its first answer and among its first five.

python data_scripts/top5.py --model squeezenet --data ../shared/data/imagenet_val
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lrp_toolbox import load
from lrp_toolbox.data import ImageNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name (see `lrp models`) or a folder")
    parser.add_argument("--data", type=Path, required=True, help="a folder that lrp_toolbox.data.ImageNet reads")
    arguments = parser.parse_args()

    model, data = load(arguments.model), ImageNet(arguments.data)
    ranks = []
    for item in tqdm(data.items(), desc="photographs"):
        y = model.net.forward(model.prepare(item.read()))
        ranks.append(int((y > y[data.index(item)]).sum()))
    for name, right in (("top 1", np.less(ranks, 1).sum()), ("top 5", np.less(ranks, 5).sum())):
        print(f"{name}: {right} of {len(ranks)}, {right / len(ranks):.2%}")


if __name__ == "__main__":
    main()
