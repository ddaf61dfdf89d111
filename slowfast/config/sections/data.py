"""DATA, AUG and DATA_LOADER: which frames are read and what is done to them."""

from slowfast.config.schema import Key, Section, register_section
from slowfast.config.sections import clip

_LISTS = {
    "PATH_TO_DATA_DIR": Key(
        "", "Folder that holds the lists (or, for 'folder', the classes).", affects_result=False
    ),
    "TRAIN_LIST": Key(
        "",
        "File name of the training list in that folder; empty: the set's own.",
        affects_result=False,
    ),
    "VAL_LIST": Key("", "The same for validation.", affects_result=False),
    "TEST_LIST": Key("", "The same for testing.", affects_result=False),
    "PATH_PREFIX": Key("", "Joined in front of every path of a list.", affects_result=False),
    "PATH_LABEL_SEPARATOR": Key(
        " ", "Separator in lists; another one is found and reported.", affects_result=False
    ),
    "LABEL_PATH_TEMPLATE": Key(
        "somesomev2_rgb_{}_split.txt",
        "Something-Something list; {} is train or validation.",
        affects_result=False,
    ),
    "IMAGE_TEMPLATE": Key(
        "{:05d}.jpg", "Name of frame n of a frame folder; may hold {video}, the folder's name."
    ),
    "CLASS_NAMES_PATH": Key(
        "",
        "Class names (txt: one a line; json); empty: classes.txt beside the lists, if there.",
        affects_result=False,
    ),
    "CLASS_NAMES": Key(
        [], "Class names in label order, written here.", item=str, affects_result=False
    ),
    "CLASS_ORDER": Key(
        "strict",
        "A class order other than the checkpoint's is an error (strict), or the "
        "network's outputs are reordered by name (permute).",
        choices=("strict", "permute"),
        affects_result=False,
    ),
    "SPLIT_NUMBER": Key(1, "Official split of UCF101 and HMDB51.", choices=(1, 2, 3)),
    "ON_ERROR": Key(
        "skip",
        "A video that cannot be read: raise stops, skip leaves it out, replace puts another one "
        "in its place (in training only). It is counted and listed in any case.",
        choices=("raise", "skip", "replace"),
    ),
    "MIN_FRAMES": Key(
        1,
        "A video of fewer frames counts as one that cannot be read; shorter clips than NUM_FRAMES "
        "repeat frames.",
        ge=1,
    ),
    "ALLOW_SINGLE_LABEL": Key(
        False,
        "Accept a list in which all videos have the same label (unlabelled test sets).",
        affects_result=False,
    ),
    "MAX_ERROR_SHARE": Key(
        0.1,
        "Share of unreadable videos in an epoch above which the run stops.",
        ge=0.0,
        le=1.0,
        affects_result=False,
    ),
    "MULTI_LABEL": Key(False, "Several labels a video (not supported yet).", choices=(False,)),
}

_FRAMES = {
    "NUM_FRAMES": Key(8, "Frames of a clip.", ge=1),
    "SAMPLING_RATE": Key(8, "Frames from one frame of a clip to the next.", ge=1),
    "TARGET_FPS": Key(30, "Frame rate to which SAMPLING_RATE refers.", ge=1),
    "FRAME_RATE": Key(
        "auto",
        "resample: SAMPLING_RATE counts frames at TARGET_FPS; native: frames of the file "
        "(as decord did for every published UniFormer and STFM Kinetics number); auto: native "
        "for DECODING_BACKEND decord, else resample.",
        choices=("auto", "resample", "native"),
    ),
    "SAMPLING": Key(
        "auto",
        "How frames are chosen; auto: as the data set's published loader does.",
        choices=("auto",),
    ),
    "CLIP_FPS": Key(
        1.6,
        "SAMPLING rate: frames of a clip for one second of video, from its start (STAM: a tenth "
        "of NUM_FRAMES, for videos of ten seconds).",
        gt=0.0,
    ),
    "USE_OFFSET_SAMPLING": Key(
        False, "Test clips reach from the start to the end of the video; a single one is central."
    ),
    "DECODING_BACKEND": Key(
        "pyav",
        "pyav or torchcodec (extra); decord and torchvision of old files mean pyav.",
        choices=("pyav", "torchcodec", "decord", "torchvision"),
    ),
    "ENSEMBLE_METHOD": Key(
        "sum", "How the views of a video are merged.", choices=("sum", "max"), affects_result=False
    ),
}

