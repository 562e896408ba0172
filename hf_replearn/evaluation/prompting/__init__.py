"""Few-shot prompting (Brown et al. 2020): the evaluation that needs the language model itself, not its features."""

from hf_replearn.evaluation.prompting.few_shot import Condition, Decoder, Examples, conditions, few_shot, read_documents
from hf_replearn.evaluation.prompting.scoring import Request, Score, score
from hf_replearn.evaluation.prompting.targets import decide_reading
from hf_replearn.evaluation.prompting.task_data import load_splits
from hf_replearn.evaluation.prompting.tasks import Task, find_task, load_task

__all__ = [
    "Condition", "Decoder", "Examples", "Request", "Score", "Task", "conditions", "decide_reading", "few_shot",
    "find_task",
    "load_splits", "load_task", "read_documents", "score",
]  # fmt: skip
