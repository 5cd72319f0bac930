"""OpenAI's Models endpoints: what the pools serve, running or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from llm_fleet.gateway.completions import Model
from llm_fleet.gateway.errors import ApiError
from llm_fleet.gateway.http import Request, Response, Route


class ModelsApi:
    """The endpoints. `created` is the Unix time that models are said to be of: the gateway's start."""

    def __init__(self, models: Mapping[str, Model], created: int) -> None:
        self._models = models
        self._created = created

    def routes(self) -> list[Route]:
        """Where they are. A model's name may hold slashes."""
        return [Route("GET", "/v1/models", self.list), Route("GET", "/v1/models/{model*}", self.retrieve)]

    async def list(self, request: Request) -> Response:
        """All models."""
        found = [self._object(model) for model in self._models.values()]
        return Response(200, orjson.dumps({"object": "list", "data": found}))

    async def retrieve(self, request: Request) -> Response:
        """One model."""
        name = request.path_parameters["model"]
        model = self._models.get(name)
        if model is None:
            message = f"The model {name[:200]!r} does not exist; there is: {', '.join(sorted(self._models))}."
            raise ApiError(404, message, "model_not_found", "model")
        return Response(200, orjson.dumps(self._object(model)))

    def _object(self, model: Model) -> dict[str, Any]:
        facts = {"id": model.name, "object": "model", "created": self._created, "owned_by": "llm-fleet"}
        return {**facts, "max_model_len": model.longest_tokens}
