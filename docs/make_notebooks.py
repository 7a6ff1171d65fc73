"""The notebooks of the tutorials, with what their cells print and draw.

    python docs/make_notebooks.py              all of them: minutes
    python docs/make_notebooks.py 01 04        those whose names begin so

Each cell of a tutorial becomes a cell of its notebook and is run in an empty folder. Pictures are made small enough for a page
on a code host: JPEGs of at most 800 pixels across. The documentation runs the notebooks again whenever it is built.

Needs the extra `dev`.
"""

import argparse
import base64
import hashlib
import io
import os
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode, writes
from PIL import Image

from lrp_toolbox.files import write_text

ROOT = Path(__file__).resolve().parents[1]
WIDTH, QUALITY = 800, 88
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def of_cells(tutorial: Path) -> NotebookNode:
    """The notebook without outputs. A cell keeps its id as long as its text stays the same."""
    notebook = jupytext.read(tutorial)
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL))
    seen: set[str] = set()
    for cell in notebook.cells:
        text = cell.source
        while (name := hashlib.sha256(text.encode()).hexdigest()[:8]) in seen:
            text += "\n"
        seen.add(name)
        cell.id, cell.metadata = name, NotebookNode()
    return notebook


def run(notebook: NotebookNode) -> NotebookNode:
    """Run all cells, in an empty folder, and keep what they print and draw."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False)
        client.resources = {"metadata": {"path": folder}}
        client.execute()
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL))
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [shown for output in _merged(cell.outputs) if (shown := _small(output))]
    return notebook


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Text that came in pieces, as one."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            output.name = "stdout"
            if merged and merged[-1].output_type == "stream":
                merged[-1].text += output.text
                continue
        merged.append(output)
    return merged


def _small(output: NotebookNode) -> NotebookNode:
    """An output without paths of this machine, and with small pictures."""
    if output.output_type == "stream":
        output.text = output.text.replace(f"{ROOT.as_posix()}/", "")
        return output
    data = output.data
    output.metadata = NotebookNode()
    if "image/png" in data:
        output.data = NotebookNode({"image/jpeg": _small_picture(data["image/png"]), "text/plain": "<Figure>"})
    elif "text/plain" in data:
        data["text/plain"] = data["text/plain"].replace(f"{ROOT.as_posix()}/", "")
    return output


def _small_picture(encoded: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "jpeg", quality=QUALITY, subsampling=0, optimize=True)
    return base64.b64encode(file.getvalue()).decode() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="how the names of the tutorials begin; default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "notebooks", help="default: the folder notebooks")
    arguments = parser.parse_args()
    tutorials = sorted((ROOT / "tutorials").glob("*.py"))
    chosen = [path for path in tutorials if path.name.startswith(tuple(arguments.names) or "")]
    if not chosen:
        parser.error(f"names: no tutorial begins with {' or '.join(arguments.names)}")
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for tutorial in chosen:
        print(tutorial.name, flush=True)
        write_text(arguments.out / f"{tutorial.stem}.ipynb", writes(run(of_cells(tutorial))) + "\n")


if __name__ == "__main__":
    main()
