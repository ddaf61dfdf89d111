#!/usr/bin/env bash
# UniFormer-S + STFM, Something-Something v1, 32 frames, from Kinetics-600 weights: training, from pretrained/uniformer_small_k600_16x4.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_s32_sthv1_prek600/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
