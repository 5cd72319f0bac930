"""The models that the kit knows: configs/models as frozen cards, and any Hugging Face config.json on disk.

card.py          the values
load.py          files -> ModelLibrary; a name -> card
hub_config.py    config.json -> card
"""

from llm_fleet.models.card import PRECISIONS, Checkpoint, ModelCard
from llm_fleet.models.load import ModelLibrary, ResolvedModel, load_models

__all__ = ["PRECISIONS", "Checkpoint", "ModelCard", "ModelLibrary", "ResolvedModel", "load_models"]
