#!/usr/bin/env bash
# STDD, ViT-B/16, Kinetics-400: training (pretrained/ViT-B-16.pt and text features), then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/stdd_vitb16_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
