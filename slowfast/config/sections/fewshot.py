"""FEWSHOT: tasks, methods and their tests."""

from slowfast.config.schema import Key, Section, register_section

FEWSHOT = register_section(
    Section(
        "FEWSHOT",
        "Few-shot recognition (TASK fewshot)",
        {
            "METHOD": Key(
                "staf",
                "staf, prototype (mean of a class's clips), otam (temporal alignment) or trx "
                "(tuples of frames); MODEL.MODEL_NAME is the embedding.",
                choices=("staf", "prototype", "otam", "trx"),
            ),
            "SPLIT": Key(
                "",
                "Published classes and clips: ucf101_arn, hmdb51_arn, ssv2_cmn, ssv2_otam or "
                "kinetics_cmn; empty: DATA.TRAIN_LIST, VAL_LIST and TEST_LIST, lines class/video.",
                choices=("", "ucf101_arn", "hmdb51_arn", "ssv2_cmn", "ssv2_otam", "kinetics_cmn"),
            ),
            "WAY": Key(5, "Classes of a task.", ge=2),
            "SHOT": Key(1, "Labelled (support) clips of each.", ge=1),
            "QUERY": Key(1, "Query clips of a class, training.", ge=1),
            "QUERY_TEST": Key(1, "The same in validation and test.", ge=1),
            "QUERY_CLASSES": Key(
                "one",
                "one: a single class of the task, drawn, has queries (as STAF was released); all: "
                "every class has (TRX, OTAM and most papers).",
                choices=("one", "all"),
            ),
            "TRAIN_TASKS": Key(6400, "Training tasks of an epoch.", ge=1),
            "VAL_TASKS": Key(1000, "Tasks of a validation.", ge=1, affects_result=False),
            "TEST_TASKS": Key(10000, "Tasks of a test.", ge=1, affects_result=False),
            "SELECT_ON": Key(
                "val",
                "List that validates, and so chooses the best weights; test repeats what was "
                "published.",
                choices=("val", "test"),
            ),
            "TEST_JITTER": Key(
                False, "Draw frames at random in validation and test, too (as released)."
            ),
            "CACHE": Key(
                "",
                "Folder for the embeddings of test clips: each is computed once; empty: none.",
                affects_result=False,
            ),
            "EPISODES_FILE": Key(
                "",
                "File below OUTPUT_DIR that lists the tasks of the test, one JSON line each.",
                affects_result=False,
            ),
            "SCALE": Key(7.0, "STAF, prototype by cosine: factor of cosines (scale_cls).", gt=0.0),
            "SELF_WEIGHT": Key(1.0, "STAF: weight of the self-attention's similarity (alpha)."),
            "EPISODE_LOSS_WEIGHT": Key(0.5, "STAF: weight of the episode's loss (lamda).", ge=0.0),
            "DISTANCE": Key(
                "euclidean", "prototype: distance to it.", choices=("euclidean", "cosine")
            ),
            "SMOOTHING": Key(0.1, "OTAM: softness of the minimum (lambda).", gt=0.0),
            "TRX_DIM": Key(1152, "TRX: width of keys and values.", ge=1),
            "TRX_TUPLES": Key([2, 3], "TRX: frames of a tuple, a branch each.", item=int),
            "TRX_DROPOUT": Key(0.1, "TRX: dropout after the frames' positions.", ge=0.0, le=1.0),
            "TRAIN_CLASSES": Key(
                0,
                "STAF: outputs of the global classifier; 0: the classes of the training list "
                "(more are needed for released weights).",
                ge=0,
            ),
        },
    )
)
