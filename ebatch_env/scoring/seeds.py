"""Seeds of episodes. Training, evaluation, tuning and validation never play the same episode.

Episode i of anything that starts at seed s is drawn with seed s + i. The four uses start at least a million apart.
"""

from __future__ import annotations

TRAINING_SEED = 0
EVALUATION_SEED = 1_000_000
TUNING_SEED = 2_000_000
VALIDATION_SEED = 3_000_000  # which models and agents are kept, and which tuned baseline is the best
SEEDS_PER_USE = 1_000_000  # the most episodes that one use plays
