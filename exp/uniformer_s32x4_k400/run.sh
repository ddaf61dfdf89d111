#!/usr/bin/env bash
# UniFormer-S + STFM, Kinetics-400, 32 frames x 4: training, from pretrained/uniformer_small_in1k.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s32x4_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
