"""`python -m benchmarks`: how fast training, its input and its ranks are on this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from d2v.errors import ConfigError, D2vError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Measure speed, memory and traffic. `make bench` and its siblings call these."""


@app.command("step", epilog="Example: python -m benchmarks step --sizes v2_image_32,v2_text_128 --json before.json")
def step(
    sizes: Annotated[
        str, typer.Option(help="Names with commas between, small for all but the papers', or all.")
    ] = "small",
    precisions: Annotated[str, typer.Option(help="fp32, bf16, or both with a comma between.")] = "fp32,bf16",
    repeats: Annotated[int, typer.Option(help="Fresh processes of each.", min=1)] = 3,
    seconds: Annotated[float, typer.Option(help="Of updates in each process; at least three are done.")] = 8.0,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    json: Annotated[Path | None, typer.Option(help="A file for the metrics.", dir_okay=False)] = None,
) -> None:
    """Time training steps on noise: samples/s, memory, share of the machine's matmul peak, and where the time goes."""
    from benchmarks import suite
    from benchmarks.sizes import names_of

    document = suite.time_suite(names_of(sizes), precisions.split(","), repeats, seconds, conf)
    if json is not None:
        document.write(json)
    tables = (suite.speed_table, suite.reference_table, suite.breakdown_table)
    typer.echo("\n\n".join(table(document).to_markdown() for table in tables))


@app.command("growth", epilog="Example: python -m benchmarks growth --axes 'text, tokens' --picture growth.png")
def measure_growth(
    axes: Annotated[list[str] | None, typer.Option(help="What grows; give it again for others. All of them.")] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seconds: Annotated[float, typer.Option(help="Of updates in each process; at least three are done.")] = 4.0,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    json: Annotated[Path | None, typer.Option(help="A file for the metrics.", dir_okay=False)] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of the curves.", dir_okay=False)] = None,
) -> None:
    """Time an update as images, recordings, texts, masks, batches or ranks grow."""
    from benchmarks import growth

    unknown = [name for name in axes or [] if name not in growth.AXES]
    if unknown:
        raise ConfigError(f"nothing grows by the name {unknown[0]!r}: say --axes with one of {list(growth.AXES)}")
    document = growth.measure_growth(axes or list(growth.AXES), precision, seconds, conf)
    if json is not None:
        document.write(json)
    if picture is not None:
        growth.growth_picture(document, picture)
    typer.echo(growth.growth_table(document).to_markdown())


@app.command("cluster", epilog="Example: python -m benchmarks cluster --items 1000 --workers 2")
def measure_cluster(
    items: Annotated[list[int] | None, typer.Option(help="Images; give it again for others. 1000 and 100000.")] = None,
    workers: Annotated[list[int] | None, typer.Option(help="Of a cluster; give it again for others. 1 and 2.")] = None,
    repeats: Annotated[int, typer.Option(help="Fresh processes of each.", min=1)] = 3,
    json: Annotated[Path | None, typer.Option(help="A file for the metrics.", dir_okay=False)] = None,
) -> None:
    """Time an ingest of small images on a cluster of this machine beside one in a process: seconds and memory."""
    from benchmarks import cluster

    document = cluster.measure_cluster(items or [1000, 100_000], workers or [1, 2], repeats)
    if json is not None:
        document.write(json)
    typer.echo(cluster.cluster_table(document).to_markdown())


@app.command("compare", epilog="Example: python -m benchmarks compare before.json after.json")
def compare_documents(
    old: Annotated[Path, typer.Argument(help="What --json of a benchmark wrote.", dir_okay=False)],
    new: Annotated[Path, typer.Argument(help="Another one of its kind.", dir_okay=False)],
) -> None:
    """Ratios between two benchmarks of a kind; in brackets those that the spread explains, or that have none."""
    from benchmarks.document import Document, compare, differences

    before, after = Document.read(old), Document.read(new)
    typer.echo(compare(before, after).to_markdown())
    for line in differences(before, after):
        typer.echo(f"note: {line}")


