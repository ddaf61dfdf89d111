#!/usr/bin/env bash
# UniFormer-S + STFM, Something-Something v2, 16 frames, from Kinetics-400 weights: training, from pretrained/uniformer_small_k400_16x4.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s16_sthv2_prek400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
