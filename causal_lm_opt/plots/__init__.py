"""Plots: axes in, axes out.

Every function takes figures (arrays, tables of :mod:`causal_lm_opt.diagnostics`, estimates), draws
on ``ax`` or on a new figure, and returns the axes. No global setting of matplotlib is changed.
Backgrounds are transparent; ``theme="dark"`` gives light ink. Verdicts differ by marker as well as
by colour, and texts from data are never read as mathematics or TeX.

>>> from causal_lm_opt import plots
>>> ax = plots.weights_plot([0.1, -0.2, 0.3, 0.0], ax=plots.new_axes())
>>> ax.get_xlabel()
'share of rows, heaviest first'
"""

from __future__ import annotations

from causal_lm_opt.plots._calibration import calibration_plot
from causal_lm_opt.plots._confounder import confounder_plot
from causal_lm_opt.plots._confounding import confounding_plot, training_paths_plot
from causal_lm_opt.plots._forest import contrast_plot, forest_height, forest_plot
from causal_lm_opt.plots._love import love_height, love_plot
from causal_lm_opt.plots._preferences import preference_plot
from causal_lm_opt.plots._sensitivity import sensitivity_plot
from causal_lm_opt.plots._study import plot_study
from causal_lm_opt.plots._svg import to_svg
from causal_lm_opt.plots._theme import DARK, LIGHT, MARKERS, Axes, Theme, new_axes, new_grid, themed
from causal_lm_opt.plots._tilt import tilt_plot
from causal_lm_opt.plots._training import training_plot
from causal_lm_opt.plots._weights import overlap_plot, weights_plot

__all__ = [
    "DARK",
    "LIGHT",
    "MARKERS",
    "Axes",
    "Theme",
    "calibration_plot",
    "confounder_plot",
    "confounding_plot",
    "contrast_plot",
    "forest_height",
    "forest_plot",
    "love_height",
    "love_plot",
    "new_axes",
    "new_grid",
    "overlap_plot",
    "plot_study",
    "preference_plot",
    "sensitivity_plot",
    "themed",
    "tilt_plot",
    "to_svg",
    "training_paths_plot",
    "training_plot",
    "weights_plot",
]