@app.command("turns", epilog="Example: python -m benchmarks turns HEAD~1 --sizes v2_image_32")
def step_by_turns(
    ref: Annotated[str, typer.Argument(help="Another commit.")],
    sizes: Annotated[
        str, typer.Option(help="Names with commas between, small for all but the papers', or all.")
    ] = "small",
    precisions: Annotated[str, typer.Option(help="fp32, bf16, or both with a comma between.")] = "fp32,bf16",
    pairs: Annotated[int, typer.Option(help="Turns.", min=1)] = 3,
) -> None:
    """Time training steps of another commit and of this one by turns; ratios above 1 say that this one is faster."""
    from benchmarks import turns
    from benchmarks.sizes import names_of

    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        found = turns.step_by_turns(ref, names_of(sizes), precisions.split(","), pairs, Path(scratch))
    units = {"sample_s": "seconds a sample, ratio", "memory_mb": "peak MB, ratio"}
    typer.echo(turns.ratio_table(found, units).to_markdown())


@app.command("recipe", epilog="Example: python -m benchmarks recipe --updates 50")
def recipe_updates(
    recipe: Annotated[Path, typer.Option(help="A recipe file of conf/.")] = Path("conf/base/parameters_vision.yml"),
    prepared: Annotated[Path, typer.Option(help="The folder that its prepare step left.")] = Path(
        "data/05_model_input/vision/glyphs"
    ),
    updates: Annotated[int, typer.Option(help="Updates to time; the first are a warm-up.", min=20)] = 100,
) -> None:
    """Time training updates of a recipe on prepared data, loading included, and keep nothing."""
    from benchmarks import time_updates

    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        figures = time_updates(recipe, prepared, updates, Path(scratch))
    for name, value in figures.items():
        typer.echo(f"{name:<22} {value:10.2f}")


@app.command("scale", epilog="Example: python -m benchmarks scale --updates 20 --write docs/scale.md")
def scale(
    updates: Annotated[int, typer.Option(help="Updates to time on each number of ranks and each stage.", min=10)] = 20,
    conf: Annotated[Path, typer.Option(help="The folder of recipes.", file_okay=False)] = Path("conf"),
    write: Annotated[Path | None, typer.Option(help="A document whose tables to renew.", dir_okay=False)] = None,
) -> None:
    """Measure memory, traffic and time of every ZeRO stage on one and two ranks; calculate the papers' models."""
    from benchmarks.scale_tables import bench_scale as measure

    typer.echo(measure(updates, conf, write))


@app.command("input", epilog="Example: python -m benchmarks input --cases vision_224 --source vision_224=photos")
def measure_input_path(
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
    json: Annotated[Path | None, typer.Option(help="A file for the metrics.", dir_okay=False)] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of costs as the data grows.", dir_okay=False)] = None,
) -> None:
    """Time the way from files to a store and from there to batches, beside torchvision, soundfile and tokenizers, and
    as the data grows."""
    from benchmarks.input import CASES, Options, by_case, measure_input, to_markdown
    from benchmarks.input.figure import growth_picture

    names = tuple(CASES) if cases == "all" else tuple(cases.split(","))
    folders, taken = by_case(source or [], Path), by_case(consumed or [], float)
    document = measure_input(Options(names, repeats, items, seconds, folders))
    if json is not None:
        document.write(json)
    if picture is not None:
        growth_picture(document, picture)
    typer.echo(to_markdown(document, taken))


