"""Run a notebook top to bottom and fail at the first error: ``run_notebook.py NOTEBOOK [--save]``.

``--save`` keeps the outputs in the notebook; without it the file is left as it was.
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    notebook = nbformat.read(arguments.notebook, as_version=4)
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(arguments.notebook.parent)}}
    )
    client.execute()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    if arguments.save:
        nbformat.write(notebook, arguments.notebook)
    print(f"{arguments.notebook}: {cells} code cells ran without an error")


if __name__ == "__main__":
    main()
