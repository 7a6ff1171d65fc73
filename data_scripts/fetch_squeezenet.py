"""Get SqueezeNet v1.0 (Iandola et al. 2016), in the form of Deep Compression (Han et al. 2016), as models/squeezenet.

python data_scripts/fetch_squeezenet.py --from ../shared/data/squeezenet_v1.0 --labels synset_words.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lrp_toolbox import save, zoo
from lrp_toolbox.importers.compressed import read_compressed

FILE = "compressed_SqueezeNet.net"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, required=True, help=f"a folder with {FILE}")
    parser.add_argument("--labels", type=Path, required=True, help="synset_words.txt or imagenet_class_index.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("models/squeezenet"))
    arguments = parser.parse_args()
    weights = read_compressed(arguments.source / FILE, zoo.squeezenet.shapes)
    print(save(zoo.squeezenet(weights, zoo.read_labels(arguments.labels)), arguments.output))


if __name__ == "__main__":
    main()
