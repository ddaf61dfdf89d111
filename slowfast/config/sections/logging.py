"""TENSORBOARD: scalars and pictures for TensorBoard, under PySlowFast's keys; REPORT: the page of a
run."""

from slowfast.config.schema import Key, Section, register_section

_ON = {"TENSORBOARD.ENABLE": True}
_SUBSET = "Text file of class names, one per line, {}; empty: {}."


def _size(what: str) -> Key:
    return Key([8, 8], f"Width and height of {what}, in inches.", item=float, min_length=2, gt=0.0)


TENSORBOARD = register_section(
    Section(
        "TENSORBOARD",
        "TensorBoard",
        {
            "ENABLE": Key(False, "Write scalars for TensorBoard, and the pictures chosen below."),
            "LOG_DIR": Key(
                "", "Folder of TensorBoard's files below OUTPUT_DIR; empty: runs-<TRAIN.DATASET>."
            ),
            "CLASS_NAMES_PATH": Key(
                "",
                "Class names for the pictures: JSON (name -> label) or one name per line; empty: "
                "those of the data.",
            ),
            "CATEGORIES_PATH": Key(
                "",
                'JSON file {"category": ["class", …]}: a confusion matrix for each category as '
                "well.",
                only_if=_ON | {"TENSORBOARD.CONFUSION_MATRIX.ENABLE": True},
            ),
            "PREDICTIONS_PATH": Key(
                "",
                "File of saved scores and labels (TEST.SAVE_RESULTS_PATH, or scores.npz of a test) "
                "whose confusion matrix and histograms are drawn after the run.",
                only_if=_ON,
            ),
        },
        affects_result=False,
    )
)

CONFUSION_MATRIX = register_section(
    Section(
        "TENSORBOARD.CONFUSION_MATRIX",
        "TensorBoard: confusion matrix of every validation and test (Matplotlib)",
        {
            "ENABLE": Key(False, "Draw the confusion matrix of every validation and test."),
            "FIGSIZE": _size("the picture"),
            "SUBSET_PATH": Key("", _SUBSET.format("which get a matrix of their own", "none")),
        },
        affects_result=False,
        only_if=_ON | {"TENSORBOARD.CONFUSION_MATRIX.ENABLE": True},
    )
)

HISTOGRAM = register_section(
    Section(
        "TENSORBOARD.HISTOGRAM",
        "TensorBoard: for each class, the classes that were predicted most (Matplotlib)",
        {
            "ENABLE": Key(False, "Draw a histogram for each class, at every validation and test."),
            "FIGSIZE": _size("a picture"),
            "SUBSET_PATH": Key("", _SUBSET.format("which get a histogram", "all")),
            "TOPK": Key(10, "Predicted classes that are shown of each class.", ge=1),
        },
        affects_result=False,
        only_if=_ON | {"TENSORBOARD.HISTOGRAM.ENABLE": True},
    )
)

MODEL_VIS = register_section(
    Section(
        "TENSORBOARD.MODEL_VIS",
        "TensorBoard: weights, feature maps and Grad-CAM of the videos of the test, after the run",
        {
            "ENABLE": Key(
                False, "Show the test videos, with weights and feature maps as chosen below."
            ),
            "MODEL_WEIGHTS": Key(False, "Show the weights of the layers of LAYER_LIST."),
            "ACTIVATIONS": Key(
                False, "Show the feature maps of the layers of LAYER_LIST for each video."
            ),
            "INPUT_VIDEO": Key(False, "Show the clips that the network receives."),
            "LAYER_LIST": Key(
                [],
                "Names of layers (/ or . between their parts). A name may be followed by indices "
                "of its feature map, as in 's5/pathway0_res2 0,1;3,4'.",
                item=str,
            ),
            "TOPK_PREDS": Key(1, "Predictions that are written on a clip.", ge=1),
            "COLORMAP": Key("Pastel2", "Matplotlib's colours of the written predictions."),
        },
        affects_result=False,
        only_if=_ON | {"TENSORBOARD.MODEL_VIS.ENABLE": True},
    )
)

GRAD_CAM = register_section(
    Section(
        "TENSORBOARD.MODEL_VIS.GRAD_CAM",
        "TensorBoard: what the network looks at, drawn over the clips",
        {
            "ENABLE": Key(True, "Draw what the network looks at over the clips of MODEL_VIS."),
            "LAYER_LIST": Key(
                [],
                "Convolutional layers of Grad-CAM, one for each pathway; empty: attention where "
                "the network has it, else Grad-CAM of its last feature map.",
                item=str,
            ),
            "USE_TRUE_LABEL": Key(False, "Explain the true class, not the predicted one."),
            "COLORMAP": Key("viridis", "Colour map of what the network looks at."),
        },
        affects_result=False,
        only_if=_ON
        | {"TENSORBOARD.MODEL_VIS.ENABLE": True, "TENSORBOARD.MODEL_VIS.GRAD_CAM.ENABLE": True},
    )
)

WRONG_PRED_VIS = register_section(
    Section(
        "TENSORBOARD.WRONG_PRED_VIS",
        "TensorBoard: the videos of the test list that are classified wrongly, after the run",
        {
            "ENABLE": Key(False, "Show the test videos that are classified wrongly."),
            "TAG": Key(
                "Incorrectly classified videos.", "Heading of the wrong videos in TensorBoard."
            ),
            "SUBSET_PATH": Key("", _SUBSET.format("whose videos are shown", "all")),
        },
        affects_result=False,
        only_if=_ON | {"TENSORBOARD.WRONG_PRED_VIS.ENABLE": True},
    )
)

REPORT = register_section(
    Section(
        "REPORT",
        "The page of a run, report.html (docs/report.md)",
        {
            "ENABLE": Key(True, "Write the page into OUTPUT_DIR after every run."),
            "VIDEOS": Key(48, "Most videos that are shown; 0: none.", ge=0),
            "MEGABYTES": Key(6.0, "Most megabytes of all their pictures.", ge=0.0),
            "SECONDS": Key(60.0, "Most seconds for reading videos.", ge=0.0),
        },
        affects_result=False,
    )
)
