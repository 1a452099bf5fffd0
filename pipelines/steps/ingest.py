"""ingest: raw source -> corpus: validated, hashed, split, quarantined; and a page to look at it."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import Block
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The ingest step of one modality, without its namespace."""
    inputs, outputs = ["params:ingest", "corpus_dir", "corpus_report_dir"], ["corpus", "corpus_report"]
    return Pipeline([Node(of_modality(ingest, modality), inputs, outputs, name="ingest")])


def ingest(modality: str, config: Block, out: Path, report: Path) -> tuple[Path, Path]:
    """Read the source into Arrow shards under `out`, and write the page of the corpus under `report`; what is finished
    and unchanged is only checked."""
    from d2v.modalities import registry
    from d2v.modalities.corpus_page import PAGE, is_page_of, write_corpus_page
    from d2v.progress import log
    from pipelines.tracking import active_tracker

    registry.get(modality).ingest(config, out)
    page = report / PAGE
    if not is_page_of(out, page):
        write_corpus_page(registry.get(modality), out, page)
    active_tracker().log_artifact(page, "corpus")
    log(f"ingest: look at the corpus before you train: {page}")
    return out, report
