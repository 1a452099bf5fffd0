"""`d2v`: what is not a pipeline."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from d2v.errors import D2vError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@app.callback()
def main() -> None:
    """data2vec 1.0 and 2.0 as a pipeline. Training itself is `kedro run --pipeline=pretrain_vision`."""


@app.command()
def doctor(
    project: Annotated[Path, typer.Option(help="The project's folder.", file_okay=False)] = Path(),
) -> None:
    """Look at this machine: accelerator, precision, cores, memory, disk, MLflow store. Ends with 1 if something needs
    mending."""
    from d2v.doctor import examine

    problems = 0
    for finding in examine(project.resolve()):
        problems += finding.state == "problem"
        typer.echo(f"{MARKS[finding.state]}  {finding.name:<10} {finding.detail}")
    raise typer.Exit(1 if problems else 0)


@app.command()
def bench(
    recipe: Annotated[Path, typer.Option(help="A recipe file of conf/.")] = Path("conf/base/parameters_vision.yml"),
    prepared: Annotated[Path, typer.Option(help="The folder that its prepare step left.")] = Path(
        "data/05_model_input/vision/glyphs"
    ),
    updates: Annotated[int, typer.Option(help="Updates to time; the first are a warm-up.", min=20)] = 100,
) -> None:
    """Time training updates of a recipe on prepared data, and keep nothing."""
    from d2v.bench import time_updates

    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        figures = time_updates(recipe, prepared, updates, Path(scratch))
    for name, value in figures.items():
        typer.echo(f"{name:<22} {value:10.2f}")


@app.command("import", epilog="Example: d2v import base_imagenet.pt data/06_models/vision/base_imagenet/encoder")
def import_encoder(
    source: Annotated[Path, typer.Argument(help="A checkpoint of the reference, or a folder of transformers.")],
    folder: Annotated[Path, typer.Argument(help="The model folder to write, new.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Of a text encoder, if the source holds none: a tokenizer's file or folder.")
    ] = None,
) -> None:
    """Make a model folder of an encoder from elsewhere: fairseq, the BEiT repository, transformers."""
    from d2v.interchange.importing import import_into

    imported = import_into(source, folder, tokenizer)
    typer.echo(f"{imported.modality} encoder, {sum(value.numel() for value in imported.encoder.values()):,} parameters")
    typer.echo(f"teacher: {'yes' if imported.teacher else 'none in the source'}")
    for title, names in (("head", imported.head), ("not used", imported.unused)):
        typer.echo(f"{title}: {', '.join(names) or 'nothing'}")
    for note in imported.notes:
        typer.echo(f"note: {note}")


@app.command(epilog="Example: d2v export data/06_models/speech/spoken/encoder exported/speech --format onnx")
def export(
    folder: Annotated[Path, typer.Argument(help="A model folder: config.json and encoder.safetensors.")],
    target: Annotated[Path, typer.Argument(help="The folder to write, new or empty.")],
    form: Annotated[str, typer.Option("--format", help="hf, onnx, torch-export, timm or safetensors.")] = "hf",
    teacher: Annotated[bool, typer.Option(help="Export the teacher's encoder, not the student's.")] = False,
) -> None:
    """Write an encoder for other programs: transformers, ONNX runtimes, torch.export, timm."""
    from d2v.interchange.export import export as write

    notes = write(folder, target, form, teacher)
    typer.echo(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    for note in notes:
        typer.echo(f"note: {note}")


@app.command("bench-scale")
def bench_scale(
    updates: Annotated[int, typer.Option(help="Updates to time on each number of ranks and each stage.", min=10)] = 20,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    write: Annotated[Path | None, typer.Option(help="A document whose tables to renew.", dir_okay=False)] = None,
) -> None:
    """Measure memory, traffic and time of every ZeRO stage on one and two ranks; calculate the papers' models."""
    from d2v.bench.command import bench_scale as measure

    typer.echo(measure(updates, conf, write))


def run() -> None:
    """The command's entry: errors that a user can mend are a paragraph and their exit status."""
    try:
        app()
    except D2vError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
