"""A retraining run: new items, drift, training, promotion, and a report.

Every step finds out for itself whether it is done: preparation by fingerprints, trainings by their run folders, models
by the registry. A retraining that was killed goes on with the same command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2v.config import EvaluateConfig, FinetuneConfig, PromoteConfig, RetrainConfig, TrainConfig, first_names
from d2v.config.changes import changed
from d2v.data import fingerprint
from d2v.evaluation.evaluate import evaluate
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import finetune
from d2v.lifecycle import drift, lineage
from d2v.lifecycle.corpus_items import items_of, new_content, new_rows
from d2v.lifecycle.gate import Decision
from d2v.lifecycle.measure import HeldOut
from d2v.lifecycle.new_items import NewItems, find_new_items
from d2v.lifecycle.promotion import PromotionInputs, decide_encoder, decide_finetuned, write_decisions
from d2v.lifecycle.retraining_report import (
    NO_DRIFT,
    NOTHING_NEW,
    TOO_FEW,
    TRAINED,
    UNKNOWN_DRIFT,
    RetrainingRun,
    write_retraining_report,
)
from d2v.modalities.base import Modality
from d2v.pretraining.pretrain import pretrain
from d2v.progress import log
from d2v.tracker import Tracker
from d2v.tracking import versions
from d2v.tracking.models import find_model, find_start
from d2v.tracking.registry import encoder_name, finetuned_name
from d2v.tracking.versions import CHALLENGER, CHAMPION, Version
from d2v.training import resume
from d2v.training.train import TrainResult


@dataclass(frozen=True)
class Plan:
    """The blocks of a modality's recipe."""

    train: TrainConfig
    prepare: Any
    evaluate: EvaluateConfig
    finetune: FinetuneConfig | None
    promote: PromoteConfig
    retrain: RetrainConfig

    @staticmethod
    def of(recipe: Any) -> Plan:
        """The blocks of a recipe; a modality may have none for fine-tuning, promotion and retraining."""
        return Plan(
            recipe.train,
            recipe.prepare,
            recipe.evaluate,
            getattr(recipe, "finetune", None),
            getattr(recipe, "promote", PromoteConfig()),
            getattr(recipe, "retrain", RetrainConfig()),
        )

    def held_out(self, modality: Modality, prepared: Path) -> HeldOut:
        """How models of this recipe are measured on prepared data."""
        return HeldOut(modality, prepared, self.promote, self.evaluate, self.finetune)


@dataclass(frozen=True)
class RetrainingFolders:
    """Folders of a retraining.

    Attributes:
        corpus: what ingest left.
        prepared: what prepare makes.
        work: trainings, and copies of registered versions.
        promotion: the promotion's report.
        report: the page about the run.
    """

    corpus: Path
    prepared: Path
    work: Path
    promotion: Path
    report: Path


def retrain(modality: Modality, plan: Plan, folders: RetrainingFolders, tracker: Tracker) -> RetrainingRun:
    """Train on what is new, and promote what is better.

    The encoder is trained on from the champion where content is new; then the fine-tuned model, from the encoder that
    is champion by then, where content or labels are new. Without new items nothing is trained or registered. Without a
    champion the recipe is trained as it stands.

    Args:
        modality: what the data is.
        plan: the recipe.
        folders: of data and results.
        tracker: gets a run each for pretraining and fine-tuning below its own, and the reports.

    Raises:
        D2vError: see the steps; what was done until then is kept.
    """
    return _Retraining(modality, plan, folders, tracker).run()


