#!/usr/bin/env bash
# UniFormer-S + STFM, Kinetics-400, 8 frames x 8: training, from pretrained/uniformer_small_in1k.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s8x8_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
