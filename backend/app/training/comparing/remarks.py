"""What may lie behind a training without effect, and what a prompt alone would have done."""

from app.contracts.comparison import Measured
from app.contracts.job import TrainingJob
from app.contracts.plan import Notice
from app.contracts.report import Report

FEW_ROWS, FEW_STEPS = 30, 20
LITTLE_LEARNED, MUCH_LEARNED = 0.03, 0.3
"""Shares by which the loss on the training rows fell."""
GOOD_ALREADY = 0.9
MUCH_CUT = 0.2
TELLING = 0.05
"""Below this share a measure says nothing: an expected text that neither finds word by word."""
NEARLY = 0.02
"""A prompt that comes so near to the trained model is as good."""
FORGOTTEN = 0.15
"""Share by which the loss on general questions rose. All of these are judged, not measured."""


def explain(job: TrainingJob, report: Report, loss: Measured) -> list[Notice]:
    """Return likely causes for a training whose effect cannot be told from chance, or is a bad one."""
    fallen = 1 - report.train_loss_last / report.train_loss_first if report.train_loss_first else 0.0
    causes: list[Notice] = []
    if fallen < LITTLE_LEARNED:
        params = {"learning_rate": f"{job.optimization.learning_rate:g}", "percent": round(100 * fallen)}
        causes.append(Notice(key="no_effect.nothing_learned", params=params))
    if report.steps < FEW_STEPS:
        causes.append(Notice(key="no_effect.few_steps", params={"steps": report.steps}))
    if fallen > MUCH_LEARNED:
        causes.append(Notice(key="no_effect.by_heart", params={"percent": round(100 * fallen), "rows": report.trained_rows}))
    if report.trained_rows and report.truncated_rows / report.trained_rows > MUCH_CUT:
        params = {"rows": report.truncated_rows, "max_length": job.optimization.max_length}
        causes.append(Notice(key="no_effect.cut", params=params))
    if loss.rows < FEW_ROWS and loss.verdict == "no_effect":
        causes.append(Notice(key="no_effect.few_rows", params={"rows": loss.rows}))
    return causes or [Notice(key="no_effect.unknown")]


def judge_preferences(report: Report) -> list[Notice]:
    """Return what preferences are judged by: the loss of a preferred answer may rise while it wins more clearly."""
    before, after = report.measures_before.get("reward_margin"), report.measures_after.get("reward_margin")
    if after is None:
        return []
    return [Notice(key="preferences_judged", params={"before": round(before or 0.0, 3), "after": round(after, 3)})]


def weigh_prompt(measures: list[Measured], examples: int) -> list[Notice]:
    """Return a notice about the original model with a prompt, by the strictest measure that tells them apart."""
    judged = next(
        (found for found in measures if found.prompted is not None and max(found.prompted, found.tuned) > TELLING), None
    )
    if judged is None or judged.prompted is None:
        return []
    params = {
        "examples": examples,
        "prompted": round(100 * judged.prompted),
        "tuned": round(100 * judged.tuned),
        "base": round(100 * judged.base),
    }
    if judged.prompted >= judged.tuned - NEARLY:
        return [Notice(key=f"prompt_enough.{judged.name}", params=params)]
    return [Notice(key=f"prompt_weaker.{judged.name}", params=params)]


def weigh_knowledge(knowledge: list[Measured]) -> list[Notice]:
    """Return a warning where general questions became harder for the model than chance allows."""
    loss = next((found for found in knowledge if found.name == "loss"), None)
    if loss is None or loss.verdict != "worse" or loss.tuned < (1 + FORGOTTEN) * loss.base:
        return []
    return [Notice(key="forgotten", params={"percent": round(100 * (loss.tuned / loss.base - 1))})]
