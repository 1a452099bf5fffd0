"""encoder and labelled items -> fine-tuned model -> metrics on the test split, registered model."""

from kedro.pipeline import Node, Pipeline

from pipelines.finetune import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The finetune step of one modality, without its namespace."""
    steps = (nodes.finetune, nodes.evaluate_tuned, nodes.register_tuned)
    finetune, evaluate_tuned, register_tuned = (of_modality(step, modality) for step in steps)
    data = ["params:finetune", "params:train", "prepared", "run_dir", "tuned_dir"]
    return Pipeline(
        [
            Node(finetune, data, "tuned_folder", name="finetune"),
            Node(
                evaluate_tuned,
                ["params:finetune", "prepared", "tuned_folder", "tuned_report_dir"],
                "tuned_report",
                name="evaluate_tuned",
            ),
            Node(
                register_tuned,
                ["params:finetune", "prepared", "corpus", "tuned_folder", "tuned_report"],
                None,
                name="register_tuned",
            ),
        ]
    )
