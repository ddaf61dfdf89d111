"""MODEL: keys that every model reads; a model's own section stands in the model's file."""

from slowfast.config.schema import Key, Section, register_section

_RESIDUAL = {"MODEL.MODEL_NAME": ("ResNet", "SlowFast", "X3D")}

MODEL = register_section(
    Section(
        "MODEL",
        "The network",
        {
            "MODEL_NAME": Key("Uniformer", "Name of the network."),
            "ARCH": Key(
                "uniformer",
                "Kind of ResNet: 2d, c2d, slow_c2d, i3d, slow_i3d or slow. Size of CLIP: vitb32, "
                "vitb16, vitl14, or custom (of the original weights or of the section CLIP). No "
                "effect on other networks, accepted for old files.",
            ),
            "NUM_CLASSES": Key(400, "Number of classes, the outputs of the network.", ge=1),
            "LOSS_FUNC": Key(
                "cross_entropy",
                "Training loss; every one takes labels, and mixed targets of MIXUP.",
            ),
            "FOCAL_GAMMA": Key(
                2.0,
                "Exponent of the loss focal; 0 makes it cross entropy.",
                ge=0.0,
                only_if={"MODEL.LOSS_FUNC": "focal"},
            ),
            "LOSS_CLASS_WEIGHTS": Key(
                [],
                "Factor per class on the loss, in label order; empty: no weights.",
                item=float,
                ge=0.0,
            ),
            "LABEL_SMOOTHING": Key(
                0.0,
                "Label smoothing of training without mixup.",
                ge=0.0,
                le=1.0,
                only_if={"MIXUP.ENABLE": False},
            ),
            "HEAD_ACT": Key(
                "softmax",
                "Activation of the outputs before the views of a video are merged.",
                choices=("softmax", "sigmoid", "none"),
            ),
            "DROPOUT_RATE": Key(
                0.5, "Dropout rate before the classifier, for networks without a key of their own."
            ),
            "DROPCONNECT_RATE": Key(
                0.0,
                "Share of the clips whose residual branch is left out in training: that of the "
                "last stage of X3D, less in the others.",
                ge=0.0,
                le=1.0,
                only_if={"MODEL.MODEL_NAME": "X3D"},
            ),
            "FC_INIT_STD": Key(
                0.01,
                "Deviation of the initial weights of the classifier of ResNet, SlowFast and X3D.",
                ge=0.0,
                only_if=_RESIDUAL,
            ),
            "DETACH_FINAL_FC": Key(
                False,
                "Train only the classifier of ResNet, SlowFast and X3D (linear evaluation).",
                only_if=_RESIDUAL,
            ),
            "USE_CHECKPOINT": Key(
                False,
                "Use activation checkpointing in the first MODEL.CHECKPOINT_NUM blocks "
                "of each stage.",
            ),
            "CHECKPOINT_NUM": Key(
                [0, 0, 0, 0],
                "Number of blocks per stage with activation checkpointing.",
                item=int,
                min_length=1,
                ge=0,
                only_if={"MODEL.USE_CHECKPOINT": True},
            ),
            "ACT_CHECKPOINT": Key(
                False, "Use activation checkpointing in all blocks: less memory, more time."
            ),
            "ACT_CHECKPOINT_KEEPS": Key(
                "nothing",
                "What checkpointed blocks keep for the backward pass. products: the results of "
                "matrix products, convolutions and attention, which are slow to compute again.",
                choices=("nothing", "products"),
                affects_result=False,
            ),
            "FINETUNNING": Key(
                False,
                "Train only parameters whose names contain stfm, normF, blocks40 or head "
                "(spelt as in "
                "STFM; MODEL.FINETUNING means the same).",
            ),
            "FROZEN_BN": Key(False, "Keep batch normalisation in evaluation mode."),
            "PRETRAINED_DIR": Key(
                "pretrained",
                "Folder of the released weights that recipes name.",
                affects_result=False,
            ),
        },
    )
)
