"""Models; importing this package registers all of them and their configuration sections."""

from slowfast.models import (  # noqa: F401
    frame_average,
    mvit,
    resnet,
    resnet3d,
    rev_mvit,
    slowfast,
    stam,
    timesformer,
    tsn,
    uniformer,
    x3d,
)
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.build import build_model
from slowfast.models.clip import video as clip_video  # noqa: F401
from slowfast.models.create import create_model, list_models
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY
from slowfast.models.spec import ModelSpec

__all__ = [
    "FEWSHOT_REGISTRY",
    "MODEL_REGISTRY",
    "ModelSpec",
    "VideoModel",
    "build_model",
    "create_model",
    "list_models",
]
