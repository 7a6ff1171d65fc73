"""lrp_toolbox itself, in float64: `python lrp_toolbox_adapter.py OUT.json`. `lrp conformance` does the same in fractions."""

from common import run

from lrp_toolbox import __version__
from lrp_toolbox.conformance import Numbers, answer


def relevance(case):
    return answer(case, Numbers(dtype="float64"))["relevance"]["input"].tolist()


if __name__ == "__main__":
    run("lrp_toolbox", __version__, relevance)
