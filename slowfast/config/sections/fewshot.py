"""FEWSHOT: episodes and their tests; methods add their own keys (models/fewshot_heads.py)."""

from slowfast.config.schema import Key, Section, register_section

FEWSHOT = register_section(
    Section(
        "FEWSHOT",
        "Few-shot recognition (TASK fewshot): classes are recognised from a few clips each",
        {
            "METHOD": Key(
                "staf",
                "Few-shot method, by registered name: staf, prototype (mean of a class's clips), "
                "otam (temporal alignment) or trx (tuples of frames). MODEL.MODEL_NAME is the "
                "embedding.",
            ),
            "SPLIT": Key(
                "",
                "Published lists of classes and clips: ucf101_arn, hmdb51_arn, ssv2_cmn, "
                "ssv2_otam or kinetics_cmn. Empty: DATA.TRAIN_LIST, VAL_LIST and TEST_LIST with a "
                "line class/video per clip.",
                choices=("", "ucf101_arn", "hmdb51_arn", "ssv2_cmn", "ssv2_otam", "kinetics_cmn"),
            ),
            "WAY": Key(5, "Classes of an episode.", ge=2),
            "SHOT": Key(1, "Labelled (support) clips per class of an episode.", ge=1),
            "QUERY": Key(1, "Query clips of a class with queries, in training episodes.", ge=1),
            "QUERY_TEST": Key(
                1, "Query clips of a class with queries, in validation and test episodes.", ge=1
            ),
            "QUERY_CLASSES": Key(
                "one",
                "Classes of an episode that have queries. one: a single class, drawn at random "
                "(as STAF was released); all: every class (TRX, OTAM and most papers).",
                choices=("one", "all"),
            ),
            "TRAIN_EPISODES": Key(6400, "Training episodes per epoch.", ge=1),
            "VAL_EPISODES": Key(1000, "Episodes of each validation.", ge=1, affects_result=False),
            "TEST_EPISODES": Key(10000, "Episodes of a test.", ge=1, affects_result=False),
            "SELECT_ON": Key(
                "val",
                "List that is validated on and so chooses the best weights. test chooses them on "
                "the test list, as some papers did.",
                choices=("val", "test"),
            ),
            "TEST_JITTER": Key(
                False,
                "Draw the frames of clips at random in validation and test as well (as STAF was "
                "released).",
            ),
            "CACHE": Key(
                "",
                "Folder for the embeddings of test clips, each of which is then computed once. "
                "Empty: every episode decodes and embeds its clips.",
                affects_result=False,
            ),
            "EPISODES_FILE": Key(
                "",
                "File below OUTPUT_DIR that lists the episodes of the test, one JSON line per "
                "episode. Empty: no such file.",
                affects_result=False,
            ),
            "SCALE": Key(
                7.0,
                "Factor of cosine similarities (scale_cls), for staf and for prototype with "
                "DISTANCE cosine.",
                gt=0.0,
                only_if={"FEWSHOT.METHOD": ("staf", "prototype")},
            ),
        },
        only_if={"TASK": "fewshot"},
    )
)