_PIXELS = {
    "MEAN": Key([0.45, 0.45, 0.45], "Mean of each channel, in 0..1.", item=float),
    "STD": Key([0.225, 0.225, 0.225], "Standard deviation of each channel.", item=float),
    "INPUT_CHANNEL_NUM": Key([3, 3], "Channels of the input, an entry a pathway.", item=int),
    "INPUT_FORMAT": Key(
        "auto",
        "Channel order of the input; auto: RGB for videos, BGR for frame folders of "
        "Something-Something (read through OpenCV by the reference).",
        choices=("auto", "RGB", "BGR"),
    ),
    "REVERSE_INPUT_CHANNEL": Key(False, "Reverse that order (old files); see INPUT_FORMAT."),
    "ANTIALIAS": Key(False, "Antialiased resizing; released weights were trained without it."),
    "KEEP_ASPECT": Key(True, "False squeezes frames to squares instead of cropping long sides."),
    "TRAIN_JITTER_SCALES": Key([256, 320], "Range of the short side in training.", item=int),
    "TRAIN_JITTER_SCALES_RELATIVE": Key(
        [], "Range of the crop's area relative to the frame: random resized crop.", item=float
    ),
    "TRAIN_JITTER_ASPECT_RELATIVE": Key([], "Range of the crop's aspect ratio.", item=float),
    "TRAIN_MULTI_SCALE_CROP": Key(
        [],
        "Sides of training crops relative to the short side, at 13 fixed places (TSN: 1, "
        "0.875, 0.75, 0.66); empty: none. TRAIN_JITTER_* do nothing then.",
        item=float,
    ),
    "TRAIN_JITTER_MOTION_SHIFT": Key(False, "Move the crop box linearly over the clip."),
    "TRAIN_CROP_PLACE": Key(
        "random",
        "Where the crop of a jittered training clip is (centre: as few-shot STAF trains).",
        choices=("random", "centre"),
    ),
    "TRAIN_CROP_SIZE": Key(224, "Side of training and validation crops.", ge=1),
    "TEST_CROP_SIZE": Key(256, "Side of test crops.", ge=1),
    "INV_UNIFORM_SAMPLE": Key(False, "Draw the inverse of the short side uniformly."),
    "RANDOM_FLIP": Key(True, "Mirror half of the training clips (not where direction matters)."),
    "MIRROR_CLASSES": Key(
        "",
        "Labels of mirrored clips. Empty: as they were; names: left and right, clockwise and "
        "counterclockwise change places in the class names, and clips without such a class are "
        "not mirrored; or a JSON file with pairs of class names.",
    ),
}

_TRANSFORMS = {
    "TRANSFORMS_BEFORE": Key(
        [],
        "Transforms of the decoded frames, before scaling and cropping, in this order: names of "
        "the registry of clip transforms, with options as name:option=value,option=value. They "
        "run in training, validation and test; each decides by the split.",
        item=str,
        checked_by_rule=True,
    ),
    "TRANSFORMS_AFTER": Key(
        [],
        "Transforms of the finished clips, after cropping, flipping and RandAugment, written as "
        "in DATA.TRANSFORMS_BEFORE.",
        item=str,
        checked_by_rule=True,
    ),
}

_KEYS = _LISTS | _FRAMES | _PIXELS | _TRANSFORMS | clip.DATA_KEYS
DATA = register_section(Section("DATA", "Lists, frames and pixels", _KEYS))

AUG = register_section(
    Section(
        "AUG",
        "Augmentation of training clips (the same draw for all frames of a clip)",
        {
            "ENABLE": Key(False, "RandAugment and random erasing."),
            "NUM_SAMPLE": Key(1, "Augmented copies of each decoded clip; the batch grows.", ge=1),
            "AA_TYPE": Key("rand-m9-mstd0.5-inc1", "RandAugment in timm's notation; '' for none."),
            "INTERPOLATION": Key(
                "bicubic",
                "Interpolation of its geometric operations.",
                choices=("bicubic", "bilinear", "nearest"),
            ),
            "RE_PROB": Key(0.25, "Probability of random erasing.", ge=0.0, le=1.0),
            "RE_MODE": Key(
                "pixel",
                "Filling: noise a pixel, noise a channel, or zero.",
                choices=("pixel", "rand", "const"),
            ),
            "RE_COUNT": Key(1, "Erased boxes.", ge=1),
            "RE_SPLIT": Key(False, "Unused; kept for old files."),
            "COLOR_JITTER": Key(0.4, "Unused for videos; kept for old files.", optional=True),
        },
    )
)

DATA_LOADER = register_section(
    Section(
        "DATA_LOADER",
        "Loader workers",
        {
            "NUM_WORKERS": Key(8, "Worker processes for each GPU; 0 loads in the main one.", ge=0),
            "PIN_MEMORY": Key(True, "Page-locked batches, for faster copies to a GPU."),
            "PREFETCH_FACTOR": Key(2, "Batches that each worker prepares ahead.", ge=1),
            "ENABLE_MULTI_THREAD_DECODE": Key(
                False, "Let one decoder use several threads (one big file, few workers)."
            ),
        },
        affects_result=False,
    )
)
