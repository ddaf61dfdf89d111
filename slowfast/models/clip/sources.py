"""Files of weights that CLIP over videos reads, and tensors that it resizes."""

from __future__ import annotations

import torch

from slowfast.layers.positions import resize_clip_pos_embed
from slowfast.models.base import VideoModel
from slowfast.models.clip.names import is_clip, is_video_clip, openai_names, video_names
from slowfast.models.clip.sizes import infer_sizes
from slowfast.models.spec import State, WeightSource
from slowfast.utils.errors import UserError

# Parts of this network that no file of another project has.
_NEW_PARTS = ("projector_v.", "prompt_embed", "head", ".message_", ".stadapt_")


def _from_clip(state: State, model: VideoModel) -> State:
    parameters = model.state_dict()
    _check_architecture(openai_names(state), parameters)
    return video_names(state, parameters)


def _from_video_clip(state: State, model: VideoModel) -> State:
    parameters = model.state_dict()
    _check_architecture(openai_names(state), parameters)
    optional = ("projector_t.", "projector_v.", "raw_model.")
    return {n: v for n, v in state.items() if n in parameters or not n.startswith(optional)}


def _check_architecture(state: State, parameters: State) -> None:
    """UserError if a file holds a CLIP of another size."""
    if not is_video_clip(parameters):
        return
    file, network = infer_sizes(state), infer_sizes(openai_names(parameters))
    resizable = ("resolution", "context")
    if any(vars(file)[k] != v for k, v in vars(network).items() if k not in resizable):
        raise UserError(
            f"the file holds a CLIP with {file}; the network has {network}",
            "choose the ARCH of the file (vitb32, vitb16, vitl14), or custom and its sizes",
            "MODEL.ARCH",
        )


CLIP_SOURCES = (
    WeightSource("CLIP", is_clip, _from_clip, _NEW_PARTS),
    WeightSource(
        "CLIP for videos (Open-VCLIP, FROSTER, STDD)", is_video_clip, _from_video_clip, _NEW_PARTS
    ),
)


def resize_visual_positions(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """Positions of patches ``1+N C`` of another crop, bicubic; None for other parameters."""
    if not name.endswith("visual.positional_embedding") or tensor.shape[1:] != shape[1:]:
        return None
    return resize_clip_pos_embed(tensor, shape[0])


def cut_text_positions(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """Positions of tokens ``L C`` for shorter texts; None for other parameters."""
    is_text = name.endswith("model.positional_embedding")
    return tensor[: shape[0]] if is_text and len(tensor) > shape[0] else None


CLIP_RESIZERS = (resize_visual_positions, cut_text_positions)
