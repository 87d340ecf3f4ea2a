"""Weights of networks that nobody has trained."""

import torch


def awake(model):
    """Give weights to layers that begin at zero: what is zero hides mistakes."""
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(0, 0.05)
    return model.eval()
