#!/usr/bin/env bash
# STAF, 3-D ResNet-50, SSv2 (CMN), 5-way 1-shot: training, then test.
# DATA_PREFIX=folder of <class>/<video> bash exp/staf_r3d50_ssv2_cmn_5w1s/run.sh [KEY VALUE …]
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
run_net config.yaml "$@"
