"""MODEL: keys that every model reads; a model's own section stands in the model's file."""

from slowfast.config.schema import Key, Section, register_section
from slowfast.config.sections import clip

MODEL = register_section(
    Section(
        "MODEL",
        "The network",
        {
            "MODEL_NAME": Key("Uniformer", "Model, by its registered name."),
            "ARCH": Key(
                "uniformer",
                "CLIP: vitb32, vitb16, vitl14, or custom (sizes of the original weights or of the "
                "section CLIP); otherwise kept for old files, MODEL_NAME decides.",
            ),
            "NUM_CLASSES": Key(400, "Outputs of the network.", ge=1),
            "LOSS_FUNC": Key(
                "cross_entropy",
                "Training loss; every one takes labels, and mixed targets of MIXUP.",
            ),
            "FOCAL_GAMMA": Key(
                2.0, "Exponent of the loss focal; 0 makes it cross entropy.", ge=0.0
            ),
            "LOSS_CLASS_WEIGHTS": Key(
                [], "Factor per class on the loss, in label order; empty: no weights.", item=float
            ),
            "LABEL_SMOOTHING": Key(0.0, "Label smoothing without mixup.", ge=0.0, le=1.0),
            "HEAD_ACT": Key(
                "softmax",
                "Applied to the outputs before the views of a video are merged.",
                choices=("softmax", "sigmoid", "none"),
            ),
            "DROPOUT_RATE": Key(0.5, "Dropout before the head, for models without their own key."),
            "USE_CHECKPOINT": Key(
                False, "Recompute activations of the first CHECKPOINT_NUM blocks of each stage."
            ),
            "CHECKPOINT_NUM": Key([0, 0, 0, 0], "Blocks a stage that are recomputed.", item=int),
            "ACT_CHECKPOINT": Key(False, "Recompute activations of all blocks (less memory)."),
            "FINETUNNING": Key(
                False,
                "Train only parameters whose names hold stfm, normF, blocks40 or head "
                "(spelt as in STFM; MODEL.FINETUNING means the same).",
            ),
            "FROZEN_BN": Key(False, "Keep batch normalisation in evaluation mode."),
            "PRETRAINED_DIR": Key(
                "pretrained", "Folder of released weights named by recipes.", affects_result=False
            ),
        }
        | clip.MODEL_KEYS,
    )
)
