"""Tables about mixing, losses, metrics, optimisation, checkpoints and log lines."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from slowfast.analysis.parity.tables import Row, as_tensor, table
from slowfast.config.defaults import get_cfg
from slowfast.config.load import derive
from slowfast.engine import checkpoint, losses, optim, precise_bn
from slowfast.engine.meters import EpochMeter
from slowfast.engine.schedule import is_due, learning_rate
from slowfast.layers.sub_norm import aggregate_statistics, with_sub_norm
from slowfast.metrics.average_precision import mean_average_precision
from slowfast.metrics.topk import topk_accuracies, topk_errors, unmix
from slowfast.metrics.views import VideoScores, merge_views
from slowfast.models.spec import ModelSpec
from slowfast.models.vit import layer_of_block
from slowfast.models.weights.convert import fit_tensor
from slowfast.models.weights.read import clear_names
from slowfast.models.weights.sources import registered_resizers
from slowfast.video import mixup

# -- mixing, losses, metrics -----------------------------------------------------------------


@table("mixup_target")
def _mixup_target(row: Row) -> list[tuple[Any, Any]]:
    labels = torch.tensor(row["target"])
    ours = mixup.mix_targets(labels, row["num_classes"], row["lam"], row["smoothing"])
    return [(ours.tolist(), row["out"])]


@table("mixup_seeded")
def _mixup_seeded(row: Row) -> list[tuple[Any, Any]]:
    box, lam, pairs = None, row["lam"], []
    if row["use_cutmix"]:
        top, bottom, left, right = box = tuple(row["yl_yh_xl_xh"])
        height, width = np.shape(row["x"])[-2:]
        # For a box that the frame does not cut off, lam follows from its centre and the draw.
        centre = ((top + bottom) // 2, (left + right) // 2)
        our_box, area_lam = mixup.cutmix_box(height, width, row["lam_drawn"], *centre)
        inside = top > 0 and left > 0 and bottom < height and right < width
        pairs += [(list(our_box), list(box)), (area_lam, lam)] if inside else []
        pairs += [(1 - (bottom - top) * (right - left) / (height * width), lam)]
    ours = mixup.apply_mix(as_tensor(row["x"]), mixup.Mix(lam, box))
    labels = torch.tensor(row["labels"])
    target = mixup.mix_targets(labels, row["num_classes"], lam, row["smoothing"])
    return [*pairs, (ours.tolist(), row["out"]), (target.tolist(), row["target"])]


@table("mixup_train_error")
def _mixup_error(row: Row) -> list[tuple[Any, Any]]:
    scores, labels = unmix(as_tensor(row["logits"]), as_tensor(row["target"]))
    ours = topk_errors(scores, labels, (1, 5))
    return [(ours, [row["top1_err"], row["top5_err"]])]


def _loss(name: str, classes: int, smoothing: float = 0.0) -> losses.Loss:
    return losses.LOSS_REGISTRY.get(name)(classes, smoothing)


@table("losses")
def _losses(row: Row) -> list[tuple[Any, Any]]:
    logits, hard = as_tensor(row["logits"]), torch.tensor(row["hard_target"])
    classes = logits.shape[1]
    soft = _loss("soft_cross_entropy", classes)(logits, as_tensor(row["soft_target"]))
    plain = _loss("cross_entropy", classes)(logits, hard)
    return [(soft.item(), row["soft_cross_entropy"]), (plain.item(), row["cross_entropy"])]


@table("losses_full")
def _losses_full(row: Row) -> list[tuple[Any, Any]]:
    classes = len(row["logits"][0])
    hard, soft = torch.tensor(row["hard"]), as_tensor(row["soft"])
    kinds = {
        "cross_entropy": (_loss("cross_entropy", classes), hard),
        "soft_cross_entropy": (_loss("soft_cross_entropy", classes), soft),
        "soft_cross_entropy_target_times_2": (_loss("soft_cross_entropy", classes), 2 * soft),
        "bce_logit": (_loss("bce_logit", classes), as_tensor(row["multi"])),
    }
    pairs = []
    for name, (loss, target) in kinds.items():
        logits = as_tensor(row["logits"]).requires_grad_()
        value = loss(logits, target)
        value.backward()
        pairs += [(value.item(), row[f"{name}:mean"]), (logits.grad.tolist(), row[f"{name}:grad"])]
    logits = as_tensor(row["logits"])
    per_item = losses.soft_cross_entropy(logits, soft)
    smooth = _loss("cross_entropy", classes, 0.1)(logits, hard)
    # The same number: the binary cross entropy of sigmoid(logits), computed from the logits.
    bce = _loss("bce_logit", classes)(logits, as_tensor(row["multi"]))
    return [
        *pairs,
        (per_item.tolist(), row["soft_cross_entropy:none"]),
        (smooth.item(), row["label_smoothing_0.1:mean"]),
        (bce.item(), row["bce_of_sigmoid:mean"]),
    ]


@table("topk")
def _topk(row: Row) -> list[tuple[Any, Any]]:
    logits, labels = as_tensor(row["logits"]), torch.tensor(row["labels"])
    return [
        (topk_errors(logits, labels, row["ks"]), row["errors"]),
        (topk_accuracies(logits, labels, row["ks"]), row["accuracies"]),
    ]


@table("multi_view")
def _multi_view(row: Row) -> list[tuple[Any, Any]]:
    scores = as_tensor(row["scores"]).unflatten(0, (-1, row["views"]))
    labels = torch.tensor(row["labels"])
    pairs = []
    for method in ("sum", "max"):
        merged = merge_views(scores, method)
        pairs.append((merged.tolist(), row[method]))
        for k in (1, 2):
            ours = topk_accuracies(merged, labels, (k,))[0]
            pairs.append((ours, row[f"{method}_top{k}"]))
    return pairs


@table("view_merge")
def _view_merge(row: Row) -> list[tuple[Any, Any]]:
    merged = VideoScores(row["method"])
    scores = as_tensor(row["scores"])
    for item in row["item_order"]:
        video = item // row["views"]
        merged.add(video, row["labels"][video], scores[item : item + 1])
    order, ours, _ = merged.tensors()
    top1, top5 = (f"{value:.2f}" for value in merged.accuracies((1, 5)))
    return [
        (ours.tolist(), row["merged"]),
        ([merged.views[i] for i in order], row["views_counted"]),
        ([top1, top5], [row["top1_acc"], row["top5_acc"]]),
    ]


@table("mean_average_precision")
def _map(row: Row) -> list[tuple[Any, Any]]:
    ours = mean_average_precision(np.array(row["preds"]), np.array(row["labels"]))
    return [(ours, row["map"])]


# -- optimisation ----------------------------------------------------------------------------


def _solver(values: Row) -> SimpleNamespace:
    return SimpleNamespace(**{**get_cfg().SOLVER, **values})


@table("learning_rate")
@table("learning_rate_restart")
def _learning_rate(row: Row) -> list[tuple[Any, Any]]:
    solver = _solver(row["solver"])
    return [([learning_rate(solver, e) for e in row["epochs"]], row["lr"])]


@table("learning_rate_fine")
def _learning_rate_fine(row: Row) -> list[tuple[Any, Any]]:
    solver, steps = _solver(row["solver"]), row["iterations_per_epoch"]
    ours = [learning_rate(solver, e + i / steps) for e in row["epochs"] for i in range(steps)]
    return [(ours, row["lr"])]


@table("learning_rate_shards")
def _learning_rate_shards(row: Row) -> list[tuple[Any, Any]]:
    cfg = get_cfg()
    names = {
        "BASE_LR": "base_lr",
        "WARMUP_START_LR": "warmup_start_lr",
        "COSINE_END_LR": "cosine_end_lr",
    }
    cfg.NUM_SHARDS, cfg.SOLVER.BASE_LR_SCALE_NUM_SHARDS = row["num_shards"], True
    for name, key in names.items():
        cfg.SOLVER[name] = row[key]
    derive(cfg)
    return [([cfg.SOLVER[name] for name in names], row["out"])]


@table("epoch_events")
def _epoch_events(row: Row) -> list[tuple[Any, Any]]:
    epochs = range(row["max_epoch"])
    saved = [e for e in epochs if is_due(e, row["checkpoint_period"], row["max_epoch"])]
    evaluated = [e for e in epochs if is_due(e, row["eval_period"], row["max_epoch"])]
    files = [str(checkpoint.checkpoint_path("OUT", e + 1)) for e in saved]
    return [
        (saved, row["checkpoint_epochs"]),
        (evaluated, row["eval_epochs"]),
        (files, row["files"]),
    ]


@table("parameter_groups")
@table("parameter_groups_forks")
def _parameter_groups(row: Row) -> list[tuple[Any, Any]]:
    rule = optim.GroupRule(
        weight_decay=row["weight_decay"],
        bn_weight_decay=row["bn_weight_decay"],
        # The forks compare module names, so that no name ever matches.
        exempt=frozenset(row["no_weight_decay"] if row["rule"] == "slowfast" else ()),
        zero_1d=row["zero_wd_1d_param"],
        layer_scales=_layer_scales(row) if row["layer_decay"] < 1.0 else None,
    )
    parameters, in_bn = {}, set()
    for name, facts in row["parameters"].items():
        parameters[name] = nn.Parameter(
            torch.zeros(facts["shape"]), requires_grad=facts["requires_grad"]
        )
        if facts["in_batchnorm"]:
            in_bn.add(name)
    groups = optim.parameter_groups(parameters, in_bn, rule)
    ours = {
        name: {"weight_decay": group["weight_decay"], "lr_scale": group["lr_scale"]}
        for group in groups
        for name in group["names"]
    }
    return [(ours, row["out"])]


def _layer_scales(row: Row) -> dict[str, float]:
    """Layer decay of a transformer of ``depth`` blocks with the parameters of a row."""
    network = SimpleNamespace(
        blocks=range(row["depth"]),
        spec=ModelSpec(layer_of=layer_of_block),
        named_parameters=lambda: row["parameters"].items(),
    )
    return optim.layer_scales(network, row["layer_decay"])


@table("optimizer_steps")
def _optimizer_steps(row: Row) -> list[tuple[Any, Any]]:
    module = nn.Module()
    module.weight, module.bias = (nn.Parameter(as_tensor(row[k])) for k in ("weight", "bias"))
    rule = optim.GroupRule(row["weight_decay"], 0.0, zero_1d=row["zero_wd_1d_param"])
    groups = optim.parameter_groups(module.named_parameters(), set(), rule)
    for group in groups:
        group.pop("names")
    solver = SimpleNamespace(
        BASE_LR=row["lrs"][0],
        MOMENTUM=row["momentum"],
        DAMPENING=row["dampening"],
        NESTEROV=row["nesterov"],
        BETAS=row["betas"],
    )
    optimizer = optim.OPTIMIZER_REGISTRY.get(row["method"])(groups, solver)
    pairs = []
    for lr, grads, norm, after in zip(row["lrs"], row["grads"], row["norms"], row["after"]):
        optim.set_learning_rate(optimizer, lr)
        for name, parameter in module.named_parameters():
            parameter.grad = as_tensor(grads[name])
        limit = row["clip_l2norm"] or math.inf
        ours = torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
        optimizer.step()
        pairs.append((float(ours), norm))
        pairs += [(p.tolist(), after[name]) for name, p in module.named_parameters()]
    return pairs


@table("precise_batchnorm")
def _precise_batchnorm(row: Row) -> list[tuple[Any, Any]]:
    batches = [as_tensor(batch) for batch in row["inputs"]]
    layer = nn.BatchNorm3d(batches[0].shape[1])
    network = nn.Sequential(layer)
    inputs = [(batch, True) for batch in batches]
    precise_bn.update_statistics(network, nn.Module.__call__, inputs, len(inputs))
    return [
        (layer.running_mean.tolist(), row["running_mean"]),
        (layer.running_var.tolist(), row["running_var"]),
    ]


@table("sub_batchnorm")
def _sub_batchnorm(row: Row) -> list[tuple[Any, Any]]:
    network = with_sub_norm(nn.Sequential(nn.BatchNorm3d(row["channels"])), row["num_splits"])
    outputs = [network(as_tensor(batch)) for batch in row["inputs"]]
    aggregate_statistics(network)
    layer, splits = network[0], row["split_running"]
    means = [output.flatten(1).mean(1).tolist() for output in outputs]
    return [
        (means, row["train_output_mean_per_sample"]),
        (layer.split_bn.running_mean.tolist(), splits["mean"]),
        (layer.split_bn.running_var.tolist(), splits["var"]),
        (layer.bn.running_mean.tolist(), row["running_mean"]),
        (layer.bn.running_var.tolist(), row["running_var"]),
    ]


# -- files -----------------------------------------------------------------------------------


@table("weight_conversion")
def _weight_conversion(row: Row) -> list[tuple[Any, Any]]:
    image_init = row["kind"].startswith("image_init")
    ours = fit_tensor(
        row["name"],
        as_tensor(row["given"]),
        row["want_shape"],
        resizers=registered_resizers(),
        image_init=image_init,
    )
    # The published code keeps the network's own head if the size differs; we return None for it.
    expected = None if row["kind"] == "head" else row["out"]
    return [(None if ours is None else ours.tolist(), expected)]


@table("clear_names")
def _clear_names(row: Row) -> list[tuple[Any, Any]]:
    cleared = clear_names(row["keys"], row["clear_name_pattern"])
    return [(list(cleared.values()), row["out"])]


@table("last_checkpoint")
def _last_checkpoint(row: Row) -> list[tuple[Any, Any]]:
    names = checkpoint.sorted_checkpoints(row["files"], row["task"])
    return [(names[0] if names else None, row["last"])]


@table("log_lines")
def _log_lines(row: Row) -> list[tuple[Any, Any]]:
    ours = []
    best = [math.inf, math.inf]
    for kind in ("train", "val"):
        meter = EpochMeter(kind, 0, row["max_epoch"], row["iterations"], row["log_period"])
        for number, values in enumerate(row["steps"]):
            step = dict(zip(row["step_fields"], values))
            size = step.pop("batch_size")
            errors = {k: step[k] for k in ("top1_err", "top5_err")}
            last = {k: step[k] for k in ("lr", "grad_norm")}
            if kind == "train":
                meter.add(size, errors | {"loss": step["loss"]}, last)
            else:
                meter.add(size, errors)
            if meter.is_due(number):
                ours.append(meter.step_stats(number, 0.0, 0.0))
        line = meter.epoch_stats(0.0)
        if kind == "val":
            best = [min(b, line[k]) for b, k in zip(best, ("top1_err", "top5_err"))]
            line |= dict(zip(("min_top1_err", "min_top5_err"), best))
        ours.append(line)
    timing = ("eta", "gpu_mem", "RAM")
    ours = [{k: v for k, v in line.items() if k not in timing} for line in ours]
    return [(ours, row["lines"])]
