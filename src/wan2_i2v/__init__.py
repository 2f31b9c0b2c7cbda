"""Image to video with Wan2.2 I2V A14B: a request becomes a plan, a plan runs stage by stage and ends in a record.

    from wan2_i2v import GenerateRequest, generate
    record = generate(GenerateRequest(image="boat.png", prompt="The boat rocks on the waves."))

Importing this loads no torch: models are loaded by the stage that needs them, while a job runs.
"""

from importlib.metadata import PackageNotFoundError, version

# `plan` is a function here and also the name of a submodule. Importing the submodule first, as `api` does, is what
# makes the function keep the name: Python binds a submodule to its package only once.
from wan2_i2v.api import generate, generate_many, plan, resume
from wan2_i2v.errors import (
    Cancelled,
    CheckpointError,
    ClusterError,
    ComfyUIError,
    ComfyUILost,
    DeviceError,
    DoesNotFit,
    InvalidImage,
    InvalidJobList,
    InvalidRequest,
    JobNotFound,
    NumericalError,
    OutOfMemory,
    OutputError,
    VerificationFailed,
    Wan2I2VError,
)
from wan2_i2v.plan import JobPlan
from wan2_i2v.record import Record
from wan2_i2v.request import GenerateRequest

try:
    __version__ = version("wan2-i2v")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "Cancelled",
    "CheckpointError",
    "ClusterError",
    "ComfyUIError",
    "ComfyUILost",
    "DeviceError",
    "DoesNotFit",
    "GenerateRequest",
    "InvalidImage",
    "InvalidJobList",
    "InvalidRequest",
    "JobNotFound",
    "JobPlan",
    "NumericalError",
    "OutOfMemory",
    "OutputError",
    "Record",
    "VerificationFailed",
    "Wan2I2VError",
    "__version__",
    "generate",
    "generate_many",
    "plan",
    "resume",
]
