"""`d2v`: what is not a pipeline."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from d2v.errors import ConfigError, D2vError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@app.callback()
def main() -> None:
    """data2vec 1.0 and 2.0 as a pipeline. Training itself is `kedro run --pipeline=pretrain_vision`."""


@app.command(epilog="Example: d2v doctor --project ~/d2v")
def doctor(
    project: Annotated[Path, typer.Option(help="The project's folder.", file_okay=False)] = Path(),
) -> None:
    """Look at this machine: torch, GPU, bf16, cores, ranks, memory, compiler, disk, MLflow store. Says what to mend,
    and ends with 1 if something needs it."""
    from d2v.doctor import examine

    problems = 0
    for finding in examine(project.resolve()):
        problems += finding.state == "problem"
        typer.echo(f"{MARKS[finding.state]}  {finding.name:<10} {finding.detail}")
    raise typer.Exit(1 if problems else 0)


@app.command(epilog="Example: d2v bench --sizes v2_image_32,v2_text_128 --json before.json")
def bench(
    sizes: Annotated[
        str, typer.Option(help="Names with commas between, small for all but the papers', or all.")
    ] = "small",
    precisions: Annotated[str, typer.Option(help="fp32, bf16, or both with a comma between.")] = "fp32,bf16",
    repeats: Annotated[int, typer.Option(help="Fresh processes of each.", min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="Of updates in each process; at least three are done.")] = 8.0,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    json: Annotated[Path | None, typer.Option(help="A file for the figures.", dir_okay=False)] = None,
) -> None:
    """Time training steps on noise: samples/s, memory, share of the machine's matmul peak, and where the time goes."""
    from d2v.bench import suite
    from d2v.bench.sizes import names_of

    document = suite.time_suite(names_of(sizes), precisions.split(","), repeats, seconds, conf)
    if json is not None:
        document.write(json)
    tables = (suite.speed_table, suite.reference_table, suite.breakdown_table)
    typer.echo("\n\n".join(table(document).to_markdown() for table in tables))


@app.command("bench-growth", epilog="Example: d2v bench-growth --axes 'text, tokens' --picture growth.png")
def bench_growth(
    axes: Annotated[list[str] | None, typer.Option(help="What grows; give it again for others. All of them.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seconds: Annotated[float, typer.Option(help="Of updates in each process; at least three are done.")] = 4.0,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    json: Annotated[Path | None, typer.Option(help="A file for the figures.", dir_okay=False)] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of the curves.", dir_okay=False)] = None,
) -> None:
    """Time an update as images, recordings, texts, masks, batches or ranks grow."""
    from d2v.bench import growth

    unknown = [name for name in axes or [] if name not in growth.AXES]
    if unknown:
        raise ConfigError(f"nothing grows by the name {unknown[0]!r}: say --axes with one of {list(growth.AXES)}")
    document = growth.measure_growth(axes or list(growth.AXES), precision, seconds, conf)
    if json is not None:
        document.write(json)
    if picture is not None:
        growth.growth_picture(document, picture)
    typer.echo(growth.growth_table(document).to_markdown())


@app.command("bench-compare", epilog="Example: d2v bench-compare before.json after.json")
def bench_compare(
    old: Annotated[Path, typer.Argument(help="What --json of a benchmark wrote.", dir_okay=False)],
    new: Annotated[Path, typer.Argument(help="Another one of its kind.", dir_okay=False)],
) -> None:
    """Ratios between two benchmarks of a kind; in brackets those that the spread explains, or that have none."""
    from d2v.bench.document import Document, compare, differences

    before, after = Document.read(old), Document.read(new)
    typer.echo(compare(before, after).to_markdown())
    for line in differences(before, after):
        typer.echo(f"note: {line}")


@app.command("bench-recipe", epilog="Example: d2v bench-recipe --updates 50")
def bench_recipe(
    recipe: Annotated[Path, typer.Option(help="A recipe file of conf/.")] = Path("conf/base/parameters_vision.yml"),
    prepared: Annotated[Path, typer.Option(help="The folder that its prepare step left.")] = Path(
        "data/05_model_input/vision/glyphs"
    ),
    updates: Annotated[int, typer.Option(help="Updates to time; the first are a warm-up.", min=20)] = 100,
) -> None:
    """Time training updates of a recipe on prepared data, loading included, and keep nothing."""
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
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Of a head, if the source holds none: its letters or class names (dict.txt, JSON, a line each)."
        ),
    ] = None,
) -> None:
    """Make a model folder of a model from elsewhere: fairseq, the BEiT repository, transformers. A head becomes a
    fine-tuned model's where that has such a head."""
    from d2v.loading.importing import import_model

    model = import_model(source, folder, tokenizer, labels)
    imported = model.source
    typer.echo(f"{imported.modality} encoder, {sum(value.numel() for value in imported.encoder.values()):,} parameters")
    typer.echo(f"teacher: {'yes' if imported.teacher else 'none in the source'}")
    typer.echo(f"task: {model.head.task['name'] if model.head else 'none'}")
    kept = [name for name in imported.head if model.head is None or name not in model.head.used]
    for title, names in (("kept as it is", kept), ("not used", imported.unused)):
        typer.echo(f"{title}: {', '.join(names) or 'nothing'}")
    for note in imported.notes:
        typer.echo(f"note: {note}")