@dataclass
class _Retraining:
    modality: Modality
    plan: Plan
    folders: RetrainingFolders
    tracker: Tracker
    record: RetrainingRun = field(default_factory=RetrainingRun)

    def run(self) -> RetrainingRun:
        """New items, drift, training, promotion, report."""
        items, cache = items_of(self.folders.corpus), self.folders.work / "registered"
        encoder = find_new_items(encoder_name(self.modality.name), items, new_content, cache)
        finetuned = None
        if self.plan.finetune is not None:
            finetuned = find_new_items(finetuned_name(self.modality.name), items, new_rows, cache)
        self.record.count(items, encoder, finetuned)
        if self._looks_different(encoder):
            self._train_and_decide(encoder, finetuned)
        write_retraining_report(self.record, self.modality.name, self.folders.report, self.tracker)
        return self.record

    def _train_and_decide(self, encoder: NewItems, finetuned: NewItems | None) -> None:
        wanted = self.plan.retrain.on == "always"
        prepare = _carried(self.plan, self._files(encoder.champion))
        if encoder.count >= self.plan.retrain.min_new_items or wanted:
            self.modality.prepare(prepare, self.folders.corpus, self.folders.prepared)
            if encoder.waits is None:
                self._train_encoder(encoder.champion)
            self._note(decide_encoder(self._promotion_inputs()))
        if finetuned is not None and (finetuned.count >= self.plan.retrain.min_new_items or wanted):
            self.modality.prepare(prepare, self.folders.corpus, self.folders.prepared)
            if finetuned.waits is None:
                self._train_finetuned()
            if decision := decide_finetuned(self._promotion_inputs()):
                self._note(decision)
        if not self.record.decisions:
            self.record.outcome = TOO_FEW if encoder.count or (finetuned and finetuned.count) else NOTHING_NEW
            log(f"retrain: {self.record.outcome} since {encoder.champion}: nothing was trained or registered")

    def _looks_different(self, new_items: NewItems) -> bool:
        """False where training waits for a drift and there is none."""
        config = self.plan.retrain
        if new_items.champion is None or not new_items.count:
            return True
        files = versions.fetch(new_items.champion, self.folders.work / "registered")
        prepare = _carried(self.plan, files.model)
        found = drift.of_new_items(files, self.modality, prepare, self.folders.corpus, new_items.chosen, config.drift)
        self.record.drift = found
        if isinstance(found, str):
            log(f"retrain: drift is not known: {found}")
            return self._waits_for_drift(UNKNOWN_DRIFT)
        log(f"retrain: MMD^2 {found.statistic:.4g}, p {found.p_value:.3g}: {'drift' if found.drifted else 'no drift'}")
        return found.drifted or self._waits_for_drift(NO_DRIFT)

    def _waits_for_drift(self, outcome: str) -> bool:
        """Whether to train all the same."""
        if self.plan.retrain.on == "drift":
            self.record.outcome = outcome
        return self.plan.retrain.on != "drift"

    def _note(self, decision: Decision) -> None:
        """At once: should a later step fail, this one has happened."""
        self.record.decisions.append(decision)
        self.record.outcome = TRAINED
        write_decisions(self.record.decisions, self.folders.promotion, self.tracker)

    def _promotion_inputs(self) -> PromotionInputs:
        return PromotionInputs(self.plan.held_out(self.modality, self.folders.prepared), self.folders.corpus)

    def _files(self, version: Version | None) -> Path | None:
        """The model folder of a version, in a folder that is the same for every run."""
        return versions.fetch(version, self.folders.work / "registered").model if version else None

    # ---------------------------------------------------------------------------------------- training

    def _train_encoder(self, champion: Version | None) -> None:
        """Pretrain on from the champion, evaluate, register."""
        recipe = continued(self.plan.train, self.plan.retrain, champion) if champion else self.plan.train
        start = self._files(champion) or find_start(recipe.start)
        folder = self._folder("encoder", recipe, champion.digest if champion else "")
        report, prepared = folder / "report", self.folders.prepared
        with self.tracker.child("pretraining", {"modality": self.modality.name, "stage": "pretraining"}) as child:
            child.log_params({"train": recipe.model_dump(mode="json")})
            trained = pretrain(self.modality, recipe, prepared, folder / "run", self.plan.evaluate, child, start)
            evaluate(self.modality, recipe, self.plan.evaluate, prepared, folder / "run", report, child)
        lineage.register_encoder_of(self.modality, self.folders.corpus, prepared, folder / "run", report)
        self._note_cost("pretraining", trained)

    def _train_finetuned(self) -> None:
        """Fine-tune the encoder that is champion now, evaluate, register. Where no encoder was ever promoted, the
        challenger is the best there is."""
        config, name = self.plan.finetune, encoder_name(self.modality.name)
        assert config is not None
        encoder = versions.find(name, CHAMPION) or versions.find(name, CHALLENGER)
        start = find_model(config.start, self._files(encoder) or self.folders.work)
        folder = self._folder("tuned", config, encoder.digest if encoder else "")
        report, prepared = folder / "report", self.folders.prepared
        with self.tracker.child("fine-tuning", {"modality": self.modality.name, "stage": "fine-tuning"}) as child:
            child.log_params({"finetune": config.model_dump(mode="json")})
            trained = finetune(self.modality, config, self.plan.train, prepared, start, folder / "run", child)
            evaluate_finetuned(self.modality, config, prepared, folder / "run", report, child)
        uri = encoder.uri if encoder and config.start == "pretrained" else None
        recorded = config.model_copy(update={"register_flagged": True})  # a flagged one is refused by the promotion
        folders = (self.folders.corpus, prepared, folder / "run", report)
        lineage.register_finetuned_of(self.modality, recorded, *folders, uri)
        self._note_cost("fine-tuning", trained)

    def _note_cost(self, what: str, trained: TrainResult) -> None:
        """Unless the training was finished in an earlier run."""
        if trained.resumed_from < trained.updates:
            self.record.note_cost(what, resume.finished_result(trained.folder))

    def _folder(self, kind: str, recipe: TrainConfig | FinetuneConfig, start: str) -> Path:
        """A run folder for this data, start and recipe: an interrupted retraining goes on in it, and newer data begin
        another one."""
        shaping = first_names(type(recipe), resume.shaping(recipe))
        made_of = [self.modality.open(self.folders.prepared).fingerprint, start, shaping]
        return self.folders.work / f"{kind}-{fingerprint.of_values(made_of)[:12]}"


def continued(recipe: TrainConfig, config: RetrainConfig, champion: Version) -> TrainConfig:
    """The train block for going on from a champion.

    Raises:
        ConfigError: `retrain.changes` do not fit.
    """
    updates = max(1, round(config.updates_share * recipe.max_updates))
    shares: dict[str, Any] = {
        "start": champion.uri,
        "seed": recipe.seed + champion.number,  # other crops and masks than those that it has seen
        "max_updates": updates,
        "optimizer": {"lr": config.lr_share * recipe.optimizer.lr},
        "schedule": {
            "warmup_updates": round(config.warmup_share * updates),
            "min_lr": config.lr_share * recipe.schedule.min_lr,
        },
    }
    ema = getattr(recipe.objective, "ema", None)
    if ema is not None:
        shares["objective"] = {"ema": {"decay_start": ema.decay_end, "anneal_updates": 0}}
    return changed(recipe, shares, config.changes, at="retrain.changes")


def _carried(plan: Plan, champion: Path | None) -> Any:
    """The prepare block with what must stay the champion's, such as the tokenizer."""
    if champion is None or not plan.retrain.carried:
        return plan.prepare
    return changed(plan.prepare, dict.fromkeys(plan.retrain.carried, str(champion)), at="retrain.carried")
