"""The command `d2v`: training on own data, import, export, encoding of files, search in them, serving, pages of
corpora, rollback, checks of this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2v.errors import ConfigError, known_error
from d2v.imports import collector_at_rest

if TYPE_CHECKING:
    from d2v.interchange.encode_files import Written
    from d2v.search.index import Encoders

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@app.callback()
def main() -> None:
    """data2vec 1.0 and 2.0 as a pipeline: `d2v train FOLDER` on your own data, `kedro run --env=...` for recipes."""


def _place(given: str) -> Path:
    """A path, or what a URL names."""
    if "://" not in given:
        return Path(given)
    from d2v.data.url_paths import place_of

    return place_of(given)


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
    from d2v.interchange.importing import import_model

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
    from d2v.interchange.exporting import export_model as write

    notes = write(folder, target, form, teacher)
    typer.echo(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    for note in notes:
        typer.echo(f"note: {note}")


@app.command(epilog="Example: d2v encode photos/ --model data/06_models/vision/glyphs/encoder --out photos.parquet")
def encode(
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=_place,
            help="Images, recordings, texts with an item a line; JSON, CSV, Parquet, archives, arrays; or folders. "
            "Also URLs of folders and of files that hold several items.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A model folder, a checkpoint, a URL of these, or models:/d2v-<modality>@champion.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            parser=_place, help="The Parquet file to write; with engine dask, the folder of such files; or a URL."
        ),
    ],
    layers: Annotated[list[int] | None, typer.Option(help="A block, from 0; give it again for others.")] = None,
    pool: Annotated[str, typer.Option(help="mean of the tokens, or the first one.")] = "mean",
    predict: Annotated[bool, typer.Option(help="Also what a fine-tuned model says.")] = False,
    long: Annotated[
        str,
        typer.Option(
            help="Texts of more tokens than the encoder takes: cut (how many is said), windows (all of it, features "
            "averaged by number of tokens), or error (a row with the reason)."
        ),
    ] = "cut",
    ingest: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A key of the ingest block, such as columns.text=review, document=file or header=false; again for "
            "others.",
        ),
    ] = None,
    space: Annotated[
        str, typer.Option(help="plain features, or vectors of the space that was learned for comparing items: search.")
    ] = "plain",
    batch_size: Annotated[int, typer.Option(help="Items at a time.", min=1)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16; with runtime onnxruntime also int8.")
    ] = "float32",
    runtime: Annotated[str, typer.Option(help="torch, or on a CPU onnxruntime.")] = "torch",
    engine: Annotated[str, typer.Option(help="local, or dask: on the machines of a cluster.")] = "local",
    scheduler: Annotated[
        str | None,
        typer.Option(help="Of engine dask: its address; else DASK_SCHEDULER_ADDRESS, else a cluster of this machine."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of a cluster of this machine.", min=1)] = None,
    piece_items: Annotated[int, typer.Option(help="Items of a file that a cluster writes.", min=1)] = 4096,
    for_index: Annotated[
        bool,
        typer.Option(
            help="Of engine dask: write what d2v index takes without encoding again, which are vectors of the space "
            "that it compares items in, of whole texts, with classes, digests and previews."
        ),
    ] = False,
) -> None:
    """Write the features of files to a Parquet file. They are found and read as ingest does; what cannot be read is a
    row with its reason."""
    with collector_at_rest():
        from d2v.config.changes import values_of
        from d2v.interchange.encode_files import check_pool, encode_files
        from d2v.interchange.load import check_space, load
        from d2v.modalities.long_items import check_long

    way, settings, chosen = check_long(long), values_of(ingest or []), check_space(space)
    if engine not in ("local", "dask"):
        raise ConfigError(f"there is no engine {engine}: give local or dask")
    if engine == "dask":
        from d2v.config import ClusterConfig
        from d2v.interchange.encode_cluster import How, encode_on_cluster

        given = layers or None, check_pool(pool), predict, way, chosen
        if for_index and given != (None, "mean", False, "cut", "plain"):
            raise ConfigError(
                "--for-index chooses the vectors itself: leave --layers, --pool, --long, --space and --predict out"
            )
        how = How(model, device, dtype, runtime, batch_size, *given, for_index)
        config = ClusterConfig(scheduler=scheduler, workers=workers, piece_items=piece_items)
        _say_encoded(f"{out}: ", "rows", encode_on_cluster(how, files, out, settings, config))
        return
    if for_index:
        raise ConfigError("--for-index is of --engine dask: d2v index encodes by itself on one machine")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: give --out a file, or take engine dask")
    loaded = load(model, device=device, dtype=dtype, runtime=runtime)
    loaded.batch_size = batch_size
    written = encode_files(loaded, files, out, layers or None, check_pool(pool), predict, way, settings, chosen)
    _say_encoded(f"{out}: ", f"rows of {loaded.width_in(chosen)} numbers", written)


def _say_encoded(where: str, rows: str, written: Written) -> None:
    typer.echo(f"{where}{written.rows:,} {rows}, {written.problems:,} with a problem")
    if written.first:
        typer.echo(f"the first of them is {written.first}")
        if ".ingest." in written.first:
            typer.echo("keys of the ingest block are given here as --ingest KEY=VALUE")


@app.command(epilog="Example: d2v space data/06_models/vision/glyphs/encoder photos/")
def space(
    model: Annotated[Path, typer.Argument(help="A model folder; the space is written into it.", file_okay=False)],
    files: Annotated[list[Path], typer.Argument(help="Items like those that will be compared, some thousands.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Learn a space to compare items in, without labels, for an encoder that has none: one from elsewhere, or from an
    earlier version. Pretraining does it by itself."""
    from d2v.interchange.learn_space import learn_space

    learned = learn_space(model, files, str(device))
    typer.echo(f'{model}: a space of {learned.width} axes; take it by --space search, or encode(..., space="search")')


