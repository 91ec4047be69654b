"""Maps of whole scenes: overlapping windows, blended at the seams, streamed from top to bottom."""

from qhybrid.inference.map_writing import probabilities_path, write_map
from qhybrid.inference.scene import ProbabilityBlock, iterate_probabilities, predict_scene
from qhybrid.inference.scene_model import SceneModel, read_as

__all__ = [
    "ProbabilityBlock",
    "SceneModel",
    "iterate_probabilities",
    "predict_scene",
    "probabilities_path",
    "read_as",
    "write_map",
]
