"""A stored plan with the place of its model on this machine. Imported by the API and by a cluster's workers."""

from __future__ import annotations

from wan2_i2v.errors import CheckpointError, InvalidRequest
from wan2_i2v.models import catalog
from wan2_i2v.models.lora import choosing
from wan2_i2v.plan import JobPlan


def located(stored: JobPlan) -> JobPlan:
    """The plan, its model's files where they are here.

    Raises CheckpointError for a model that is not here, InvalidRequest when the weights are not those that the job was begun
    with.
    """
    if stored.model_files is None:
        raise CheckpointError(
            f"job {stored.job_id} was planned without its model. Get it: wan2-i2v models pull {stored.model}"
        )
    model = catalog.again(stored.model, stored.model_files)
    if model.fingerprint != stored.model_fingerprint:
        raise InvalidRequest(
            "model",
            stored.model,
            f"the weights that job {stored.job_id} was begun with",
            "They have changed since; start the job anew.",
        )
    choosing.check_unchanged(stored.loras)
    return stored.model_copy(update={"model_files": model.files})
