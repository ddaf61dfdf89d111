#!/usr/bin/env bash
# TimeSformer-HR, Kinetics-400, 16 frames x 16 of 448 pixels: training, then test.
# DATA_DIR=lists DATA_PREFIX=videos bash exp/timesformer_hr16x16_k400/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
