"""Keys of zero-shot recognition with CLIP: published ones under their own names, and CLIP."""

from slowfast.config.schema import Key, Section, register_section

MODEL_KEYS = {
    "TEMPORAL_MODELING_TYPE": Key(
        "",
        "CLIP: what lets frames see each other; empty or None: nothing.",
        choices=(
            "",
            "None",
            "expand_temporal_view",
            "expand_temporal_view_step2",
            "expand_temporal_view_step3",
            "channel_shift",
            "cross_frame_attend",
            "stadapt_zeroinit",
            "stcross_attend",
        ),
    ),
    "MASK_RATE": Key(0.5, "stcross_attend: share of each cell that stays out.", gt=0.0, le=0.99),
    "MASK_STRIDE": Key([1, 2, 2], "stcross_attend: a cell (frames, rows, columns).", item=int),
    "SPATIAL_REPEAT": Key(True, "stcross_attend: one random offset for all cells of a clip."),
    "TEMPORAL_SHUFFLE": Key(
        True,
        "stcross_attend: frames' patterns change places at random in training; in "
        "evaluation CLIP.SHUFFLE_IN_EVAL decides.",
    ),
    "CHANNEL_FOLD": Key(64, "stcross_attend: width // this channels are exchanged.", ge=2),
    "TEMPORAL_SCALE": Key([1], "stcross_attend: frames of the exchange, averaged.", item=int),
    "CONTEXT_LENGTH": Key(77, "CLIP: tokens of a text.", ge=3),
    "KEEP_RAW_MODEL": Key(False, "CLIP: keep a frozen copy of the original beside the network."),
    "RAW_MODEL_DISTILLATION": Key(False, "CLIP: frames stay near the frozen copy's features."),
    "DISTILLATION_RATIO": Key(1.0, "Weight of that loss.", ge=0.0),
    "ENSEMBLE_PRED": Key(False, "CLIP: tests mix in the frozen copy's scores."),
    "ENSEMBLE_RAWMODEL_RATIO": Key(0.0, "Their share.", ge=0.0, le=1.0),
    "TEXT_PROMPT": Key(False, "CLIP: learned tokens stand before the class names."),
    "PROMPT_NUM": Key(1, "How many.", ge=1),
    "FINETUNE_FACTOR": Key(1.0, "CLIP: factor of the learning rate of message_*.", ge=0.0),
    "ADAPT_FINETUNE_FACTOR": Key(1.0, "CLIP: that of stadapt_*.", ge=0.0),
    "MLP_FINETUNE_FACTOR": Key(1.0, "CLIP: that of mlp.", ge=0.0),
    "DEFAULT_FINETUNE_FACTOR": Key(1.0, "CLIP: that of all other parameters.", ge=0.0),
    "STATIC_GRAPH": Key(False, "Kept for old files; found out by itself."),
}

DATA_KEYS = {
    "INDEX_LABEL_MAPPING_FILE": Key(
        "",
        "JSON file {label: class name} (or a list, or a text file with one name a line). For a "
        "network that reads class names it is all there is to say: MODEL.NUM_CLASSES follows.",
        affects_result=False,
    ),
    "TEXT_AUG": Key(False, "CLIP: several texts a class, from DATA.TEXT_AUG_FEATURE_FILE."),
    "TEXT_AUG_FEATURE_FILE": Key("", "Text features, classes x texts x width (a tensor)."),
}

TRAIN_KEYS = {
    "CLIP_ORI_PATH": Key(
        "", "CLIP to start from: OpenAI's archive, a state dict, open_clip.", affects_result=False
    ),
    "LINEAR_CONNECT_CLIMB": Key(
        False,
        "CLIP: each step also learns on weights between the original and the network's "
        "(Open-VCLIP, arXiv 2302.00624).",
    ),
    "LINEAR_CONNECT_LOSS_RATIO": Key(1.0, "Weight of that loss.", ge=0.0),
    "LINEAR_CONNECT_SAMPLE": Key(True, "Draw the original's share; False: the middle of L, R."),
    "LINEAR_CONNECT_SAMPLE_L": Key(0.4, "Smallest share of the original.", ge=0.0, le=1.0),
    "LINEAR_CONNECT_SAMPLE_R": Key(0.6, "Largest share.", ge=0.0, le=1.0),
}

TEST_KEYS = {
    "CLIP_ORI_PATH": Key("", "Weights mixed in by TEST.PATCHING_MODEL; empty: TRAIN's."),
    "PATCHING_MODEL": Key(
        False,
        "Test PATCHING_RATIO of the original weights plus the rest of the trained ones "
        "(any network).",
    ),
    "PATCHING_RATIO": Key(0.5, "Share of the original weights.", ge=0.0, le=1.0),
    "OPENSET": Key(False, "Kept for old files; the class map of the test decides."),
    "UPDATE_STATE": Key(False, "Kept for old files; texts are always those of the weights."),
}

CLIP = register_section(
    Section(
        "CLIP",
        "CLIP for videos (MODEL.MODEL_NAME TemporalClipVideo)",
        {
            "TRAINED": Key(
                ["visual", "text_projection"],
                "What learns of CLIP: visual, text_projection, text (the text tower), logit_scale.",
                item=str,
            ),
            "TEXT_FACTOR": Key(
                1.0, "Factor of the learning rate of the text tower and its projection.", ge=0.0
            ),
            "TEMPLATES": Key(
                [], "Sentences with {} for the class name; empty: the 28 published ones.", item=str
            ),
            "TEXT_CACHE": Key(
                "output/text_features",
                "Folder for encoded texts, found again by weights, templates and names; empty: "
                "none.",
                affects_result=False,
            ),
            "SHUFFLE_IN_EVAL": Key(
                False,
                "stcross_attend: TEMPORAL_SHUFFLE in evaluation, too (as released: results "
                "vary from run to run).",
            ),
            "SHIFT_GROUP": Key(
                0,
                "channel_shift: frames of a batch taken for a clip; 0: the clip's own (8 as "
                "released, whatever DATA.NUM_FRAMES).",
                ge=0,
            ),
            "ACTIVATION": Key(
                "quick_gelu",
                "quick_gelu: OpenAI's weights; gelu: most that open_clip trained.",
                choices=("quick_gelu", "gelu"),
            ),
            "PATCH_SIZE": Key(16, "Sizes of MODEL.ARCH custom: side of a patch.", ge=1),
            "WIDTH": Key(768, "Width of the visual tower, a head for 64.", ge=64),
            "LAYERS": Key(12, "Its layers.", ge=1),
            "EMBED_DIM": Key(512, "Features of a frame and of a text.", ge=1),
            "TEXT_WIDTH": Key(512, "Width of the text tower, a head for 64.", ge=64),
            "TEXT_LAYERS": Key(12, "Its layers.", ge=1),
        },
    )
)
