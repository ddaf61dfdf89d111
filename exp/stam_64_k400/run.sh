#!/usr/bin/env bash
# STAM-64, Kinetics-400, 64 frames over the whole video: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/stam_64_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
