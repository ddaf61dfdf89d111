#!/usr/bin/env bash
# BN-Inception, multi-scale TRN head, 8 segments, Something-Something v2: training, then test.
# DATA_DIR=lists DATA_PREFIX=frames bash exp/something_bninception_trnmultiscale_8/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
