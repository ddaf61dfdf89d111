#!/usr/bin/env bash
# UniFormer-B + STFM, Something-Something v2, 32 frames, from Kinetics-600 weights: training, from pretrained/uniformer_base_k600_16x4.pth, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/uniformer_b32_sthv2_prek600/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
