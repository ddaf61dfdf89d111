#!/usr/bin/env bash
# UniFormer-B + STFM, Something-Something v2, 32 frames, from Kinetics-400 weights: training, from pretrained/uniformer_base_k400_16x4.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_b32_sthv2_prek400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