@app.command("encode", epilog="Example: python -m benchmarks encode --ref HEAD~1")
def measure_encode(
    modalities: Annotated[str, typer.Option(help="Names with commas between.")] = "vision,speech,text",
    size: Annotated[str, typer.Option(help="Of the models: small or base.")] = "small",
    dtypes: Annotated[str, typer.Option(help="Names with commas between.")] = "float32,bfloat16",
    pairs: Annotated[int, typer.Option(help="Turns.", min=1)] = 3,
    threads: Annotated[int, typer.Option(help="Of each process.", min=1)] = 1,
    ref: Annotated[str | None, typer.Option(help="Another commit to set beside.")] = None,
    onnxruntime: Annotated[str, typer.Option(help="Also onnxruntime, in these: float32,int8.")] = "",
) -> None:
    """Encode folders with transformers, with another commit and with this one, by turns on the same weights."""
    from benchmarks.encode.suite import measure_encode as measure
    from benchmarks.turns import ratio_table

    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        kinds = [[kind for kind in names.split(",") if kind] for names in (dtypes, onnxruntime)]
        found = measure(modalities.split(","), size, kinds[0], pairs, threads, Path(scratch), ref, kinds[1])
    typer.echo(ratio_table(found, {"cpu_s": "CPU seconds, ratio", "wall_s": "seconds, ratio"}).to_markdown())


@app.command("search", epilog="Example: python -m benchmarks search --model MODEL --items photos --sizes 10000,1000000")
def measure_vectors(
    model: Annotated[str, typer.Option(help="An encoder, for vectors of --items.")] = "",
    items: Annotated[Path | None, typer.Option(help="A folder or an archive of its items.")] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="An .npy with a row a vector: read, or written with --model.", dir_okay=False)
    ] = None,
    sizes: Annotated[str, typer.Option(help="Numbers of vectors with commas between.")] = "10000,1000000",
    width: Annotated[int | None, typer.Option(help="Of the vectors: only the first axes of the space.", min=2)] = None,
    ways: Annotated[str, typer.Option(help="Names with semicolons between, or all.")] = "all",
    scratch: Annotated[Path | None, typer.Option(help="For the indexes, some GB.", file_okay=False)] = None,
) -> None:
    """Recall at 10, times, memory and size of libraries that hold vectors, beside d2v index. Without --items and
    --vectors of clustered noise, which is easier than items are."""
    import numpy as np

    from benchmarks import search

    names = list(search.WAYS) if ways == "all" else ways.split(";")
    if unknown := [name for name in names if name not in search.WAYS]:
        raise ConfigError(f"there is no way {unknown[0]!r}: say --ways with some of {'; '.join(search.WAYS)}")
    if model and items is not None:
        rows = search.vectors_of(model, items)
        if vectors is not None:
            np.save(vectors, rows)
    else:
        rows = search.clustered() if vectors is None else search.unit(np.load(vectors))
    numbers = [int(size) for size in sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="d2v-bench-", dir=scratch) as folder:
        found = search.measure_search(search.unit(rows[:, :width]), numbers, names, Path(folder))
    typer.echo(search.search_table(found).to_markdown())


@app.command("readme", epilog="Example: python -m benchmarks readme --seeds 3")
def renew_readme(
    modalities: Annotated[str, typer.Option(help="Names with commas between.")] = "vision,speech,text",
    seeds: Annotated[int, typer.Option(help="Trainings of each, with seeds from 0.", min=1)] = 3,
    folder: Annotated[Path, typer.Option(help="For data and reports; what is there is not made again.")] = Path(
        ".bench/readme"
    ),
    write: Annotated[Path, typer.Option(help="The file with the marks.", dir_okay=False)] = Path("README.md"),
    pictures: Annotated[Path, typer.Option(help="Where its pictures lie.", file_okay=False)] = Path("docs/pictures"),
) -> None:
    """Pretrain on the embedded data, and write the figures and pictures of the README from these runs."""
    from benchmarks import readme

    runs = readme.run_embedded(folder.resolve(), modalities.split(","), seeds)
    readme.renew_readme(write, pictures, runs)
    typer.echo(readme.figures(runs))


def run() -> None:
    """Errors that a user can mend are a paragraph and their exit status."""
    try:
        app()
    except D2vError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
