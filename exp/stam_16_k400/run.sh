#!/usr/bin/env bash
# STAM-16, Kinetics-400, 16 frames over the whole video: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/stam_16_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
