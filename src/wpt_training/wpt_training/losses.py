"""Losses of world model, teacher and student, one function each, numbered as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Of CLASSES: free, vehicle (9 m²), person (0.5), cycle (1.2), movable, which stands still.
CELL_WEIGHTS = (1.0, 4.0, 20.0, 20.0, 8.0)
FLOW_WEIGHTS = (0.0, 1.0, 20.0, 10.0, 1.0)


def plan_loss(trajectories: Tensor, expert: Tensor, valid: Tensor) -> Tensor:
    """Mean L1 distance to the expert over recorded steps: (…, 6, 2), (…, 6, 2), (…, 6) -> ()."""
    weight = valid.to(trajectories.dtype)
    distance = (trajectories - expert).abs().sum(-1)
    return (distance * weight).sum() / weight.sum().clamp(min=1.0)


def imitation_reward_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Eq. 12: cross-entropy of imitation logits (B, M) with Eq. 11's target (B, M)."""
    return -(target * predicted.log_softmax(dim=1)).sum(1).mean()


def simulation_reward_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Eq. 13: binary cross-entropy of logits (B, M, R) with targets (B, M, R)."""
    return F.binary_cross_entropy_with_logits(predicted, target)


def policy_distillation_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 15: squared L2 between plan queries (B, C), a mean over channels."""
    return F.mse_loss(student, teacher.detach())


def reward_distillation_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 16: how far the final reward (B,) of the student's plan is from that of the teacher's best."""
    return (teacher.detach() - student).abs().mean()


def occupancy_loss(logits: Tensor, target: Tensor, valid: Tensor, occupied_weight: float) -> Tensor:
    """Cross-entropy: logits (B, classes, …), target (B, …) of class indices, valid (B,); cells that are
    not free count `occupied_weight` times."""
    weight = logits.new_full((logits.shape[1],), occupied_weight)
    weight[0] = 1.0
    loss = F.cross_entropy(logits, target, weight=weight, reduction="none")
    share = valid.to(loss.dtype).view(-1, *[1] * (loss.dim() - 1))
    return (loss * share).sum() / (share.expand_as(loss) * weight[target]).sum().clamp(min=1.0)


def scaling_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Semantic and geometric scaling (MonoScene, Cao and de Charette 2022): cross-entropies of
    precision, recall and specificity of each class that is there, and of occupied against free.
    probabilities (P, classes), target (P,)."""
    parts = []
    for index in range(probabilities.shape[1]):
        true = target == index
        if bool(true.any()):
            parts.append(_affinity(probabilities[:, index], true))
    semantic = torch.stack(parts).mean()
    occupied = target != 0
    if not bool(occupied.any()):
        return semantic
    return semantic + _affinity(1.0 - probabilities[:, 0], occupied)


def _affinity(probability: Tensor, true: Tensor) -> Tensor:
    known = true.to(probability.dtype)
    both = (probability * known).sum()
    eps = 1e-5
    precision = both / (probability.sum() + eps)
    recall = both / (known.sum() + eps)
    specificity = ((1 - probability) * (1 - known)).sum() / ((1 - known).sum() + eps)
    return -(precision + eps).log() - (recall + eps).log() - (specificity + eps).log()


def lovasz_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Lovász-softmax (Berman et al. 2018) over the classes that are there: probabilities (P, classes),
    target (P,)."""
    losses = []
    for index in range(probabilities.shape[1]):
        true = (target == index).to(probabilities.dtype)
        if not bool(true.any()):
            continue
        errors, order = (true - probabilities[:, index]).abs().sort(descending=True)
        losses.append((errors * _lovasz_gradient(true[order])).sum())
    return torch.stack(losses).mean()


def _lovasz_gradient(true: Tensor) -> Tensor:
    """How the Jaccard index falls as errors are taken in, greatest first."""
    total = true.sum()
    intersection = total - true.cumsum(0)
    union = total + (1 - true).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.diff(jaccard, prepend=jaccard.new_zeros(1))


def flow_loss(flow: Tensor, target: Tensor, occupied: Tensor) -> Tensor:
    """Mean L1 of the backward flow over occupied cells: flow, target (B, 2, X, Y), occupied (B, X, Y), yes or
    no or how much a cell counts."""
    weight = occupied.to(flow.dtype)
    return ((flow - target).abs().sum(1) * weight).sum() / weight.sum().clamp(min=1.0)


def present_loss(logits: Tensor, flow: Tensor, classes: Tensor, target: Tensor, flow_share: float) -> Tensor:
    """Cross-entropy of logits (B, classes, X, Y) with the classes (B, X, Y), and `flow_share` times the loss
    of the flow against its target (B, 2, X, Y). Cells weigh about the inverse of what one of their class
    covers, so that everybody counts alike, not every square metre."""
    cell = torch.tensor(CELL_WEIGHTS, device=flow.device)
    moving = torch.tensor(FLOW_WEIGHTS, device=flow.device)[classes]
    return F.cross_entropy(logits, classes, cell) + flow_share * flow_loss(flow, target, moving)


def drivable_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of the drivable area: logits, target (B, X, Y)."""
    return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
