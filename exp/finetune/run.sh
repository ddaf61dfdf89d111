#!/usr/bin/env bash
# Fine-tuning on videos of your own, from trained weights: configs/finetune/<MODEL>.yaml.
#
#   WEIGHTS=uniformer_small_k400_16x4.pth DATA=videos bash exp/finetune/run.sh
#   MODEL=mvitv2_s WEIGHTS=mvit.pyth DATA=lists/mine bash exp/finetune/run.sh SOLVER.MAX_EPOCH 20
#
#   DATA     a folder of class folders, of which lists are made, or the folder of lists
#            (train.csv val.csv test.csv classes.txt config.yaml, as tools/make_lists.py makes them)
#   WEIGHTS  file of weights; without it, those that the configuration names, in pretrained/
#   MODEL    uniformer_s (default) uniformer_b uniformer_s_stfm timesformer timesformer_stfm
#            mvitv2_s mvitv2_b mvit_b stam tsn resnet3d clip, or a configuration file
#   LISTS    where lists are made (output/finetune_<MODEL>/lists)
#
# and OUTPUT_DIR (output/finetune_<MODEL>); KEY VALUE words and options of tools/run_net.py follow.
. "$(dirname "${BASH_SOURCE[0]}")/../_common.sh"
. "$ROOT/exp/_finetune.sh"
finetune_net "$@"
