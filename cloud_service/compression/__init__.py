"""Making models: train, prune, distil, quantize, package. The one place that knows torch.

Reads as a line of stages (`pipeline.py`): data set → teacher → full model → edge model → graphs →
calibration → bundles. Serving never imports from here; the two meet through bundles.
"""
