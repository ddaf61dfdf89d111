"""The mode DEMO of a run: PySlowFast's keys for what :mod:`slowfast.inference.answers` does."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.config.validate import register_rule
from slowfast.datasets.classnames import configured_names, read_class_names
from slowfast.engine.initial import find_tested_weights
from slowfast.engine.modes import MODE_REGISTRY, Mode
from slowfast.inference.annotate import Style
from slowfast.inference.answers import Request, answer_into, describe
from slowfast.inference.output import Lines
from slowfast.inference.prediction import Prediction
from slowfast.inference.predictor import Predictor, build_predictor
from slowfast.inference.trained import for_single_videos
from slowfast.inference.videos import open_any
from slowfast.utils.errors import Interrupted, Problem, RunFailure
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import prepare_outputs
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)

ANSWERS = "demo.jsonl"
_MOST_DRAWN = 5  # classes of a frame

# Classes that AVA shows most; those that PySlowFast has as its default.
_COMMON = [
    "watch (a person)",
    "talk to (e.g., self, a person, a group)",
    "listen to (a person)",
    "touch (an object)",
    "carry/hold (an object)",
    "walk",
    "sit",
    "lie/sleep",
    "bend/bow (at the waist)",
]

_demo_key = functools.partial(Key, affects_result=False)
register_section(
    Section(
        "DEMO",
        "Answers for a video or a camera, and a video with the classes drawn in",
        {
            "ENABLE": _demo_key(False, "Answer for a video, after training and testing, if any."),
            "INPUT_VIDEO": _demo_key("", "The video: a file, a folder of frames, an address."),
            "WEBCAM": _demo_key(
                -1, "Number of a camera, which takes precedence over the video; -1: none.", ge=-1
            ),
            "LABEL_FILE_PATH": _demo_key(
                "", "JSON file of class names and their numbers; empty: those of the checkpoint."
            ),
            "OUTPUT_FILE": _demo_key(
                "",
                "Video (.mp4) to write, with the classes drawn in; empty: none. The answers stand "
                f"in OUTPUT_DIR/{ANSWERS} in any case.",
            ),
            "OUTPUT_FPS": _demo_key(
                -1.0, "Frame rate of OUTPUT_FILE; -1: that of the input.", ge=-1.0
            ),
            "DISPLAY_WIDTH": _demo_key(0, "Width of OUTPUT_FILE; 0: that of the input.", ge=0),
            "DISPLAY_HEIGHT": _demo_key(0, "Height of OUTPUT_FILE; 0: that of the input.", ge=0),
            "BUFFER_SIZE": _demo_key(
                0,
                "Frames that two clips (DATA.NUM_FRAMES x DATA.SAMPLING_RATE frames) share.",
                ge=0,
            ),
            "NUM_CLIPS_SKIP": _demo_key(
                0,
                "Clips that are left out between two answers; -1: as the network keeps up.",
                ge=-1,
            ),
            "FPS": _demo_key(
                30.0, "Frame rate of a folder of frames, and of a camera's clips.", gt=0.0
            ),
            "VIS_MODE": _demo_key(
                "thres",
                "Which classes are drawn: those above a threshold (thres), or the first five.",
                choices=("thres", "top-k"),
            ),
            "COMMON_CLASS_NAMES": _demo_key(
                _COMMON, "Classes with the threshold COMMON_CLASS_THRES.", item=str
            ),
            "COMMON_CLASS_THRES": _demo_key(
                0.7, "Threshold of common classes; of all, if none are named.", ge=0.0, le=1.0
            ),
            "UNCOMMON_CLASS_THRES": _demo_key(
                0.3, "Threshold of all other classes.", ge=0.0, le=1.0
            ),
            "THREAD_ENABLE": _demo_key(
                False,
                "No effect, accepted for old files: a thread always reads ahead.",
                unused=True,
            ),
            "NUM_VIS_INSTANCES": _demo_key(
                2,
                "No effect, accepted for old files: drawing takes no time beside decoding.",
                ge=0,
                unused=True,
            ),
        },
        only_if={"DEMO.ENABLE": True},
    )
)


@register_rule
def _demo_rules(cfg: CfgNode) -> Iterable[Problem]:
    options, clip = cfg.DEMO, cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE
    if not options.ENABLE:
        return
    if options.WEBCAM < 0 and not options.INPUT_VIDEO:
        yield Problem("there is nothing to look at", "name a video", "DEMO.INPUT_VIDEO")
    if clip // 2 < options.BUFFER_SIZE:
        yield Problem(
            f"{options.BUFFER_SIZE} is more than half of a clip of {clip} frames",
            f"use {clip // 2} at most",
            "DEMO.BUFFER_SIZE",
        )
    if options.WEBCAM >= 0 and options.OUTPUT_FILE:
        yield Problem("a camera's frames are not kept", "record them first", "DEMO.OUTPUT_FILE")
    if bool(options.DISPLAY_WIDTH) != bool(options.DISPLAY_HEIGHT):
        yield Problem("width and height belong together", "set both, or none", "DEMO.DISPLAY_WIDTH")


def demo(cfg: CfgNode, runtime: Runtime) -> None:
    """Answer for the video of section DEMO; RunFailure if it cannot be read."""
    if not runtime.is_main:
        return
    options = cfg.DEMO
    out = str(Path(cfg.OUTPUT_DIR) / ANSWERS)
    targets, sources = [out, options.OUTPUT_FILE], [options.INPUT_VIDEO]
    prepare_outputs(filter(None, targets), list(filter(None, sources)), "DEMO.OUTPUT_FILE")
    predictor = load_for_demo(cfg, runtime)
    request = build_request(cfg, predictor)
    logger.info("%s: windows of %.2f s", request.videos[0], request.window)
    lines = Lines("jsonl", len(predictor.classes), predictor.kind, windows=True)
    summary = answer_into(out, predictor, request, lines)
    logger.info("%s: %s", out, describe(summary))
    if options.OUTPUT_FILE:
        logger.info("saved %s", options.OUTPUT_FILE)
    if summary.interrupted and not request.is_live:
        raise Interrupted(summary.interrupted)
    if summary.unreadable:
        raise RunFailure(f"{request.videos[0]} could not be read as a whole", f"see {out}")


def load_for_demo(cfg: CfgNode, runtime: Runtime) -> Predictor:
    """The network that a test of this configuration would take. A clip is a view: temporal views
    of a window of its own length would all be the same."""
    weights = find_tested_weights(cfg)
    names = weights.class_names or configured_names(cfg.DATA)
    labels = cfg.DEMO.LABEL_FILE_PATH
    if labels:
        names = read_class_names(Path(labels).expanduser(), "DEMO.LABEL_FILE_PATH")
    values = {"TEST.NUM_ENSEMBLE_VIEWS": 1, "TEST.NUM_TEMPORAL_CLIPS": []}
    cfg = for_single_videos(cfg.flat(), runtime, names, values)
    return build_predictor(cfg, runtime, weights.checkpoint, names)


def build_request(cfg: CfgNode, predictor: Predictor) -> Request:
    """The section DEMO as a request: frames of the input become seconds."""
    options, clip = cfg.DEMO, cfg.DATA.NUM_FRAMES * cfg.DATA.SAMPLING_RATE
    video, fps = str(options.WEBCAM), options.FPS
    if options.WEBCAM < 0:
        video = options.INPUT_VIDEO
        with open_any(video, predictor.reader, options.FPS) as source:
            fps = source.fps
    step = (clip - options.BUFFER_SIZE) * (max(options.NUM_CLIPS_SKIP, 0) + 1)
    style = Style(
        functools.partial(drawn_classes, options),
        max(options.OUTPUT_FPS, 0.0),
        (options.DISPLAY_WIDTH, options.DISPLAY_HEIGHT),
    )
    return Request(
        [video],
        top=len(predictor.classes),
        window=clip / fps,
        stride=step / fps,
        annotate=options.OUTPUT_FILE,
        style=style,
        fps=options.FPS,
    )


def drawn_classes(options: CfgNode, answer: Prediction) -> list[tuple[str, float]]:
    """The classes of an answer that DEMO.VIS_MODE draws, the most probable first."""
    pairs = list(zip(answer.labels, answer.probabilities))
    if options.VIS_MODE == "thres":
        common, least = options.COMMON_CLASS_NAMES, options.COMMON_CLASS_THRES
        other = options.UNCOMMON_CLASS_THRES if common else least
        pairs = [(name, p) for name, p in pairs if p >= (least if name in common else other)]
    return pairs[:_MOST_DRAWN]


MODE_REGISTRY.register("demo")(Mode(lambda cfg: cfg.DEMO.ENABLE, demo))
