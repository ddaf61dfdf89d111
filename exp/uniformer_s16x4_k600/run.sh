#!/usr/bin/env bash
# UniFormer-S + STFM, Kinetics-600, 16 frames x 4: training, from pretrained/uniformer_small_in1k.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s16x4_k600/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