@app.command(epilog="Example: d2v export data/06_models/speech/spoken/encoder exported/speech --format onnx")
def export(
    folder: Annotated[Path, typer.Argument(help="A model folder, of an encoder or a fine-tuned model.")],
    target: Annotated[Path, typer.Argument(help="The folder to write, new or empty.")],
    form: Annotated[str, typer.Option("--format", help="hf, onnx, torch-export, timm or safetensors.")] = "hf",
    teacher: Annotated[bool, typer.Option(help="Export the teacher's encoder, not the student's.")] = False,
) -> None:
    """Write a model for other programs: transformers, ONNX runtimes, torch.export, timm. Of a fine-tuned model with its
    head."""
    from d2v.loading.exporting import export_model as write

    notes = write(folder, target, form, teacher)
    typer.echo(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    for note in notes:
        typer.echo(f"note: {note}")


@app.command("bench-scale", epilog="Example: d2v bench-scale --updates 20 --write docs/scale.md")
def bench_scale(
    updates: Annotated[int, typer.Option(help="Updates to time on each number of ranks and each stage.", min=10)] = 20,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    write: Annotated[Path | None, typer.Option(help="A document whose tables to renew.", dir_okay=False)] = None,
) -> None:
    """Measure memory, traffic and time of every ZeRO stage on one and two ranks; calculate the papers' models."""
    from d2v.bench.scale_tables import bench_scale as measure

    typer.echo(measure(updates, conf, write))


@app.command(epilog="Example: d2v encode photos/ --model data/06_models/vision/glyphs/encoder --out photos.parquet")
def encode(
    files: Annotated[list[Path], typer.Argument(help="Images, recordings, texts with an item a line, or folders.")],
    model: Annotated[str, typer.Option(help="A model folder, a checkpoint, or models:/d2v-<modality>@champion.")],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.", dir_okay=False)],
    layers: Annotated[list[int] | None, typer.Option(help="A block, from 0; give it again for others.")] = None,
    pool: Annotated[str, typer.Option(help="mean of the tokens, or the first one.")] = "mean",
    predict: Annotated[bool, typer.Option(help="Also what a fine-tuned model says.")] = False,
    batch_size: Annotated[int, typer.Option(help="Items at a time.", min=1)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Write the features of files to a Parquet file. What cannot be read is a row with its reason."""
    from d2v.loading.model import load
    from d2v.loading.parquet import check_pool, encode_files

    loaded = load(model, device=device, dtype=dtype)
    loaded.batch_size = batch_size
    written = encode_files(loaded, files, out, layers or None, check_pool(pool), predict)
    typer.echo(f"{out}: {written.rows:,} rows of {loaded.width} numbers, {written.problems:,} with a problem")
    if written.first:
        typer.echo(f"the first of them is {written.first}")


@app.command(epilog="Example: d2v models")
def models() -> None:
    """List the registered models with their aliases, figures, and what became of them."""
    from rich.console import Console

    from d2v.lifecycle.rollback import versions_table

    width = None if sys.stdout.isatty() else 160  # in a pipe or a log nothing is cut off
    Console(highlight=False, width=width).print(versions_table().to_rich())


@app.command(epilog="Example: d2v rollback --model d2v-vision")
def rollback(
    model: Annotated[str, typer.Option(help="A registered model, such as d2v-vision or d2v-vision-tuned.")],
    to: Annotated[int | None, typer.Option(help="A version; otherwise the one before.", min=1)] = None,
) -> None:
    """Make an earlier version the champion again."""
    from d2v.lifecycle.rollback import roll_back

    typer.echo(roll_back(model, to))


@app.command("bench-input", epilog="Example: d2v bench-input --cases vision_224 --source vision_224=photos")
def bench_input(
    cases: Annotated[str, typer.Option(help="Names with commas between, or all.")] = "all",
    repeats: Annotated[int, typer.Option(help="Fresh processes of each.", min=1)] = 3,
    items: Annotated[int, typer.Option(help="Files to make for a case, times a share of its own.", min=40)] = 300,
    seconds: Annotated[float, typer.Option(help="How long batches are loaded each time.")] = 1.0,
    source: Annotated[
        list[str] | None, typer.Option(help="CASE=FOLDER of files to take instead; of speech mono at 16 kHz.")
    ] = None,
    consumed: Annotated[
        list[str] | None, typer.Option(help="CASE=NUMBER of items that a training step takes in a second.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="A file for the figures.", dir_okay=False)] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of costs as the data grows.", dir_okay=False)] = None,
) -> None:
    """Time the way from files to a store and from there to batches, beside torchvision, soundfile and tokenizers, and
    as the data grows."""
    from d2v.bench.input import CASES, Options, by_case, measure_input, to_markdown
    from d2v.bench.input.picture import growth_picture

    names = tuple(CASES) if cases == "all" else tuple(cases.split(","))
    folders, taken = by_case(source or [], Path), by_case(consumed or [], float)
    document = measure_input(Options(names, repeats, items, seconds, folders))
    if json is not None:
        document.write(json)
    if picture is not None:
        growth_picture(document, picture)
    typer.echo(to_markdown(document, taken))


def run() -> None:
    """The command's entry: errors that a user can mend are a paragraph and their exit status."""
    try:
        app()
    except D2vError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
