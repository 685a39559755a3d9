"""Which method learns which arrangement of rows."""

from app.contracts.dataset import Shape
from app.contracts.options import Method
from app.contracts.plan import Notice, Plan, Resolved
from app.core.errors import Invalid

METHODS: dict[Shape, tuple[Method, ...]] = {
    "alpaca": ("sft",),
    "prompt_completion": ("sft",),
    "question_answer": ("sft",),
    "messages": ("sft",),
    "sharegpt": ("sft",),
    "text": ("pretraining",),
    "classification": ("classification", "sft"),
    "preference": ("dpo", "kto", "sft"),
    "unpaired": ("kto",),
    "instances": ("sft",),
}
"""The methods that can learn the rows of a shape, the automatic one first."""


PREFERENCE_RATE_SHARE = 1 / 40
"""Learning rate for preferences over that for answers: 5e-6 against 2e-4 in the alignment handbook's QLoRA recipes for Zephyr
7B (huggingface/alignment-handbook, recipes/zephyr-7b-beta/{dpo,sft}/config_qlora.yaml)."""


def settle_method(values: dict[str, Resolved], shape: Shape) -> dict[str, Resolved]:
    """Return the values with the method decided, and what follows from it. Raise Invalid for one that does not fit.

    Long texts are divided instead of cut: all of a document is to be learned. Preferences take a far lower learning rate.
    """
    possible = METHODS[shape]
    chosen = values["method"]
    method = possible[0] if chosen.value is None else chosen.value
    if method not in possible:
        listed = ", ".join(possible)
        params = {"method": method, "possible": listed}
        detail = {"field": "method", "code": "unfit", "key": "invalid.method", "params": params}
        raise Invalid("method", [detail], **params)
    settled = {**values, "method": chosen.model_copy(update={"value": method, "automatic": possible[0]})}
    if method == "pretraining" and values["long_rows"].origin == "default":
        settled["long_rows"] = values["long_rows"].model_copy(update={"value": "split", "automatic": "split"})
    rate = values["learning_rate"]
    if method in ("dpo", "kto"):
        automatic = float(f"{rate.automatic * PREFERENCE_RATE_SHARE:.2g}")
        if rate.origin == "user":
            settled["learning_rate"] = rate.model_copy(update={"automatic": automatic})
        else:
            settled["learning_rate"] = Resolved(
                value=automatic, origin="planner", reason="preference_rate", params={"usual": rate.value}, automatic=automatic
            )
    return settled


def count_examples(rows: int, method: Method, shape: Shape) -> int:
    """Return how many examples the method makes of the rows: to KTO both answers of a pair are examples of their own."""
    return 2 * rows if method == "kto" and shape == "preference" else rows


def explain_time(plan: Plan) -> Plan:
    """Return the plan with a word on what its method reads beside the rows."""
    method = plan.resolved["method"].value
    if method not in ("dpo", "kto"):
        return plan
    return plan.model_copy(update={"reasons": [*plan.reasons, Notice(key=f"method_time.{method}")]})
