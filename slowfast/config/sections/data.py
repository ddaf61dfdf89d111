"""DATA, AUG and DATA_LOADER: which frames are read and what is done to them."""

from slowfast.config.schema import Key, Section, register_section

_LISTS = {
    "PATH_TO_DATA_DIR": Key(
        "",
        "Folder that holds the lists, or its address (or, for 'folder', the classes).",
        affects_result=False,
    ),
    "TRAIN_LIST": Key(
        "",
        "File name of the training list in DATA.PATH_TO_DATA_DIR; empty: the set's own.",
        affects_result=False,
    ),
    "VAL_LIST": Key(
        "",
        "File name of the validation list in DATA.PATH_TO_DATA_DIR; empty: the set's own.",
        affects_result=False,
    ),
    "TEST_LIST": Key(
        "",
        "File name of the test list in DATA.PATH_TO_DATA_DIR; empty: the set's own.",
        affects_result=False,
    ),
    "PATH_PREFIX": Key(
        "",
        "Folder put in front of every path of a list, or its address: s3:// gs:// hf:// https://.",
        affects_result=False,
    ),
    "ADDRESSES": Key(
        [],
        "Folders of addresses (s3://bucket/videos) that the lines of a list may lead to, besides "
        "DATA.PATH_PREFIX.",
        item=str,
        affects_result=False,
    ),
    "FETCH_TIMEOUT": Key(
        120.0,
        "Seconds that a read of a video at an address may take, with all its repetitions, before "
        "the video counts as unreadable.",
        gt=0.0,
        affects_result=False,
    ),
    "FOLLOW_LINKS": Key(
        False,
        "Follow links that lead out of the folder, where videos are looked for in folders (data "
        "set folder, few-shot lists).",
        affects_result=False,
    ),
    "MULTI_LABEL": Key(
        False,
        "Videos have any number of labels (charades; lists in Kinetics format with lines such as "
        "'path 3,7,12'); tests report mean average precision.",
    ),
    "PATH_LABEL_SEPARATOR": Key(
        " ",
        "Separator of path and label in lists; if another one is found, it is used and reported.",
        affects_result=False,
    ),
    "LABEL_PATH_TEMPLATE": Key(
        "somesomev2_rgb_{}_split.txt",
        "File name of a Something-Something list; {} stands for train or validation.",
        affects_result=False,
    ),
    "IMAGE_TEMPLATE": Key(
        "{:05d}.jpg",
        "File name of frame n of a frame folder; {video} stands for the folder's name.",
    ),
    "CLASS_NAMES_PATH": Key(
        "",
        "File of class names (txt: one per line; json); empty: classes.txt beside the "
        "lists, if there.",
        affects_result=False,
    ),
    "INDEX_LABEL_MAPPING_FILE": Key(
        "",
        "JSON file {label: class name} (or a list, or a text file with one name per line). A "
        "network that reads class names needs nothing else: MODEL.NUM_CLASSES follows.",
        affects_result=False,
    ),
    "CLASS_NAMES": Key(
        [], "Class names in label order, in place of a file.", item=str, affects_result=False
    ),
    "CLASS_ORDER": Key(
        "names",
        "Classes of a list that are not those of the tested weights, or in another order. names: "
        "they are found by name, and a video of a class that the weights do not know is an error; "
        "known: such videos are left out and counted; strict: any difference is an error. permute "
        "is an older word for names.",
        choices=("names", "known", "strict", "permute"),
        affects_result=False,
    ),
    "SPLIT_NUMBER": Key(1, "Number of the official split of UCF101 and HMDB51.", choices=(1, 2, 3)),
    "ON_ERROR": Key(
        "skip",
        "What happens to a video that cannot be read: raise stops the run, skip leaves "
        "the video out, "
        "replace uses another one (in training only). It is counted and listed in any case.",
        choices=("raise", "skip", "replace"),
    ),
    "BATCH_SAMPLER": Key(
        "shuffle",
        "Order of training samples: shuffle (each video once per epoch), class_balanced (each "
        "class equally often), shard_blocks (shards in random order, samples shuffled in blocks of "
        "DATA.SHARD_BLOCK shards), or a registered batch sampler.",
    ),
    "SHARD_BLOCK": Key(
        8,
        "Shards whose samples are shuffled together.",
        ge=1,
        only_if={"DATA.BATCH_SAMPLER": "shard_blocks"},
    ),
    "COPY_SHARDS": Key(
        0,
        "Shards at an address (data set shards) that are fetched whole, each by one pass, and kept "
        "on the disk of this machine ($SLOWFAST_CACHE) while samples are read from them: at least "
        "the shards of two blocks of DATA.SHARD_BLOCK, or all. 0: samples are fetched one by one.",
        ge=0,
        affects_result=False,
    ),
    "MIN_FRAMES": Key(
        1,
        "Fewest frames of a readable video; fewer count as unreadable. A video shorter "
        "than its clip "
        "repeats frames.",
        ge=1,
    ),
    "MAX_PIXELS": Key(
        1 << 26,
        "Most pixels of a decoded frame (8192 x 8192); a video with larger frames counts as "
        "unreadable.",
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
}

# The other rules choose frames from the whole video.
_OF_CLIPS = {"DATA.SAMPLING": ("auto", "clip")}
_FRAMES = {
    "NUM_FRAMES": Key(8, "Number of frames per clip.", ge=1),
    "SAMPLING_RATE": Key(
        8,
        "Stride between the frames of a clip, in frames at DATA.TARGET_FPS (DATA.SAMPLING strided: "
        "in frames of the file).",
        ge=1,
        only_if={"DATA.SAMPLING": ("auto", "clip", "strided")},
    ),
    "TARGET_FPS": Key(
        30, "Frame rate to which DATA.SAMPLING_RATE refers.", ge=1, only_if=_OF_CLIPS
    ),
    "FRAME_RATE": Key(
        "auto",
        "Unit of DATA.SAMPLING_RATE. resample: frames at DATA.TARGET_FPS; native: frames of the "
        "file (as decord did for every published UniFormer and STFM Kinetics number); auto: native "
        "for DATA.DECODING_BACKEND decord, else resample.",
        choices=("auto", "resample", "native"),
        only_if=_OF_CLIPS,
    ),
    "SAMPLING": Key(
        "auto",
        "Rule that chooses the frames of a clip. auto: the one of the data set's published loader; "
        "clip: frames DATA.SAMPLING_RATE apart at DATA.TARGET_FPS (Kinetics); strided: frames of "
        "the file so far apart (Charades); segment: one of each of DATA.NUM_FRAMES segments "
        "(Something-Something); tsn: as segment, in tests the middle one; linspace: even steps "
        "from the first frame to the last; rate: DATA.CLIP_FPS frames per second from the start "
        "(STAM).",
        choices=("auto",),
    ),
    "CLIP_FPS": Key(
        1.6,
        "Frames per second of video with DATA.SAMPLING rate, from the start of the video (STAM: a "
        "tenth of DATA.NUM_FRAMES, for videos of ten seconds).",
        gt=0.0,
        only_if={"DATA.SAMPLING": ("auto", "rate")},
    ),
    "USE_OFFSET_SAMPLING": Key(
        False,
        "Spread test clips from the start to the end of the video; a single clip is central.",
        only_if=_OF_CLIPS,
    ),
    "DECODING_BACKEND": Key(
        "pyav",
        "Video decoder: pyav, or torchcodec (an extra); decord and torchvision of old "
        "files mean pyav.",
        choices=("pyav", "torchcodec", "decord", "torchvision"),
    ),
    "DECODING_DEVICE": Key(
        "cpu",
        "Device of DATA.DECODING_BACKEND torchcodec: cpu, or cuda (NVDEC; for videos of high "
        "resolution; pixels differ slightly from those of the CPU).",
        choices=("cpu", "cuda"),
        only_if={"DATA.DECODING_BACKEND": "torchcodec"},
    ),
    "ENSEMBLE_METHOD": Key(
        "sum",
        "Rule that merges the scores of a video's views.",
        choices=("sum", "max"),
        affects_result=False,
    ),
}

_PIXELS = {
    "MEAN": Key(
        [0.45, 0.45, 0.45],
        "Mean of each input channel, in 0..1, subtracted from the pixels.",
        item=float,
        min_length=3,
    ),
    "STD": Key(
        [0.225, 0.225, 0.225],
        "Standard deviation of each input channel, in 0..1, that divides the pixels.",
        item=float,
        min_length=3,
        gt=0.0,
    ),
    "INPUT_CHANNEL_NUM": Key(
        [3, 3],
        "Number of input channels, one entry per pathway; always 3 here.",
        item=int,
        min_length=1,
        ge=3,
        le=3,
    ),
    "INPUT_FORMAT": Key(
        "auto",
        "Channel order of the network's input; auto: RGB for videos, BGR for frame folders of "
        "Something-Something and Charades (which the published loaders read through OpenCV).",
        choices=("auto", "RGB", "BGR"),
    ),
    "REVERSE_INPUT_CHANNEL": Key(
        False, "Reverse the channel order of DATA.INPUT_FORMAT (for old files)."
    ),
    "ANTIALIAS": Key(
        False, "Resize frames with antialiasing; released weights were trained without it."
    ),
    "KEEP_ASPECT": Key(
        True,
        "Keep the aspect ratio of frames and crop the longer side; False: squeeze frames "
        "to squares.",
    ),
    "TRAIN_JITTER_SCALES": Key(
        [256, 320],
        "Range of the frame's short side in training, in pixels.",
        item=int,
        min_length=2,
        ge=1,
    ),
    "TRAIN_JITTER_SCALES_RELATIVE": Key(
        [],
        "Range of the training crop's area relative to the frame (random resized crop); "
        "empty: off.",
        item=float,
    ),
    "TRAIN_JITTER_ASPECT_RELATIVE": Key(
        [], "Range of the training crop's aspect ratio; empty: 3/4 to 4/3.", item=float
    ),
    "TRAIN_MULTI_SCALE_CROP": Key(
        [],
        "Sides of training crops relative to the short side, at 13 fixed positions (TSN: 1, "
        "0.875, 0.75, 0.66); DATA.TRAIN_JITTER_* are not used then. Empty: off.",
        item=float,
        gt=0.0,
        le=1.0,
    ),
    "TRAIN_JITTER_MOTION_SHIFT": Key(
        False, "Move the training crop linearly over the clip, between two random boxes."
    ),
    "TRAIN_CROP_PLACE": Key(
        "random",
        "Position of the training crop after a random short side (centre: as in few-shot STAF).",
        choices=("random", "centre"),
    ),
    "TRAIN_CROP_SIZE": Key(224, "Side of training and validation crops, in pixels.", ge=1),
    "TEST_CROP_SIZE": Key(256, "Side of test crops, in pixels.", ge=1),
    "INV_UNIFORM_SAMPLE": Key(
        False, "Draw the inverse of the training short side uniformly, not the side itself."
    ),
    "RANDOM_FLIP": Key(
        True, "Mirror half of the training clips; switch it off where direction matters."
    ),
    "MIRROR_CLASSES": Key(
        "",
        "Labels of mirrored clips. Empty: unchanged; names: the class whose name has "
        "left and right, "
        "clockwise and counterclockwise exchanged, and clips without such a class are "
        "not mirrored; "
        "or a JSON file with pairs of class names.",
        only_if={"DATA.RANDOM_FLIP": True},
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

_KEYS = _LISTS | _FRAMES | _PIXELS | _TRANSFORMS
DATA = register_section(Section("DATA", "Lists, frames and pixels", _KEYS))

_AUGMENTED = {"AUG.ENABLE": True}
AUG = register_section(
    Section(
        "AUG",
        "Augmentation of training clips (the same draw for all frames of a clip)",
        {
            "ENABLE": Key(False, "Use RandAugment and random erasing in training."),
            "DEVICE": Key(
                "workers",
                "Where training clips are cropped, mirrored and augmented by RandAugment: workers "
                "(loader processes, as published), or network (the device of the network, from the "
                "same random numbers; workers then decode only, for frames of about the size that "
                "is needed, see tools/resize_videos.py).",
                choices=("workers", "network"),
            ),
            "NUM_SAMPLE": Key(
                1, "Augmented copies per decoded clip; the batch grows by this factor.", ge=1
            ),
            "AA_TYPE": Key(
                "rand-m9-mstd0.5-inc1",
                "RandAugment policy in timm's notation; empty: none.",
                only_if=_AUGMENTED,
            ),
            "INTERPOLATION": Key(
                "bicubic",
                "Interpolation of RandAugment's geometric operations.",
                choices=("bicubic", "bilinear", "nearest"),
                only_if=_AUGMENTED,
            ),
            "RE_PROB": Key(
                0.25, "Probability of random erasing.", ge=0.0, le=1.0, only_if=_AUGMENTED
            ),
            "RE_MODE": Key(
                "pixel",
                "Filling of erased boxes: noise per pixel, noise per channel (rand), or "
                "zero (const).",
                choices=("pixel", "rand", "const"),
                only_if=_AUGMENTED,
            ),
            "RE_COUNT": Key(1, "Number of erased boxes per clip.", ge=1, only_if=_AUGMENTED),
            "RE_SPLIT": Key(
                False,
                "No effect, accepted for old files: random erasing does not use it.",
                unused=True,
            ),
            "COLOR_JITTER": Key(
                0.4,
                "No effect, accepted for old files: colour jitter of images, not of videos.",
                optional=True,
                unused=True,
            ),
        },
    )
)

DATA_LOADER = register_section(
    Section(
        "DATA_LOADER",
        "Loader workers",
        {
            "NUM_WORKERS": Key(
                -1,
                "Loader processes per GPU; -1: the cores per GPU, less one; 0 loads in the main "
                "process.",
                ge=-1,
            ),
            "START_METHOD": Key(
                "auto",
                "How loader processes start: fork, spawn or forkserver; auto: fork on Linux, "
                "forkserver if DATA.DECODING_DEVICE is cuda, elsewhere the system's default.",
                choices=("auto", "fork", "spawn", "forkserver"),
            ),
            "PIN_MEMORY": Key(
                True, "Keep batches in page-locked memory, for faster copies to a GPU."
            ),
            "PREFETCH_FACTOR": Key(
                2,
                "Batches that are read ahead, for each loader process: memory of NUM_WORKERS * "
                "PREFETCH_FACTOR batches per loader.",
                ge=1,
            ),
            "ENABLE_MULTI_THREAD_DECODE": Key(
                False, "Decode each video with several threads (large files, few loader processes)."
            ),
        },
        affects_result=False,
    )
)