@app.command(epilog="Example: d2v index photos/ --model data/06_models/vision/glyphs/encoder --out photos.index")
def index(
    out: Annotated[Path, typer.Option(help="The folder of the index, new or there.", file_okay=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=_place,
            help="Folders, archives, tables or files, as for d2v encode; or what that has written with --for-index, "
            "also behind a URL.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="A model folder, a checkpoint, or models:/d2v-<modality>@champion.")] = "",
    aligned: Annotated[
        str,
        typer.Option(help="Instead of a model: the folder of an aligned space, or models:/d2v-aligned@champion."),
    ] = "",
    drop: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file or folder whose items to remove, there or gone; again for others. FILES may be left out."
        ),
    ] = None,
    ingest: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A key of the ingest block, as for d2v encode; again for others."),
    ] = None,
    previews: Annotated[bool, typer.Option(help="Keep thumbnails, clips and beginnings of texts for pages.")] = True,
    duplicates: Annotated[
        float | None, typer.Option(help="Also list pairs of items whose cosine is at least this.", min=0.0, max=1.0)
    ] = None,
    outliers: Annotated[int, typer.Option(help="Also list so many of the least typical items.", min=0)] = 0,
    html: Annotated[Path | None, typer.Option(help="A page of these lists to write.", dir_okay=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Make an index of items to search in, or bring it up to date: new and changed items are encoded, those that are
    gone are removed. Items of a path that is gone itself stay, as its disk may only be away, until --drop removes them.
    A build that was killed goes on with the same command."""
    from d2v.config.changes import values_of
    from d2v.search.console import show_lists
    from d2v.search.index import Index

    settings = values_of(ingest or [])
    found, built = Index.build(_encoders(model, aligned, device), files or [], out, settings, previews, drop or [])
    did = f"{built.added:,} added, {built.changed:,} changed, {built.removed:,} removed"
    typer.echo(f"{out}: {built.items:,} items ({did}), {built.problems:,} with a problem; recall {built.recall:.3f}")
    if built.first:
        typer.echo(f"the first of them is {built.first}")
    show_lists(found, duplicates, outliers, html)


@app.command(
    epilog="Example: d2v search photos.index cat.jpg --and 0.5:garden.jpg --model MODEL, or, across modalities, "
    "d2v search mixed.index 'a red letter' --aligned SPACE"
)
def search(
    index: Annotated[Path, typer.Argument(help="The folder of an index.", file_okay=False)],
    question: Annotated[str, typer.Argument(help="A file, or a text where the encoder takes texts.")],
    model: Annotated[str, typer.Option(help="The encoder that the index was made with.")] = "",
    aligned: Annotated[
        str,
        typer.Option(help="Instead of a model: the aligned space that the index was made with."),
    ] = "",
    further: Annotated[
        list[str] | None,
        typer.Option(
            "--and", metavar="WEIGHT:QUESTION", help="Another question with its weight, beside the first's 1."
        ),
    ] = None,
    count: Annotated[int, typer.Option("-k", "--count", help="Items to find.", min=1)] = 10,
    path: Annotated[str, typer.Option(help="Only files that fit, such as '*/holiday/*'.")] = "",
    label: Annotated[str, typer.Option(help="Only items of this class.")] = "",
    after: Annotated[
        str, typer.Option(help="Only files modified at this time or later, such as 2026-11-30 or 2026-11-30T18:00.")
    ] = "",
    before: Annotated[str, typer.Option(help="Only files modified earlier than this time.")] = "",
    exact: Annotated[bool, typer.Option(help="Look at all vectors, however many there are.")] = False,
    html: Annotated[Path | None, typer.Option(help="A page of what is found to write.", dir_okay=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Find the items of an index that are nearest to a file, a text, or several of them with weights."""
    from d2v.search.console import search_and_show
    from d2v.search.index import Index
    from d2v.search.query import time_of

    found = Index(index)
    asked = [(1.0, question), *map(_weighted, further or [])]
    filters = {"path": path, "label": label, "after": time_of(after), "before": time_of(before), "exact": exact}
    search_and_show(found, _encoders(model, aligned, device), asked, count, html, **filters)


def _encoders(model: str, aligned: str, device: str) -> Encoders:
    """What makes the vectors of an index."""
    from d2v.interchange.aligned import load_aligned
    from d2v.interchange.load import load

    if bool(model) == bool(aligned):
        raise ConfigError(
            "an index is made and searched with one encoder or one aligned space: give --model or --aligned"
        )
    return load_aligned(aligned, device=device) if aligned else load(model, device=device)


def _weighted(given: str) -> tuple[float, str]:
    """WEIGHT:QUESTION."""
    weight, _, question = given.partition(":")
    try:
        return float(weight), question
    except ValueError:
        raise ConfigError(f"--and {given}: give a weight, a colon and a question, such as 0.5:garden.jpg") from None


@app.command(epilog="Example: d2v train photos/ --time 30m")
def train(
    source: Annotated[
        str,
        typer.Argument(help="A folder, archive or table of images, recordings or texts, or a URL.", metavar="FOLDER"),
    ],
    name: Annotated[str, typer.Option(help="Of the environment in conf/, and of its folders; else FOLDER's.")] = "",
    epochs: Annotated[float | None, typer.Option(help="Passes over the data in pretraining.")] = None,
    time: Annotated[str, typer.Option(help="For everything, such as 30m or 2h.")] = "",
    modality: Annotated[str, typer.Option(help="What the items are, if that is not found.")] = "",
    ingest: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="A key of the ingest block, such as columns.label=kind; again for others."
        ),
    ] = None,
    project: Annotated[
        Path | None, typer.Option(help="Folder of the project, new or there; else the nearest one.", file_okay=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without asking, as scripts must.")] = False,
) -> None:
    """Pretrain on your own data, probe, and fine-tune where there are classes. Looks at the data, chooses a recipe for
    this machine, says what it will take, and writes it as an environment of conf/ to edit and run again."""
    from d2v.planning.command import Asked, train_source

    asked = Asked(source, name, modality, tuple(ingest or ()), epochs, time, project, yes)
    ask = typer.confirm if sys.stdin.isatty() else None
    raise typer.Exit(train_source(asked, typer.echo, ask))


@app.command(epilog="Example: d2v look photos/ --model data/06_models/vision/photos/encoder --out look.html")
def look(
    source: Annotated[Path, typer.Argument(help="A file, a folder or an archive of items.")],
    model: Annotated[str, typer.Option(help="A model folder, a checkpoint, or models:/d2v-<modality>@champion.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.", dir_okay=False)] = Path("look.html"),
    items: Annotated[int, typer.Option(help="How many are shown.", min=1, max=16)] = 8,
    on_map: Annotated[
        int, typer.Option("--map", help="How many lie on a map of their features (UMAP); 0: no map.", min=0, max=20_000)
    ] = 0,
) -> None:
    """Write a page of one's own items with the encoder's attention and a PCA of its token features, and a map."""
    from d2v.interchange.load import load
    from d2v.interchange.look import look as write_page

    typer.echo(write_page(load(model), source, out, items, on_map))


@app.command(epilog="Example: d2v serve models:/d2v-vision@champion --port 5001")
def serve(
    model: Annotated[str, typer.Argument(help="models:/d2v-<modality>@champion, or a model folder.")],
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets others in.", envvar="D2V_SERVE_HOST")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535, envvar="D2V_SERVE_PORT")] = 5001,
    max_body_bytes: Annotated[int, typer.Option(help="Of a request.", min=1024, envvar="D2V_SERVE_MAX_BODY_BYTES")] = 64
    * 2**20,
    computed: Annotated[
        int, typer.Option(help="Requests computed at a time.", min=1, max=64, envvar="D2V_SERVE_COMPUTED")
    ] = 2,
    waiting: Annotated[
        int, typer.Option(help="Requests that may wait; others get 503.", min=0, max=400, envvar="D2V_SERVE_WAITING")
    ] = 16,
    timeout: Annotated[
        float, typer.Option(help="Seconds for a body, and for its answer.", min=0.1, envvar="D2V_SERVE_TIMEOUT")
    ] = 60.0,
    reload: Annotated[
        float, typer.Option(help="Seconds between looks for a newer model; 0: never.", min=0, envvar="D2V_SERVE_RELOAD")
    ] = 30.0,
    index: Annotated[
        Path | None,
        typer.Option(
            help="The folder of an index of this model, for /search.", file_okay=False, envvar="D2V_SERVE_INDEX"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Answer HTTP requests with a model, and go over to a newer one when its alias moves. SIGHUP looks for it at once,
    SIGTERM answers what was asked and ends."""
    import os

    from d2v.interchange.load import device_of
    from d2v.serving.app import Bounds
    from d2v.serving.server import serve as run_server
    from d2v.serving.source import Source

    source = Source(model, os.environ, str(device_of(device)))
    run_server(source, host, port, Bounds(max_body_bytes, computed, waiting, timeout), reload, index)


@app.command(epilog="Example: d2v report data/02_intermediate/vision/glyphs --out glyphs.html")
def report(
    corpus: Annotated[Path, typer.Argument(help="A folder that ingest left.", file_okay=False)],
    out: Annotated[Path, typer.Option(help="The HTML file to write.", dir_okay=False)] = Path("report.html"),
    modality: Annotated[str, typer.Option(help="Of the items, if the corpus does not tell.")] = "",
) -> None:
    """Write the page of a corpus again: classes, splits, sizes, formats, quarantine, duplicates, examples."""
    from d2v.modalities import registry
    from d2v.modalities.corpus_page import modality_of, write_corpus_page

    typer.echo(write_corpus_page(registry.get(modality) if modality else modality_of(corpus), corpus, out))


@app.command(epilog="Example: d2v verify data/05_model_input --no-registry")
def verify(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="What to look through; otherwise D2V_DATA or data.", file_okay=False)
    ] = None,
    registry: Annotated[bool, typer.Option(help="Also the weights of all registered versions.")] = True,
    dvc: Annotated[bool, typer.Option(help="Also the files of DVC's cache.")] = True,
) -> None:
    """Check that corpora, prepared data, models, the registry and DVC's cache hold what was written.

    The exit status is 4 if something changed."""
    from d2v.lifecycle.verify import lines, verify_dvc_cache, verify_folders, verify_registry

    found = verify_folders(folders or [Path(os.environ.get("D2V_DATA", "data"))])
    found += verify_registry() if registry else []
    found += verify_dvc_cache(Path()) if dvc else []
    for line in lines(found):
        typer.echo(line)
    if any(one.changed for one in found):
        raise typer.Exit(4)


@app.command(epilog="Example: d2v models")
def models() -> None:
    """List the registered models with their aliases, metrics, and the decisions about them."""
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


MOVED = {
    "bench": "step",
    "bench-growth": "growth",
    "bench-input": "input",
    "bench-compare": "compare",
    "bench-recipe": "recipe",
    "bench-scale": "scale",
}
"""Verbs of before, and their names under `python -m benchmarks`."""


def _forward_to_benchmarks(context: typer.Context) -> None:
    """A verb of before. The benchmarks live in the checkout's folder `benchmarks/`, outside the installed package."""
    verb = MOVED[str(context.info_name)]
    if importlib.util.find_spec("benchmarks") is None:
        raise ConfigError(
            f"benchmarks are not part of the installed package: in a checkout run `python -m benchmarks {verb}`"
        )
    typer.echo(f"note: `d2v {context.info_name}` is now `python -m benchmarks {verb}`", err=True)
    raise typer.Exit(subprocess.run([sys.executable, "-m", "benchmarks", verb, *context.args], check=False).returncode)


for _verb in MOVED:
    app.command(
        _verb,
        hidden=True,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_forward_to_benchmarks)


def run() -> None:
    """The command's entry: errors that a user can mend are a paragraph and their exit status."""
    try:
        app()
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        print(f"\n{type(known).__name__}: {known}", file=sys.stderr)
        sys.exit(known.exit_code)
