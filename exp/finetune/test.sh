#!/usr/bin/env bash
# Test of a network that run.sh has fine-tuned, with the same variables; or of CHECKPOINT.
#
#   DATA=videos bash exp/finetune/test.sh
#   MODEL=mvitv2_s CHECKPOINT=mine.pyth DATA=lists/mine bash exp/finetune/test.sh
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
. "$ROOT/exp/_finetune.sh"
words=(TRAIN.ENABLE False)
if [ -n "${CHECKPOINT:-}" ]; then words+=(TEST.CHECKPOINT_FILE_PATH "$(from_caller "$CHECKPOINT")"); fi
finetune_net "${words[@]}" "$@"
